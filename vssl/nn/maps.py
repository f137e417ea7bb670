"""The size of what a backbone makes of a clip."""

import torch

from vssl.errors import VsslError
from vssl.types import Backbone


@torch.no_grad()
def map_size(backbone: Backbone, frames: int, side: int) -> tuple[int, ...]:
    """Time steps, height and width of the last feature map of clips of so many frames of `side` pixels.

    The backbone lies on the meta device, where torch loads its compiler to tell sizes: a second, once.
    Raises `VsslError` for clips that are too small for it.
    """
    clips_1CTHW = torch.empty(1, 3, frames, side, side, device="meta")
    try:
        return tuple(backbone.eval().feature_map(clips_1CTHW).shape[2:])
    except RuntimeError as error:  # of torch: no layer of it can do with so few pixels
        problem = f"{type(backbone).__name__} has no map of clips of {frames} frames of {side} pixels"
        raise VsslError(f"{problem}; give it larger ones (backbone.input), or choose another") from error
