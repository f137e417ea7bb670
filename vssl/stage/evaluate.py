"""The body of the test stage: several clips of every video, averaged."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vssl.engine.checkpoint import load_checkpoint
from vssl.engine.loader import evaluation_batches
from vssl.engine.loop import Observer, Runtime
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.protocol.accuracy import accuracies
from vssl.protocol.finetune import Classifier
from vssl.stage.parts import build_backbone, build_dataset, build_task
from vssl.stage.provenance import provenance
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore


@torch.inference_mode()
def evaluate(spec: StageSpec, store: StageStore, runtime: Runtime, observer: Observer) -> dict[str, Any]:
    """Test the parent's classifier on all test videos, once; write `predictions.npz`; return the result."""
    if spec.parent is None:
        raise VsslError("test: needs a trained classifier before it; choose a protocol that trains one")
    started = time.monotonic()
    observer.begin(0, 0.0)
    task = build_task(spec)
    dataset = build_dataset(spec, task)
    device = runtime.torch_device()
    classifier = task.objective(build_backbone(spec))
    assert isinstance(classifier, Classifier)
    checkpoint = load_checkpoint(store.folder(spec.parent) / "checkpoint.pt")
    classifier.load_state_dict(checkpoint["objective"])
    classifier.to(device).eval()

    logits, labels = [], []
    batches = evaluation_batches(dataset, len(dataset), spec.recipe["batch_size"], runtime.loading())
    for host_batch in batches:
        batch = {name: value.to(device, non_blocking=True) for name, value in host_batch.items()}
        logits.append(classifier.logits(dataset.augmentation.apply(batch)).float().cpu())
        labels.append(host_batch["label"])
        observer.advance(logits[-1].shape[0] * logits[-1].shape[1])
    logits_VKN, labels_V = torch.cat(logits), torch.cat(labels)
    _write_predictions(spec, store, logits_VKN, labels_V)
    metrics = accuracies(logits_VKN, labels_V, spec.recipe["average"])
    observer.log(metrics, 0)
    return {
        "metrics": metrics,
        "protocol": _protocol(spec, store, logits_VKN),
        "cost": {"seconds": time.monotonic() - started, "videos": len(labels_V)},
        "provenance": provenance(str(device)),
    }


def _write_predictions(spec: StageSpec, store: StageStore, logits_VKN: Tensor, labels_V: Tensor) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, logits_VKN=logits_VKN.numpy(), labels_V=labels_V.numpy())
    write_atomically(store.folder(spec) / "predictions.npz", buffer.getvalue())


def _protocol(spec: StageSpec, store: StageStore, logits_VKN: Tensor) -> dict[str, Any]:
    """The classifier's own protocol, and how it was tested."""
    assert spec.parent is not None
    trained = store.result(spec.parent)
    videos, clips, classes = logits_VKN.shape
    return {
        **(trained["protocol"] if trained else {}),
        "test_data": dict(spec.recipe["data"]),
        "test_videos": videos,
        "clips_per_video": clips,
        "classes": classes,
        "average": spec.recipe["average"],
        "test_crop": "centre" if not spec.recipe["augmentation"]["random_crop"] else "random",
    }
