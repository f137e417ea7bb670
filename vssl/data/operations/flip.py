"""Mirror clips."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vssl.data.operations import ForSomeClips


@dataclass(frozen=True)
class Flip(ForSomeClips):
    """Mirror a clip left to right, with the given probability."""

    on_bytes = True

    def change(self, pixels_NCTHW: Tensor, chosen_N1111: Tensor) -> Tensor:
        # Bit masks, or weights of 0 and 1: on a CPU, where() takes fifteen times as long.
        if pixels_NCTHW.dtype != torch.uint8:
            return pixels_NCTHW.lerp(pixels_NCTHW.flip(-1), chosen_N1111.float())
        bits = chosen_N1111.to(torch.uint8).mul_(255)
        return pixels_NCTHW.flip(-1).bitwise_xor_(pixels_NCTHW).bitwise_and_(bits).bitwise_xor_(pixels_NCTHW)
