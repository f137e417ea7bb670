"""A video as one vector, without training."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from vssl.errors import VsslError
from vssl.nn.maps import map_size
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

    def check_backbone(self, backbone: Backbone, side: int) -> None:
        """Raise `VsslError` for a backbone, on the meta device, whose map of frames of `side` pixels is
        smaller than a window."""
        if self.feature == "pooled":
            return
        frames = self.sampler.plan(self.sampler.min_frames, np.random.default_rng(0)).frames_KT.shape[1]
        size = map_size(backbone, frames, side)
        if any(one < window for one, window in zip(size, WINDOW, strict=True)):
            raise VsslError(
                f"features.feature=conv5_max: the last map of {type(backbone).__name__} is {_times(size)}, "
                f"its windows {_times(WINDOW)}; give it larger frames (backbone.input.crop) or choose pooled"
            )

    def extract(self, backbone: Backbone, clips_BKCTHW: Tensor) -> Tensor:
        """Return the features [B,D] of the videos of a batch."""
        clips_NCTHW = clips_BKCTHW.flatten(0, 1)
        features_ND = backbone(clips_NCTHW) if self.feature == "pooled" else _pooled(backbone, clips_NCTHW)
        features_BD: Tensor = features_ND.float().unflatten(0, clips_BKCTHW.shape[:2]).mean(dim=1)
        return features_BD


def _pooled(backbone: Backbone, clips_NCTHW: Tensor) -> Tensor:
    return F.max_pool3d(backbone.feature_map(clips_NCTHW), WINDOW).flatten(1)


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
