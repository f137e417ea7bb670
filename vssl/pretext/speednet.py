"""SpeedNet: does the clip play at natural speed, or faster?

Source: Benaim et al., CVPR 2020. No code was released. Here otherwise than in the paper:
- The two speeds are exactly 1 and `speedup`; the paper skips frames at random, at rates of 1 to 1.2 and
  1.7 to 2.2.
- A sample is one clip with a fair coin for its speed; the paper puts both versions of each segment of
  a video into the same batch.
- Frames have one size; the paper resizes them at random, to between 64 and 336 pixels.
- The backbone averages over space and time; the paper takes the maximum over space.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn
from torch.nn import functional as F

from vssl.checks import at_least
from vssl.nn.frames import OutOfBounds, keep_inside
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task


@dataclass(frozen=True)
class SpeedNetSampler(ClipSampler):
    """A clip of every frame, or of every `speedup`-th one. Target: `speed`, 1 for the faster one.

    Both are cut from a window as long as the faster clip, which lies anywhere in the video, and the natural
    clip anywhere in the window: where a clip lies tells little about its speed (the paper cuts both from
    a segment of three clip lengths).

    out_of_bounds: how a clip goes on at the end of its video. In videos shorter than the window this betrays
        the speed, as the faster clip gets there first.
    """

    num_frames: int = field(metadata=at_least(2))
    speedup: int = field(metadata=at_least(2))
    out_of_bounds: OutOfBounds

    @property
    def classes(self) -> Mapping[str, int]:
        return {"speed": 2}

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        speed = int(rng.integers(2))
        pace = self.speedup if speed else 1
        window = min(self._length(self.speedup), num_frames)
        start = rng.integers(num_frames - window + 1)
        start += rng.integers(max(0, window - self._length(pace)) + 1)
        frames_KT = start + pace * np.arange(self.num_frames)[None]
        return ClipPlan(keep_inside(frames_KT, num_frames, self.out_of_bounds), {"speed": speed})

    def _length(self, pace: int) -> int:
        """Frames of the video from the first to the last one of a clip."""
        return pace * (self.num_frames - 1) + 1


@dataclass(frozen=True)
class SpeedNet(Task):
    """Tell the two speeds apart."""

    sampler: SpeedNetSampler

    def objective(self, backbone: Backbone) -> Objective:
        return SpeedNetObjective(backbone)

    def references(self) -> References:
        """The speeds are equally frequent."""
        return {"speed_accuracy": {"chance": 0.5, "reachable": 1.0}}


class SpeedNetObjective(Objective):
    """One logit, that of the faster speed, from the pooled features, and binary cross-entropy."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, 1)

    def forward(self, batch: Batch) -> StepOutput:
        logits_B = self.head(self.backbone(batch["clips"][:, 0]))[:, 0]
        speed_B = batch["speed"]
        accuracy = ((logits_B > 0) == speed_B.bool()).float().mean()
        loss = F.binary_cross_entropy_with_logits(logits_B, speed_B.to(logits_B.dtype))
        return StepOutput(loss, {"speed_accuracy": accuracy})
