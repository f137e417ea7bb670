"""Rotation: by which angle is the clip turned?

Source: Jing et al., Self-supervised Spatiotemporal Feature Learning via Video Rotation Prediction (3D RotNet,
2018), and the authors' released code. Otherwise than there: no random turn of up to 10 degrees before.

Clips are turned here, after the augmentation has mirrored them. The other way round, a mirrored turn to the
left is
a turn to the right of the mirrored clip: with every second clip mirrored the two would be one, and no more
than three of four angles could be told apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least
from vssl.nn.frames import OutOfBounds
from vssl.pretext.windows import Windows
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task


@dataclass(frozen=True)
class RotationSampler(ClipSampler):
    """A clip of every `stride`-th frame.

    num_angles: 4 (0, 90, 180 and 270 degrees) or 2 (0 and 180).
    angles: `all` of them for every clip (released), without a target; or `one`, drawn as the target `angle`.
    out_of_bounds: how a clip goes on at the end of a shorter video.
    """

    num_frames: int = field(metadata=at_least(1))
    stride: int = field(metadata=at_least(1))
    num_angles: Literal[2, 4]
    angles: Literal["all", "one"]
    out_of_bounds: OutOfBounds

    @property
    def classes(self) -> Mapping[str, int]:
        return {"angle": self.num_angles} if self.angles == "one" else {}

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        frames_KT = self._windows(1).plan(num_frames, rng).frames_KT
        return ClipPlan(frames_KT, {name: int(rng.integers(count)) for name, count in self.classes.items()})

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two independent clips, which nothing turns: `distinct` changes nothing. An assumption."""
        return self._windows(2).plan(num_frames, rng)

    def _windows(self, clips: int) -> Windows:
        return Windows(self.num_frames, clips, self.stride, "independent", self.out_of_bounds)


@dataclass(frozen=True)
class Rotation(Task):
    """Predict the angle: a linear layer on the pooled features, and cross-entropy."""

    sampler: RotationSampler

    def objective(self, backbone: Backbone) -> Objective:
        return RotationObjective(backbone, self.sampler)

    def references(self) -> References:
        """The angles are equally frequent. Of videos without an up and a down none can be told."""
        return {"angle_accuracy": {"chance": 1 / self.sampler.num_angles, "reachable": 1.0}}


class RotationObjective(Objective):
    """Turns the clips of a batch, and asks by how much."""

    def __init__(self, backbone: Backbone, sampler: RotationSampler) -> None:
        super().__init__()
        self.backbone = backbone
        self.sampler = sampler
        self.head = nn.Linear(backbone.feature_dim, sampler.num_angles)

    def forward(self, batch: Batch) -> StepOutput:
        turned_NCTHW, angle_N = self._turned(batch)
        logits_NA = self.head(self.backbone(turned_NCTHW))
        accuracy = (logits_NA.argmax(dim=1) == angle_N).float().mean()
        return StepOutput(F.cross_entropy(logits_NA, angle_N), {"angle_accuracy": accuracy})

    def _turned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Turned clips and the numbers of their angles; N is the batch, or all its clips at every angle."""
        count, clips_BCTHW = self.sampler.num_angles, batch["clips"][:, 0]
        versions_ABCTHW = torch.stack([clips_BCTHW.rot90(n * 4 // count, (3, 4)) for n in range(count)])
        if self.sampler.angles == "all":
            angle_A = torch.arange(count, device=clips_BCTHW.device)
            return versions_ABCTHW.flatten(0, 1), angle_A.repeat_interleave(len(clips_BCTHW))
        samples_B = torch.arange(len(clips_BCTHW), device=clips_BCTHW.device)
        return versions_ABCTHW[batch["angle"], samples_B], batch["angle"]
