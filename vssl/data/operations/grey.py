"""Take the colours out of clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vssl.checks import check_share
from vssl.data.operations import Operation


@dataclass(frozen=True)
class Grey(Operation):
    """Replace all three channels of a clip by its grey levels, with the given probability."""

    probability: float

    def __post_init__(self) -> None:
        check_share("probability", self.probability)

    def draw(self, num_frames: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return `chosen`, a bool per clip."""
        return {"chosen": torch.tensor(rng.random() < self.probability)}

    def apply(self, pixels_NCTHW: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Return the clips, the chosen ones without colours."""
        if not self.probability:
            return pixels_NCTHW
        chosen_N1111 = drawn["chosen"][:, None, None, None, None]
        return torch.where(chosen_N1111, grey_levels(pixels_NCTHW)[:, None], pixels_NCTHW)

    def still(self) -> None:
        """Colours stay."""


def grey_levels(pixels_NCTHW: Tensor) -> Tensor:
    """Grey levels [N,T,H,W] of RGB in float32 (ITU-R 601-2), rounded to whole numbers as in PIL."""
    red, green, blue = pixels_NCTHW.unbind(1)
    return (green * 0.587).add_(red, alpha=0.299).add_(blue, alpha=0.114).add_(0.5).floor_()
