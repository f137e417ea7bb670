"""The body of the stages gallery and queries: every video becomes one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset
from vssl.engine.cost import CostMeter
from vssl.engine.device import predict, to_device
from vssl.engine.loader import evaluation_batches
from vssl.engine.loop import Callback
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.protocol.features import VideoFeatures
from vssl.protocol.neighbours import FeatureSet
from vssl.stage.build import build
from vssl.stage.parts import (
    build_backbone,
    build_dataset,
    load_backbone,
    num_parameters,
    start_in_words,
    starting_weights,
    write_arrays,
)
from vssl.stage.provenance import provenance
from vssl.stage.spec import StageSpec, class_name
from vssl.stage.store import StageStore
from vssl.types import Backbone, Batch

FILE_NAME = "features.npz"


def describe_videos(
    spec: StageSpec, store: StageStore, runtime: Runtime, callback: Callback
) -> dict[str, Any]:
    """Write the features of all videos of the stage, in their order, and return the result."""
    meter = CostMeter(runtime.torch_device())
    callback.begin(0, 0.0, spec.clips)
    features = build_features(spec)
    dataset = build_dataset(spec, features)
    backbone = build_backbone(spec)
    if weights := starting_weights(spec, store):
        load_backbone(backbone, weights)
    batches = evaluation_batches(dataset, spec.recipe["batch_size"], runtime.loading(), meter)
    described = describe(batches, dataset.augmentation, features, backbone, runtime, callback.advance)
    if not described.features_VD.isfinite().all():
        raise VsslError(f"{spec.name}: features are not finite numbers; look at the weights they come from")
    write_arrays(store.folder(spec) / FILE_NAME, to_arrays(described, dataset))
    return {
        "metrics": {},
        "protocol": {**protocol(spec, described, backbone), "start": start_in_words(spec)},
        "cost": {**asdict(meter.read()), "videos": len(dataset), "clips": spec.clips},
        "provenance": provenance(str(runtime.torch_device())),
    }


def build_features(spec: StageSpec) -> VideoFeatures:
    """What the stage makes of a video; checks its options."""
    features: VideoFeatures = build(spec.recipe["task"], "features")
    return features


def describe(
    batches: Iterable[Batch],
    augmentation: Augmentation,
    features: VideoFeatures,
    backbone: Backbone,
    runtime: Runtime,
    advance: Callable[[int], None],
) -> FeatureSet:
    """Features and labels of all videos, in order, computed in float32. `advance` is told of clips."""
    extract = partial(features.extract, to_device(backbone, runtime).eval())
    return FeatureSet(*predict(extract, batches, augmentation.apply, runtime, "float32", advance))


def to_arrays(described: FeatureSet, dataset: ClipDataset) -> dict[str, object]:
    """What is written: features_VD, labels_V (-1: none), names [V], class_names [N]."""
    return {
        **{name: tensor.numpy() for name, tensor in described._asdict().items()},
        "names": [video.name for video in dataset.videos],
        "class_names": list(dataset.source.class_names),
    }


def protocol(spec: StageSpec, described: FeatureSet, backbone: Backbone) -> dict[str, Any]:
    """What a reader has to know beside these features."""
    recipe = spec.recipe
    videos, dimension = described.features_VD.shape
    return {
        "backbone": class_name(recipe["backbone"]),
        "backbone_parameters": num_parameters(backbone),
        "trained": "nothing",
        "feature": recipe["task"]["feature"],
        "feature_dim": dimension,
        "clips_per_video": recipe["task"]["sampler"]["num_clips"],
        "test_crop": "random" if recipe["augmentation"]["random_crop"] else "centre",
        "data": dict(recipe["data"]),
        "videos": videos,
        "seed": recipe["seed"],
    }
