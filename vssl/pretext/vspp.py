"""VSPP, video segment pace prediction: which part of a clip plays at another pace, and at which?

Source: the auxSKD paper, section 3.2 (Eq. 4 and 5), and the authors' released code where the two differ.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least, check_between
from vssl.errors import OptionError
from vssl.nn.frames import OutOfBounds, keep_inside, play
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task


@dataclass(frozen=True)
class VSPPSampler(ClipSampler):
    """A clip at natural pace but for one segment, which plays at `speed` (paper 3.2).

    Of K frames in Z segments, segment zeta (1..Z) begins at clip position floor((zeta-1) K/Z). It and its
    speed lambda (1..Q) are uniform and independent. Targets: `speed` = lambda-1, `segment` = zeta-1. At
    speed 1 all segments give the same clip, so that the segment target is noise there.

    num_frames, num_segments, max_speed: K, Z, Q.
    variant: `released` plays positions floor((zeta-1) K/Z) to floor(zeta K/Z), both inclusive, at lambda:
        K/Z+1 frames, in the last segment K/Z. `eq4` is Eq. 4 to the letter: K/Z frames in every segment,
        and a clip whose first segment is fast begins lambda-1 frames later. Where Z does not divide K, as
        in the Z=3 of Table 4, positions are rounded down, as the released loop does.
    start: where the clip may begin: `inside` leaves K frames behind its first one (released:
        1 <= f_r <= n-K, counted from 1), `anywhere` is any frame. Videos of K or fewer frames begin at
        their first one.
    out_of_bounds: how the clip goes on at the end of the video. `loop` goes back to the first frame: in
        `eq4` modulo the number of frames; in `released` as the authors do, before the end is reached, namely
        as soon as the video has no frame `wrap_lookahead` steps (at the pace just played) further on.
    wrap_lookahead: 1 in the released code of VSPP, 3 in that of auxSKD.
    """

    num_frames: int = field(metadata=at_least(1))
    num_segments: int
    max_speed: int = field(metadata=at_least(1))
    variant: Literal["released", "eq4"]
    start: Literal["inside", "anywhere"]
    out_of_bounds: OutOfBounds
    wrap_lookahead: int = field(metadata=at_least(1))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between("num_segments", self.num_segments, 1, self.num_frames)

    @property
    def classes(self) -> Mapping[str, int]:
        return {"speed": self.max_speed, "segment": self.num_segments}

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        speed = int(rng.integers(1, self.max_speed + 1))
        segment = int(rng.integers(self.num_segments))
        starts = num_frames - self.num_frames if self.start == "inside" else num_frames
        start = int(rng.integers(starts)) if num_frames > self.num_frames else 0
        frames_T = self.frames(num_frames, start, speed, segment)
        return ClipPlan(frames_T[None], {"speed": speed - 1, "segment": segment})

    def frames(self, num_frames: int, start: int, speed: int, segment: int) -> NDArray[np.int64]:
        """Return the frames [T] of the clip that begins at `start`; frames and `segment` count from 0."""
        pace_T = np.where(self._is_fast(segment), speed, 1)
        if self.variant == "released" and self.out_of_bounds == "loop":
            return play(start, pace_T, num_frames, self.wrap_lookahead)
        frames_T = start + np.cumsum(pace_T) - pace_T[0]
        if self.variant == "eq4" and segment == 0:
            frames_T += speed - 1
        return keep_inside(frames_T, num_frames, self.out_of_bounds)

    def _is_fast(self, segment: int) -> NDArray[np.bool_]:
        positions_T = np.arange(self.num_frames)
        first = segment * self.num_frames // self.num_segments
        following = (segment + 1) * self.num_frames // self.num_segments
        last = following if self.variant == "released" else following - 1
        return (first <= positions_T) & (positions_T <= last)


@dataclass(frozen=True)
class VSPP(Task):
    """Predict speed and place of the altered segment: L = alpha L_speed + beta L_seg (Eq. 5).

    speed_weight, segment_weight: alpha and beta; 0 switches a sub-task off (no head, no loss).
    mask_segment_at_natural_speed: leave samples at speed 1, whose segment target is noise, out of L_seg.
    """

    sampler: VSPPSampler
    speed_weight: float = field(metadata=at_least(0))
    segment_weight: float = field(metadata=at_least(0))
    mask_segment_at_natural_speed: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.speed_weight == self.segment_weight == 0:
            raise OptionError("speed_weight", 0, "segment_weight is 0 too", "choose one above 0")

    def objective(self, backbone: Backbone) -> Objective:
        return VSPPObjective(backbone, self)

    def references(self) -> References:
        """Chance is one answer for all. Nobody can name the segment of the clips at natural speed, 1 in Q,
        better than by guessing: with Z = Q = 4 the best accuracy is 3/4 + 1/16 = 81.25 %, and the least loss
        ln(4)/4. An upper limit: the end of a video may hide more, as do segments of one frame in `eq4`."""
        noise = {"speed": 0.0, "segment": 1 / self.sampler.max_speed}
        if self.mask_segment_at_natural_speed:
            noise["segment"] = 0.0
        found: dict[str, Mapping[str, float]] = {}
        for name, classes in self.sampler.classes.items():
            loss, share = math.log(classes), noise[name]
            found[f"{name}_loss"] = {"chance": loss, "reachable": share * loss}
            found[f"{name}_accuracy"] = {"chance": 1 / classes, "reachable": 1 - share * (1 - 1 / classes)}
        return found


class VSPPObjective(Objective):
    """A linear head per sub-task on the pooled features, and cross-entropy, averaged over the batch."""

    def __init__(self, backbone: Backbone, task: VSPP) -> None:
        super().__init__()
        self.backbone = backbone
        weights = {"speed": task.speed_weight, "segment": task.segment_weight}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.mask_segment = task.mask_segment_at_natural_speed
        classes = task.sampler.classes
        self.heads = nn.ModuleDict(
            {name: nn.Linear(backbone.feature_dim, classes[name]) for name in self.weights}
        )

    def forward(self, batch: Batch) -> StepOutput:
        features_BD = self.backbone(batch["clips"][:, 0])
        loss, metrics = features_BD.new_zeros(()), {}
        for name, weight in self.weights.items():
            least_target = 1 if name == "segment" and self.mask_segment else 0
            logits_BN, kept_B = self.heads[name](features_BD), batch["speed"] >= least_target
            sub_loss = _mean(F.cross_entropy(logits_BN, batch[name], reduction="none"), kept_B)
            loss = loss + weight * sub_loss
            metrics[f"{name}_loss"] = sub_loss.detach()
            metrics[f"{name}_accuracy"] = _mean(logits_BN.argmax(dim=1) == batch[name], kept_B)
        return StepOutput(loss, metrics)


def _mean(values_B: Tensor, kept_B: Tensor) -> Tensor:
    """Mean over the samples that count; 0 if none does."""
    return (values_B * kept_B).sum() / kept_B.sum().clamp(min=1)
