"""The body of the test stage: how good is what was trained, or are the features."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from vssl.engine.checkpoint import CHECKPOINT, load_checkpoint
from vssl.engine.cost import CostMeter
from vssl.engine.device import predict, to_device
from vssl.engine.loader import evaluation_batches
from vssl.engine.loop import Callback
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.protocol.accuracy import accuracies, video_scores
from vssl.protocol.finetune import Classifier
from vssl.protocol.neighbours import Neighbours
from vssl.stage.compare import compare
from vssl.stage.parts import build_backbone, build_dataset, build_task, check_labels, labels, write_arrays
from vssl.stage.provenance import provenance
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.types import Task


def evaluate(spec: StageSpec, store: StageStore, runtime: Runtime, callback: Callback) -> dict[str, Any]:
    """Test the classifier before it, or compare the features of gallery and queries; return the result."""
    meter = CostMeter(runtime.torch_device())
    callback.begin(0, 0.0, spec.clips)
    task = build_task(spec)
    if isinstance(task, Neighbours):
        result = compare(spec, store, task)
    else:
        result = classify(spec, store, task, runtime, callback, meter)
    callback.log(result["metrics"], 0)
    return {
        "metrics": result["metrics"],
        "protocol": result["protocol"],
        "cost": {**asdict(meter.read()), "videos": result["videos"], "clips": spec.clips},
        "provenance": provenance(str(runtime.torch_device())),
    }


def classify(
    spec: StageSpec, store: StageStore, task: Task, runtime: Runtime, callback: Callback, cost: CostMeter
) -> dict[str, Any]:
    """Show several clips of every test video to the parent's classifier, and average what it says.

    The classifier computes in the precision in which it was trained. Writes `predictions.npz`; returns
    metrics, protocol and the number of videos.
    """
    if spec.parent is None:
        raise VsslError("test: needs a trained classifier before it; choose a protocol that trains one")
    dataset = build_dataset(spec, task)
    check_labels(labels(dataset), spec.recipe["task"]["num_classes"], spec)
    classifier = task.objective(build_backbone(spec))
    assert isinstance(classifier, Classifier)
    checkpoint = load_checkpoint(store.folder(spec.parent) / CHECKPOINT)
    classifier.load_state_dict(checkpoint["objective"])
    logits_VKN, labels_V = predict(
        to_device(classifier, runtime).eval().logits,
        evaluation_batches(dataset, spec.recipe["batch_size"], runtime.loading(), cost),
        dataset.augmentation.apply,
        runtime,
        spec.parent.recipe["training"]["precision"],
        callback.advance,
    )
    scores_VN = video_scores(logits_VKN, spec.recipe["average"])
    predictions = {"scores_VN": scores_VN, "labels_V": labels_V, "logits_VKN": logits_VKN}
    class_names = list(dataset.source.class_names)
    write_arrays(store.folder(spec) / "predictions.npz", {**predictions, "class_names": class_names})
    return {
        "metrics": accuracies(logits_VKN, scores_VN, labels_V),
        "protocol": _protocol(spec, store, logits_VKN),
        "videos": len(labels_V),
    }


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
