"""A network small enough to train on a CPU, for trying things out and for tests."""

from __future__ import annotations

from torch import Tensor, nn

from vssl.backbone.pooled import PooledBackbone
from vssl.errors import VsslError


class Tiny(PooledBackbone):
    """3x3x3 convolutions, each halving time, height and width, with batch norm and ReLU.

    The first batch norm absorbs the scale of the input (0..255).

    widths: output channels of each convolution; the last one is the feature dimension. With four, each
        point of the feature map sees all frames of a 16-frame clip.
    """

    def __init__(self, widths: list[int]) -> None:
        if not widths:
            raise VsslError("widths=[] is no network: give the channels of at least one convolution")
        super().__init__()
        self.feature_dim = widths[-1]
        inputs = [3, *widths[:-1]]
        self.layers = nn.Sequential(*(_layer(i, o) for i, o in zip(inputs, widths, strict=True)))

    def feature_map(self, clips_BCTHW: Tensor) -> Tensor:
        features: Tensor = self.layers(clips_BCTHW)
        return features


def _layer(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )
