"""The body of the stages gallery and queries: every video becomes one vector."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset
from vssl.engine.cost import CostMeter
from vssl.engine.device import predict, to_device
from vssl.engine.loader import evaluation_batches
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.protocol.features import VideoFeatures
from vssl.protocol.neighbours import FeatureSet
from vssl.result import StageResult
from vssl.stage.callback import StageCallback
from vssl.stage.construct import Stage
from vssl.stage.context import Context
from vssl.stage.provenance import provenance
from vssl.stage.spec import class_name
from vssl.stage.weights import load_backbone, num_parameters, start_in_words, starting_weights, write_arrays
from vssl.types import Backbone, Batch

FILE_NAME = "features.npz"


def describe_videos(stage: Stage, context: Context, callback: StageCallback) -> StageResult:
    """Write the features of all videos of the stage, in their order, and return the result."""
    meter = CostMeter(context.runtime.torch_device())
    callback.begin(0, 0.0, stage.clips)
    stage.source.prepare()
    backbone = stage.backbone()
    if weights := starting_weights(stage.spec, context.store):
        load_backbone(backbone, weights)
    features = describe_stage(stage, backbone, context.runtime, meter, callback.advance)
    write_arrays(context.store.folder(stage.spec) / FILE_NAME, to_arrays(features, stage.dataset))
    return StageResult(
        metrics={},
        protocol={**protocol(stage, features, backbone), "start": start_in_words(stage.spec)},
        cost=replace(meter.read(), videos=len(stage.dataset), clips=stage.clips),
        provenance=provenance(context.runtime.device_in_words()),
    )


def describe_stage(
    stage: Stage, backbone: Backbone, runtime: Runtime, meter: CostMeter, advance: Callable[[int], None]
) -> FeatureSet:
    """Features of all videos of a stage. Raises `VsslError` if a weight has made one that is no number."""
    dataset = stage.dataset
    assert stage.recipe.batch_size is not None
    with closing(evaluation_batches(dataset, stage.recipe.batch_size, runtime.loading(), meter)) as batches:
        features = describe(batches, dataset.augmentation, stage.task, backbone, runtime, advance)
    if not features.features_VD.isfinite().all():
        raise VsslError(f"{stage.spec}: features are not finite numbers; look at the weights they come from")
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


def to_arrays(features: FeatureSet, dataset: ClipDataset) -> dict[str, object]:
    """What is written: features_VD, labels_V (-1: none), names [V], class_names [N]."""
    return {
        **{name: tensor.numpy() for name, tensor in features._asdict().items()},
        "names": [video.name for video in dataset.videos],
        "class_names": list(dataset.source.class_names),
    }


def protocol(stage: Stage, features: FeatureSet, backbone: Backbone) -> dict[str, Any]:
    """What a reader has to know beside these features."""
    videos, dimension = features.features_VD.shape
    return {
        "backbone": class_name(stage.recipe.backbone),
        "backbone_parameters": num_parameters(backbone),
        "trained": "nothing",
        "feature": stage.task.feature,
        "feature_dim": dimension,
        "clips_per_video": stage.clips_per_sample,
        "test_crop": stage.augmentation.crop.place,
        "data": dict(stage.recipe.data),
        "videos": videos,
        "seed": stage.recipe.seed,
    }
