"""A video as one vector, without training."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from vssl.errors import VsslError
from vssl.types import Backbone, ClipSampler

Feature = Literal["pooled", "conv5_max"]

WINDOW = (1, 2, 2)
"""Time, height and width of the windows of `conv5_max`, and their stride."""


@dataclass(frozen=True)
class VideoFeatures:
    """The mean over the clips of a video of what a frozen backbone makes of each. No normalisation.

    feature: pooled, the backbone's own global average (RSPNet's released code: the last convolution's
    output, averaged); conv5_max, the maximum over windows of 1x2x2 of the last feature map, flattened
    (VCOP's released code: 512x2x3x3 = 9,216 numbers for its nets on clips of 16x112x112).
    """

    sampler: ClipSampler
    feature: Feature

    def extract(self, backbone: Backbone, clips_BKCTHW: Tensor) -> Tensor:
        """Return the features [B,D] of the videos of a batch."""
        clips_NCTHW = clips_BKCTHW.flatten(0, 1)
        features_ND = backbone(clips_NCTHW) if self.feature == "pooled" else _pooled(backbone, clips_NCTHW)
        features_BD: Tensor = features_ND.float().unflatten(0, clips_BKCTHW.shape[:2]).mean(dim=1)
        return features_BD


def _pooled(backbone: Backbone, clips_NCTHW: Tensor) -> Tensor:
    map_NDTHW = backbone.feature_map(clips_NCTHW)
    size = tuple(map_NDTHW.shape[2:])
    if any(side < window for side, window in zip(size, WINDOW, strict=True)):
        raise VsslError(
            f"features.feature=conv5_max: the last map of {type(backbone).__name__} is {_times(size)}, its "
            f"windows {_times(WINDOW)}; give it larger frames (backbone.input.crop) or choose pooled"
        )
    return F.max_pool3d(map_NDTHW, WINDOW).flatten(1)


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
