"""The bodies of the test stage: evaluate a trained classifier, or compare frozen features."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vssl.data.dataset import ClipDataset
from vssl.engine.checkpoint import CHECKPOINT, load_checkpoint
from vssl.engine.cost import CostMeter
from vssl.engine.device import predict, to_device
from vssl.engine.loader import evaluation_batches
from vssl.protocol.evaluation import EvalResult
from vssl.protocol.finetune import Classifier
from vssl.protocol.neighbours import FeatureSet
from vssl.result import StageResult
from vssl.stage.callback import NeighbourSheet, Picture, StageCallback
from vssl.stage.choice import chosen
from vssl.stage.construct import Stage, check_labels
from vssl.stage.context import Context
from vssl.stage.features import FILE_NAME
from vssl.stage.provenance import provenance
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.stage.weights import read_arrays, write_arrays

ROWS, COLUMNS = 8, 5
"""Queries on a sheet, and the neighbours shown of each."""


def test_classifier(stage: Stage, context: Context, callback: StageCallback) -> StageResult:
    """Show several clips of every test video to the parent's classifier, and average what it says.

    The classifier computes in the precision in which it was trained. Writes `predictions.npz`.
    """
    meter = CostMeter(context.runtime.torch_device())
    callback.begin(0, 0.0, stage.clips)
    stage.source.prepare()
    assert stage.spec.parent is not None
    parent = Stage(stage.spec.parent, recipe=chosen(stage.spec.parent, context.store))
    assert stage.recipe.batch_size is not None
    classifier = to_device(_classifier(stage, parent, context.store), context.runtime).eval()
    loading = context.runtime.loading()
    with closing(evaluation_batches(stage.dataset, stage.recipe.batch_size, loading, meter)) as batches:
        logits_VKN, labels_V = predict(
            classifier.logits,
            batches,
            stage.dataset.augmentation.apply,
            context.runtime,
            parent.steps.training.precision,
            callback.advance,
        )
    check_labels(labels_V, logits_VKN.shape[2], stage.spec)
    names = list(stage.source.class_names)
    videos, clips, classes = logits_VKN.shape
    tested = {"test_videos": videos, "clips_per_video": clips, "classes": classes}
    found = stage.task.evaluate(logits_VKN, labels_V)
    _write(stage, context.store, "predictions.npz", found, labels_V=labels_V, class_names=names)
    return _result(stage, context, callback, meter, found, tested)


def compare_features(stage: Stage, context: Context, callback: StageCallback) -> StageResult:
    """Evaluate the queries by the gallery: the features of the two stages before.

    Writes `predictions.npz`, or `neighbours.npz` and shows a sheet of some queries where the protocol finds
    neighbours.
    """
    meter = CostMeter(context.runtime.torch_device())
    callback.begin(0, 0.0, 0)
    gallery_spec, queries_spec, _ = stage.spec.chain[-3:]
    queries, class_names = _read(queries_spec, context.store)
    gallery, _ = _read(gallery_spec, context.store)
    found = stage.task.evaluate(queries, gallery, len(class_names))
    shared = {"labels_V": queries.labels_V, "class_names": class_names}
    if "neighbours_VK" in found.arrays:
        _write(stage, context.store, "neighbours.npz", found, **shared, gallery_labels_G=gallery.labels_V)
        callback.show(_sheet(stage, found.arrays["neighbours_VK"], class_names))
    else:
        _write(stage, context.store, "predictions.npz", found, **shared)
    tested = {"data": dict(gallery_spec.recipe.data), "test_videos": len(queries.labels_V)}
    return _result(stage, context, callback, meter, found, tested)


def _result(
    stage: Stage,
    context: Context,
    callback: StageCallback,
    meter: CostMeter,
    found: EvalResult,
    tested: Mapping[str, Any],
) -> StageResult:
    """The result of a test: the protocol is what the stage before it noted, and how it was tested."""
    callback.log(found.metrics, 1)  # past the step 0 at which it begins: a killed one has no line twice
    assert stage.spec.parent is not None
    before = context.store.result(stage.spec.parent)
    own = {"test_data": dict(stage.recipe.data), **tested, **stage.task.facts()}
    if stage.recipe.augmentation is not None:
        own["test_crop"] = stage.augmentation.crop.place
    return StageResult(
        metrics=found.metrics,
        protocol={**(before.protocol if before else {}), **own},
        declared=[metric for metric in stage.task.metrics if metric.name in found.metrics],
        cost=replace(meter.read(), videos=tested["test_videos"], clips=stage.clips),
        provenance=provenance(context.runtime.device_in_words()),
    )


def _classifier(stage: Stage, parent: Stage, store: StageStore) -> Classifier:
    """The classifier that the parent stage has trained."""
    classifier = parent.task.objective(stage.backbone())
    assert isinstance(classifier, Classifier)
    checkpoint = load_checkpoint(store.folder(parent.spec) / CHECKPOINT)
    classifier.load_state_dict(checkpoint["objective"])
    return classifier


def _write(stage: Stage, store: StageStore, name: str, found: EvalResult, **others: object) -> None:
    write_arrays(store.folder(stage.spec) / name, {**found.arrays, **others})


def _read(spec: StageSpec, store: StageStore) -> tuple[FeatureSet, list[str]]:
    """Features and labels of a stage, and the names of the classes."""
    arrays = read_arrays(store.folder(spec) / FILE_NAME)
    features = FeatureSet(torch.from_numpy(arrays["features_VD"]), torch.from_numpy(arrays["labels_V"]))
    names: list[str] = arrays["class_names"].tolist()
    check_labels(features.labels_V, len(names), spec)
    return features, names


def _sheet(stage: Stage, neighbours_VK: Tensor, class_names: list[str]) -> NeighbourSheet:
    """Queries from all over the test videos, and their nearest neighbours."""
    gallery, queries = (Stage(spec).dataset for spec in stage.spec.chain[-3:-1])
    rows = []
    for query in np.unique(np.linspace(0, len(queries) - 1, ROWS).astype(int)).tolist():
        near = neighbours_VK[query, :COLUMNS].tolist()
        right = [gallery.videos[row].label == queries.videos[query].label for row in near]
        pictures = [_picture(gallery, row, class_names, ok) for row, ok in zip(near, right, strict=True)]
        rows.append([_picture(queries, query, class_names, None), *pictures])
    return NeighbourSheet(f"{stage.spec}: a query and its nearest training videos", rows)


def _picture(dataset: ClipDataset, row: int, class_names: list[str], right: bool | None) -> Picture:
    video = dataset.videos[row]
    frame_HWC = dataset.source.read(video, np.array([video.num_frames // 2]))[0]
    return Picture(frame_HWC, "" if video.label is None else class_names[video.label], right)
