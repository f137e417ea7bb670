"""A look at a backbone while it trains without labels: do neighbours share a class, do all videos look alike?

Nothing here changes what is trained, and so it is no part of a recipe.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn

from vssl import distributed
from vssl.checks import Checked, at_least
from vssl.data.dataset import ClipDataset
from vssl.data.part import SomeVideos
from vssl.engine.cost import CostMeter
from vssl.engine.loader import evaluation_batches
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.protocol.accuracy import most_frequent
from vssl.protocol.collapse import effective_rank, feature_std, mean_cosine
from vssl.protocol.features import VideoFeatures
from vssl.protocol.finetune import UniformClips
from vssl.protocol.neighbours import FeatureSet, NearestNeighbours
from vssl.result import References
from vssl.stage.construct import Stage
from vssl.stage.features import describe
from vssl.stage.saved import expected_input
from vssl.types import Backbone, Batch, Objective, VideoSource
from vssl.video import Video

PREFIX = "monitor/"
"""Begins the names of the metrics."""


@dataclass(frozen=True)
class Monitoring(Checked):
    """What is looked at, and how often.

    videos: of `gallery` and of `queries` each, spread evenly over the classes; clips: of each video.
    k, temperature: of the neighbours' votes, see `NearestNeighbours`.
    labelled: where both come from; the gallery's labels vote on those of the queries. None: no look is due.
    """

    every_epochs: int = field(metadata=at_least(0))
    videos: int = field(metadata=at_least(2))
    clips: int = field(metadata=at_least(1))
    k: int
    temperature: float
    batch_size: int = field(metadata=at_least(1))
    labelled: VideoSource | None

    def __post_init__(self) -> None:
        super().__post_init__()
        NearestNeighbours(self.k, self.temperature)


def monitor_for(stage: Stage, monitoring: Monitoring, runtime: Runtime) -> "Monitor | None":
    """The monitor of a stage; None where nothing is asked for, or another process looks."""
    if monitoring.labelled is None or stage.spec.kind.labelled or distributed.rank() > 0:
        return None
    return Monitor(monitoring, monitoring.labelled, stage, runtime)


class Monitor:
    """Looks at the objective of one stage.

    The backbone is shown centre crops at natural pace, in the stage's own frame size and range of pixels.
    They are decoded once, at the first look.
    """

    def __init__(self, monitoring: Monitoring, labelled: VideoSource, stage: Stage, runtime: Runtime) -> None:
        self.monitoring, self.runtime, self.seed = monitoring, runtime, stage.recipe.seed
        num_frames = expected_input(stage.recipe)["num_frames"]
        self.features = VideoFeatures(UniformClips(num_frames, monitoring.clips, "loop"), "pooled")
        self.augmentation = stage.augmentation.without_randomness()
        self.gallery, self.queries = two_sets(labelled, monitoring.videos)

    def look(self, objective: Objective, epochs: int) -> dict[str, float]:
        """Metrics after so many epochs; none if it is not their turn.

        `knn_top1` is the accuracy of the votes on the queries, `queue_effective_rank` that of the objective's
        queue of keys, if it has one. The others are of all these videos; see `vssl.protocol.collapse`.
        """
        if epochs % self.monitoring.every_epochs:
            return {}
        found = self._of_features(*self._describe(objective.backbone))
        if (keys_HD := objective.keys()) is not None:
            found["queue_effective_rank"] = effective_rank(keys_HD.cpu())
        return {f"{PREFIX}{name}": value for name, value in found.items()}

    def _of_features(self, gallery: FeatureSet, queries: FeatureSet) -> dict[str, float]:
        neighbours = NearestNeighbours(self.monitoring.k, self.monitoring.temperature)
        votes = neighbours.evaluate(queries, gallery, len(self.gallery.class_names))
        features_VD = torch.cat([gallery.features_VD, queries.features_VD])
        return {
            "knn_top1": votes.metrics["video_top1"],
            "feature_std": feature_std(features_VD),
            "mean_cosine": mean_cosine(features_VD),
            "effective_rank": effective_rank(features_VD),
        }

    def _describe(self, backbone: Backbone) -> list[FeatureSet]:
        """Features of gallery and queries."""
        # A few clips, in another mode and number than those of training, are not worth compiling for.
        eager = torch.compiler.set_stance("force_eager") if self.runtime.compile else nullcontext()
        how = (self.augmentation, self.features, backbone, self.runtime, lambda clips: None)
        with evaluating(backbone), eager:
            return [describe(batches, *how) for batches in self._batches]

    def references(self) -> References:
        """Chance is the most frequent class."""
        labels = torch.tensor([video.label for video in self.queries.videos])
        return {f"{PREFIX}knn_top1": {"chance": most_frequent(labels)}}

    @cached_property
    def _batches(self) -> list[list[Batch]]:
        """Clips of gallery and queries; another video takes the place of one that cannot be read."""
        loading = replace(self.runtime.loading(), pin_memory=False)  # they stay
        found, cost = [], CostMeter(torch.device("cpu"))  # it is the loop that counts what looks take
        for videos in (self.gallery, self.queries):
            dataset = ClipDataset(
                videos, self.features.sampler, self.augmentation, self.seed, repeat=1, replace_bad=True
            )
            with closing(evaluation_batches(dataset, self.monitoring.batch_size, loading, cost)) as batches:
                found.append(list(batches))
        return found


def two_sets(source: VideoSource, count: int) -> tuple[SomeVideos, SomeVideos]:
    """The first and the last videos of each class: `count` each, or half of all.

    Lists are in order of groups (people, films), so that first and last ones seldom share one.
    """
    source.prepare()
    labelled = [video for video in source.videos if video.label is not None]
    if len(labelled) < 2:
        raise VsslError(f"monitor: {source} has no labels; choose other videos, or monitor.every_epochs=0")
    count = min(count, len(labelled) // 2)
    first = spread(labelled, count)
    taken = set(first)
    last = spread((video for video in reversed(labelled) if video not in taken), count)
    return SomeVideos(source, first), SomeVideos(source, last)


def spread(videos: Iterable[Video], count: int) -> list[Video]:
    """`count` of labelled videos: the first of each class, then the second of each, ..., classes in order."""
    seen: Counter[int] = Counter()
    turns = []
    for video in videos:
        assert video.label is not None
        turns.append((seen[video.label], video.label, video))
        seen[video.label] += 1
    return [video for _, _, video in sorted(turns, key=lambda turn: turn[:2])[:count]]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode while the block runs; then each part is in the mode that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
