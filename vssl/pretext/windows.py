"""Windows of a video: what contrastive tasks cut their clips from."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from vssl.checks import at_least
from vssl.nn.frames import OutOfBounds, keep_inside
from vssl.types import ClipPlan, ClipSampler


@dataclass(frozen=True)
class Windows(ClipSampler):
    """Clips of one video, each of every `stride`-th frame of a window; no targets.

    Every start that fits is as likely. Clips are augmented each by itself, those of the same frames too.

    num_frames, num_clips: T and K.
    starts: `independent` of one another, or the `same` for all clips.
    out_of_bounds: how a clip goes on at the end of a shorter video.
    """

    num_frames: int = field(metadata=at_least(1))
    num_clips: int = field(metadata=at_least(1))
    stride: int = field(metadata=at_least(1))
    starts: Literal["independent", "same"]
    out_of_bounds: OutOfBounds

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        steps_T = self.stride * np.arange(self.num_frames)
        draws = self.num_clips if self.starts == "independent" else 1
        starts_K = rng.integers(max(0, num_frames - 1 - steps_T[-1]) + 1, size=draws)
        frames_KT = np.repeat(starts_K[:, None] + steps_T, self.num_clips // draws, axis=0)
        return ClipPlan(keep_inside(frames_KT, num_frames, self.out_of_bounds), {})

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two independent clips. There is no target in which they could be `distinct`; no source says
        how the clips of such tasks are drawn for auxSKD: an assumption."""
        return replace(self, num_clips=2, starts="independent").plan(num_frames, rng)
