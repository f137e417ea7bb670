"""RTT: which temporal transformation was a clip put through, and how fast does it play?

Source: Jenni, Meishvili and Favaro, Video Representation Learning by Recognizing Temporal Transformations
(ECCV 2020), described after the authors' released code. Otherwise than there:
- Videos shorter than a clip are left out (released: they fail).
- Each clip of a sample is mirrored by itself (released: one draw for all four).
- Published with C3D, and with a ResNet-18 of another kind than the ones here, whose first two stages are 2D.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least, between
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task

Frames = NDArray[np.int64]

TRANSFORMATIONS = ("speed", "periodic", "random", "warp")
"""The clips of a sample, in this order; what was done to each is its class."""


@dataclass(frozen=True)
class RTTSampler(ClipSampler):
    """Four clips of T frames of one video, one of each transformation:

    speed: every 2^u-th frame. periodic: 14 such frames from a window of 15 steps, then back again, and of
    these 28 some 16 in a row (for T = 16). random: successive frames in random order. warp: frames at random
    distances of 1 to 2^m, or, in a video too short for them, T frames at random in their order.

    Target: `speed`, u, uniform in 0..m; m is `num_speeds` - 1, or less where the video has fewer than
    2^m T frames.
    """

    num_frames: int = field(metadata=at_least(4))
    num_speeds: int = field(metadata=between(1, 8))

    @property
    def classes(self) -> Mapping[str, int]:
        return {"speed": self.num_speeds}

    @property
    def min_frames(self) -> int:
        return self.num_frames

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        fastest = min(int(np.log2(num_frames / self.num_frames)), self.num_speeds - 1)
        speed = int(rng.integers(fastest + 1))
        step = 2**speed
        clips = [
            self._at_speed(num_frames, step, rng),
            self._back_and_forth(num_frames, step, rng),
            rng.permutation(self._at_speed(num_frames, 1, rng)),
            self._warped(num_frames, 2**fastest, rng),
        ]
        return ClipPlan(np.stack(clips), {"speed": speed})

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two clips of different transformations from a sample. No source says how they are drawn for
        auxSKD, and no clip has a target by itself: `distinct` changes nothing."""
        clips_2 = rng.choice(len(TRANSFORMATIONS), size=2, replace=False)
        return ClipPlan(self.plan(num_frames, rng).frames_KT[clips_2], {})

    def _at_speed(self, num_frames: int, step: int, rng: np.random.Generator) -> Frames:
        start = rng.integers(num_frames - self.num_frames * step + 1)
        frames_T: Frames = start + step * np.arange(self.num_frames)
        return frames_T

    def _back_and_forth(self, num_frames: int, step: int, rng: np.random.Generator) -> Frames:
        """Frames that turn round once, on the way back others than on the way there where there are some."""
        window = min(num_frames, (self.num_frames - 1) * step)
        there = step * np.arange(self.num_frames - 2)
        offset = rng.integers(2) if step == 1 else rng.integers(1, step)
        both = np.concatenate([there, offset + there[::-1]])
        first = rng.integers(len(both) - self.num_frames + 1)
        frames_T: Frames = rng.integers(num_frames - window + 1) + both[first : first + self.num_frames]
        return frames_T

    def _warped(self, num_frames: int, longest: int, rng: np.random.Generator) -> Frames:
        if longest <= 2:
            return np.sort(rng.choice(num_frames, self.num_frames, replace=False))
        start = rng.integers(num_frames - self.num_frames * longest + 1)
        steps_T = rng.integers(1, longest + 1, self.num_frames)
        # One in 2^(m T) draws has the longest steps alone, and ends a frame behind the window.
        frames_T: Frames = np.minimum(start + np.cumsum(steps_T), num_frames - 1)
        return frames_T


@dataclass(frozen=True)
class RTT(Task):
    """Recognise the transformation of all clips, and the speed of the first two: L_transformation +
    L_speed."""

    sampler: RTTSampler

    def objective(self, backbone: Backbone) -> Objective:
        return RTTObjective(backbone, self.sampler)

    def references(self) -> References:
        """The speeds are equally frequent in videos that are long enough for all; where many are shorter,
        guessing the natural speed comes to more."""
        return {
            "transformation_accuracy": {"chance": 1 / len(TRANSFORMATIONS), "reachable": 1.0},
            "speed_accuracy": {"chance": 1 / self.sampler.num_speeds, "reachable": 1.0},
        }


class RTTObjective(Objective):
    """One linear layer on the pooled features, for both questions; all clips go through the network at
    once."""

    def __init__(self, backbone: Backbone, sampler: RTTSampler) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, len(TRANSFORMATIONS) + sampler.num_speeds)

    def forward(self, batch: Batch) -> StepOutput:
        clips_BKCTHW = batch["clips"]
        logits_NA = self.head(self.backbone(clips_BKCTHW.flatten(0, 1)))
        kinds = len(TRANSFORMATIONS)
        kind_N = torch.arange(kinds, device=logits_NA.device).repeat(len(clips_BKCTHW))
        speed_logits = logits_NA[:, kinds:].unflatten(0, (-1, kinds))[:, :2].flatten(0, 1)
        kind_loss, kind_accuracy = _classify(logits_NA[:, :kinds], kind_N)
        speed_loss, speed_accuracy = _classify(speed_logits, batch["speed"].repeat_interleave(2))
        metrics = {
            "transformation_loss": kind_loss.detach(),
            "transformation_accuracy": kind_accuracy,
            "speed_loss": speed_loss.detach(),
            "speed_accuracy": speed_accuracy,
        }
        return StepOutput(kind_loss + speed_loss, metrics)


def _classify(logits_NA: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and accuracy."""
    return F.cross_entropy(logits_NA, target_N), (logits_NA.argmax(dim=1) == target_N).float().mean()
