"""A network small enough to train on a CPU, for trying things out and for tests."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from vssl.backbone.pooled import PooledBackbone
from vssl.errors import OptionError


class Tiny(PooledBackbone):
    """3x3x3 convolutions on the differences between frames, with batch norm and ReLU.

    What stands still is gone before the first convolution: a small network that sees the frames
    themselves spends the few steps of a trial on textures, and pace and motion escape it. Each convolution
    halves time, height and width, but the first one keeps all time steps. The first batch norm absorbs
    the scale of the input (0..255).

    widths: output channels of each convolution; the last one is the feature dimension. With four, a
        16-frame clip gives a feature map of two time steps; the first sees its first half, the second all.
    """

    def __init__(self, widths: list[int]) -> None:
        if not widths or min(widths) < 1:
            remedy = "give the channels of at least one convolution, such as [8,16]"
            raise OptionError("widths", widths, "no network", remedy)
        super().__init__()
        self.feature_dim = widths[-1]
        layers = [_layer(i, o, time_stride=2) for i, o in pairwise(widths)]
        self.layers = nn.Sequential(_layer(3, widths[0], time_stride=1), *layers)

    def feature_map(self, clips_BCTHW: Tensor) -> Tensor:
        changes_BCTHW = torch.diff(clips_BCTHW, dim=2, prepend=clips_BCTHW[:, :, :1])  # the first is 0
        return super().feature_map(changes_BCTHW)


def _layer(in_channels: int, out_channels: int, time_stride: int) -> nn.Sequential:
    stride = (time_stride, 2, 2)
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )
