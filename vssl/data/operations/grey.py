"""Take the colours out of clips."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vssl.data.operations import ForSomeClips


@dataclass(frozen=True)
class Grey(ForSomeClips):
    """Replace all three channels of a clip by its grey levels, with the given probability."""

    def change(self, pixels_NCTHW: Tensor, chosen_N1111: Tensor) -> Tensor:
        return torch.where(chosen_N1111, grey_levels(pixels_NCTHW)[:, None], pixels_NCTHW)


def grey_levels(pixels_NCTHW: Tensor) -> Tensor:
    """Grey levels [N,T,H,W] of RGB in float32 (ITU-R 601-2), rounded to whole numbers as in PIL."""
    red, green, blue = pixels_NCTHW.unbind(1)
    return (green * 0.587).add_(red, alpha=0.299).add_(blue, alpha=0.114).add_(0.5).floor_()
