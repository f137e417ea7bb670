"""S3D-G as in RSPNet."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vssl.backbone.pooled import PooledBackbone, Triple, named, set_bn_momentum
from vssl.backbone.resnet3d import conv3d

BN_EPS = 1e-3

MakeFull = Callable[[int, int], nn.Module]
"""From input and output channels to what stands for a 3x3x3 convolution."""


class Widths(NamedTuple):
    """Channels of an inception block's branches: 1x1x1; reduce and 3x3x3, twice; after the pool."""

    single: int
    reduce1: int
    conv1: int
    reduce2: int
    conv2: int
    pool: int

    @property
    def out(self) -> int:
        return self.single + self.conv1 + self.conv2 + self.pool


MIXED = {
    "mixed_3b": Widths(64, 96, 128, 16, 32, 32),
    "mixed_3c": Widths(128, 128, 192, 32, 96, 64),
    "mixed_4b": Widths(192, 96, 208, 16, 48, 64),
    "mixed_4c": Widths(160, 112, 224, 24, 64, 64),
    "mixed_4d": Widths(128, 128, 256, 24, 64, 64),
    "mixed_4e": Widths(112, 144, 288, 32, 64, 64),
    "mixed_4f": Widths(256, 160, 320, 32, 128, 128),
    "mixed_5b": Widths(256, 160, 320, 32, 128, 128),
    "mixed_5c": Widths(384, 192, 384, 48, 128, 128),
}


def conv_unit(channels_in: int, channels_out: int, kernel: Triple, stride: int) -> nn.Sequential:
    """Convolution of "same" padding, batch norm, ReLU. The stride holds for time, height and width."""
    return named(
        conv=conv3d(channels_in, channels_out, kernel, (stride, stride, stride)),
        bn=nn.BatchNorm3d(channels_out, eps=BN_EPS),
        relu=nn.ReLU(inplace=True),
    )


class Gate(nn.Module):
    """Feature gating: each channel is scaled by a sigmoid of a linear map of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv3d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        means: Tensor = x.mean(dim=(2, 3, 4), keepdim=True)
        return x * torch.sigmoid(self.linear(means))


def separable(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A spatial unit, a temporal unit and a gate. The spatial one has the whole stride, time included."""
    return named(
        spatial=conv_unit(channels_in, channels_out, (1, size, size), stride),
        temporal=conv_unit(channels_out, channels_out, (size, 1, 1), stride=1),
        gate=Gate(channels_out),
    )


class Inception(nn.Module):
    """Four branches side by side, concatenated along the channels."""

    def __init__(self, channels: int, widths: Widths, make_conv: MakeFull) -> None:
        super().__init__()
        point = (1, 1, 1)
        self.branch0 = conv_unit(channels, widths.single, point, stride=1)
        self.branch1 = nn.Sequential(
            conv_unit(channels, widths.reduce1, point, stride=1),
            make_conv(widths.reduce1, widths.conv1),
        )
        self.branch2 = nn.Sequential(
            conv_unit(channels, widths.reduce2, point, stride=1),
            make_conv(widths.reduce2, widths.conv2),
        )
        self.branch3 = nn.Sequential(
            nn.MaxPool3d(kernel_size=3, stride=1, padding=1),
            conv_unit(channels, widths.pool, point, stride=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def add_mixed(layers: nn.Sequential, make_conv: MakeFull, pools: Mapping[str, nn.Module]) -> None:
    """Append all blocks of MIXED, and ahead of some of them a pool."""
    channels = 192
    for name, widths in MIXED.items():
        if name in pools:
            layers.add_module(f"pool_{name}", pools[name])
        layers.add_module(name, Inception(channels, widths, make_conv))
        channels = widths.out


class S3DG(PooledBackbone):
    """S3D-G (Xie et al. 2018) as in RSPNet.

    Differs from the S3D-G of VideoPace (9,125,072 parameters), which has a full 3D stem and a gate on
    every branch. Gates stand in the separable convolutions only. The stem takes every second frame
    before its temporal convolution sees them. PyTorch's default initialisation.
    Deviation: no dropout, which RSPNet's code defines but does not reach.

    bn_momentum: share of each batch in the running statistics of batch norm.
    """

    feature_dim = MIXED["mixed_5c"].out

    def __init__(self, bn_momentum: float) -> None:
        super().__init__()
        self.layers = named(
            stem=separable(3, 64, size=7, stride=2),
            pool1=nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            conv2b=conv_unit(64, 64, (1, 1, 1), stride=1),
            conv2c=separable(64, 192),
            pool2=nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        )
        pools = {"mixed_4b": nn.MaxPool3d(3, stride=2, padding=1), "mixed_5b": nn.MaxPool3d(2, stride=2)}
        add_mixed(self.layers, separable, pools)
        set_bn_momentum(self, bn_momentum)
