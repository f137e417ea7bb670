"""Action classification, the downstream task (auxSKD paper, 4.2: fine-tuning and evaluation)."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least
from vssl.nn.frames import OutOfBounds, keep_inside
from vssl.protocol.accuracy import CLIP_METRICS, VIDEO_METRICS, clip_metrics, video_metrics
from vssl.protocol.evaluation import EvalResult, Evaluation
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task


@dataclass(frozen=True)
class RandomClip(ClipSampler):
    """One clip of `num_frames` successive frames; every start that fits is as likely.

    out_of_bounds: how the clip goes on at the end of a shorter video.
    """

    num_frames: int = field(metadata=at_least(1))
    out_of_bounds: OutOfBounds

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        last_start = max(0, num_frames - self.num_frames)
        start = int(rng.integers(last_start + 1))
        frames_KT = start + np.arange(self.num_frames)[None]
        return ClipPlan(keep_inside(frames_KT, num_frames, self.out_of_bounds), {})


@dataclass(frozen=True)
class UniformClips(ClipSampler):
    """`num_clips` clips of successive frames, spread evenly from the first possible start to the last.

    Starts are floor(k (n - T) / (num_clips - 1)); one clip alone starts at the first frame.

    out_of_bounds: how the clips go on at the end of a video that is shorter than a clip.
    """

    num_frames: int = field(metadata=at_least(1))
    num_clips: int = field(metadata=at_least(1))
    out_of_bounds: OutOfBounds

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        last_start = max(0, num_frames - self.num_frames)
        starts_K = np.arange(self.num_clips) * last_start // max(1, self.num_clips - 1)
        frames_KT = starts_K[:, None] + np.arange(self.num_frames)
        return ClipPlan(keep_inside(frames_KT, num_frames, self.out_of_bounds), {})


@dataclass(frozen=True)
class Classification(Task):
    """Predict the video's class from a clip, training all weights: cross-entropy on a linear head."""

    sampler: ClipSampler
    num_classes: int = field(metadata=at_least(1))

    def objective(self, backbone: Backbone) -> Objective:
        return Classifier(backbone, self.num_classes)


class Classifier(Objective):
    """A backbone and one linear layer."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, num_classes)

    def forward(self, batch: Batch) -> StepOutput:
        logits_BN, labels_B = self.logits(batch["clips"])[:, 0], batch["label"]
        top1 = (logits_BN.argmax(dim=1) == labels_B).float().mean()
        return StepOutput(F.cross_entropy(logits_BN, labels_B), {"top1": top1})

    def logits(self, clips_BKCTHW: Tensor) -> Tensor:
        """Return the class scores [B,K,N] of every clip."""
        logits: Tensor = self.head(self.features(clips_BKCTHW.flatten(0, 1)))
        return logits.reshape(*clips_BKCTHW.shape[:2], -1)

    def features(self, clips_BCTHW: Tensor) -> Tensor:
        """Return what the head sees of each clip [B,D]."""
        features_BD: Tensor = self.backbone(clips_BCTHW)
        return features_BD


@dataclass(frozen=True)
class ClipTest(Evaluation):
    """Show a classifier several clips of each test video, and average what it says of them.

    average: softmax probabilities (auxSKD paper, 4.2) or logits (VCOP, RSPNet).
    """

    sampler: ClipSampler
    average: Literal["softmax", "logits"]

    metrics = (*CLIP_METRICS, *VIDEO_METRICS)

    def evaluate(self, logits_VKN: Tensor, labels_V: Tensor) -> EvalResult:
        """Judge the scores [V,N] of the videos, and the logits of their clips alone."""
        scores_VN = (logits_VKN.softmax(dim=-1) if self.average == "softmax" else logits_VKN).mean(dim=1)
        metrics = {**clip_metrics(logits_VKN, labels_V), **video_metrics(scores_VN, labels_V)}
        return EvalResult(metrics, {"scores_VN": scores_VN, "logits_VKN": logits_VKN})

    def facts(self) -> dict[str, Any]:
        """The average. Clips and classes are counted from what was tested."""
        return {"average": self.average}
