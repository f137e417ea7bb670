"""VCP, video cloze procedure: what was done to the clip in the middle?

Source: Luo et al., Video Cloze Procedure for Self-Supervised Spatio-Temporal Learning (AAAI 2020), after an
unofficial implementation (BestJuly/VCP), as no official code was found. Otherwise than there:
- The clips of a tuple do not overlap (there: a slip lets each begin 11 frames after the one before).
- A remote clip comes from either side that has room for it, and the option is drawn among those that are
  possible (there: both sides need room, else another option takes its place, so that it is rare: 0 to 15 %
  by length).
- Blocks are shown in any order but the right one (there: in reverse, the others are left in a comment).
- All videos train and the last weights stay (there: the best on 800 videos held out).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least
from vssl.errors import OptionError, VsslError
from vssl.pretext.vcop import VCOPSampler
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, Objective, StepOutput, Task

OPTIONS = ("same", "rotated", "blocks", "chunks", "remote")
"""The middle clip is shown as it is; turned by 90, 180 or 270 degrees; its quarters in another order; two of
its four parts in time swapped; or a clip from elsewhere in the video takes its place."""

ORDERS = list(permutations(range(4)))[1:]
"""The orders of four blocks in which not all are at their place."""

PARTS = 4
MIDDLE = 1


@dataclass(frozen=True)
class VCPSampler(VCOPSampler):
    """A tuple of three evenly spaced clips of which the middle one was changed in time, if at all.

    Targets: `option`, uniform over those that the video allows, all but `remote`, for which it needs room;
    `angle`, 90 degrees times it and 1, and `order`, of ORDERS: both are drawn for every sample, and count
    for the options `rotated` and `blocks`.

    num_clips: 3. remote: frames between the tuple and the remote clip, at least.
    """

    remote: int = field(metadata=at_least(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_clips != 3:
            raise OptionError("num_clips", self.num_clips, "one in the middle and one on each side", "say 3")
        if self.num_frames % PARTS:
            remedy = f"choose a multiple of {PARTS}"
            raise OptionError(
                "num_frames", self.num_frames, f"cannot be cut into {PARTS} equal parts", remedy
            )

    @property
    def classes(self) -> Mapping[str, int]:
        return {"option": len(OPTIONS), "angle": 3, "order": len(ORDERS)}

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        frames_KT = self._draw_tuple(num_frames, rng)
        starts = self._remote_starts(num_frames, int(frames_KT[0, 0]))
        option = int(rng.integers(len(OPTIONS) if len(starts) else len(OPTIONS) - 1))
        one, other = rng.choice(PARTS, size=2, replace=False)
        elsewhere = rng.choice(starts) if len(starts) else 0
        if OPTIONS[option] == "chunks":
            parts = frames_KT[MIDDLE].reshape(PARTS, -1)
            parts[[one, other]] = parts[[other, one]]
        if OPTIONS[option] == "remote":
            frames_KT[MIDDLE] = elsewhere + np.arange(self.num_frames)
        drawn = {name: int(rng.integers(self.classes[name])) for name in ("angle", "order")}
        return ClipPlan(frames_KT, {"option": option, **drawn})

    def _remote_starts(self, num_frames: int, first: int) -> NDArray[np.int64]:
        """Where a clip may begin that is at least `remote` frames away from the tuple, on either side."""
        away = self.num_frames + self.remote
        behind = first + self.min_frames + self.remote
        before, after = np.arange(first - away + 1), np.arange(behind, num_frames - self.num_frames + 1)
        return np.concatenate([before, after])


@dataclass(frozen=True)
class VCP(Task):
    """Predict the option: a linear layer on the features of the three clips, and cross-entropy."""

    sampler: VCPSampler

    def objective(self, backbone: Backbone) -> Objective:
        return VCPObjective(backbone)

    def check_backbone(self, backbone: Backbone, side: int) -> None:
        if side % 2:
            problem = f"VCP cannot cut frames of {side} pixels into equal blocks"
            raise VsslError(f"{problem}; choose an even crop.size")

    def references(self) -> References:
        """The options are equally frequent in videos with room for a remote clip; without, one falls away."""
        return {"option_accuracy": {"chance": 1 / len(OPTIONS), "reachable": 1.0}}


class VCPObjective(Objective):
    """Turns middle clips and shows their blocks in another order, where the targets say so, and asks for the
    option. Batch norm normalises each position of the tuple by itself."""

    orders: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3 * backbone.feature_dim, len(OPTIONS))
        self.register_buffer("orders", torch.tensor(ORDERS), persistent=False)

    def forward(self, batch: Batch) -> StepOutput:
        clips, option_B = list(batch["clips"].unbind(1)), batch["option"]
        changed = {
            "rotated": _rotated(clips[MIDDLE], batch["angle"]),
            "blocks": _blocks(clips[MIDDLE], self.orders[batch["order"]]),
        }
        for name, changed_BCTHW in changed.items():
            chosen_B1111 = (option_B == OPTIONS.index(name))[:, None, None, None, None]
            clips[MIDDLE] = torch.where(chosen_B1111, changed_BCTHW, clips[MIDDLE])
        logits_BN = self.head(torch.cat([self.backbone(clip_BCTHW) for clip_BCTHW in clips], dim=1))
        accuracy = (logits_BN.argmax(dim=1) == option_B).float().mean()
        return StepOutput(F.cross_entropy(logits_BN, option_B), {"option_accuracy": accuracy})


def _rotated(clips_BCTHW: Tensor, angle_B: Tensor) -> Tensor:
    """Clips turned by 90 degrees times `angle` + 1."""
    versions_ABCTHW = torch.stack([clips_BCTHW.rot90(quarters, (3, 4)) for quarters in (1, 2, 3)])
    return versions_ABCTHW[angle_B, torch.arange(len(angle_B), device=angle_B.device)]


def _blocks(clips_BCTHW: Tensor, orders_B4: Tensor) -> Tensor:
    """Clips with their quarters (upper left, upper right, lower left, lower right) in another order."""
    rows = [row.chunk(2, dim=4) for row in clips_BCTHW.chunk(2, dim=3)]
    blocks_B4CTHW = torch.stack([block for row in rows for block in row], dim=1)
    samples_B1 = torch.arange(len(orders_B4), device=orders_B4.device)[:, None]
    upper_left, upper_right, lower_left, lower_right = blocks_B4CTHW[samples_B1, orders_B4].unbind(1)
    upper, lower = torch.cat([upper_left, upper_right], dim=4), torch.cat([lower_left, lower_right], dim=4)
    return torch.cat([upper, lower], dim=3)
