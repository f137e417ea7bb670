"""C3D with batch norm, as in VCOP, VideoPace and RSPNet."""

from collections.abc import Iterator

from torch import nn

from vssl.backbone.pooled import PooledBackbone, named

WIDTHS = {"1": 64, "2": 128, "3a": 256, "3b": 256, "4a": 512, "4b": 512, "5a": 512, "5b": 512}
POOLED = {"1": (1, 2, 2), "2": (2, 2, 2), "3b": (2, 2, 2), "4b": (2, 2, 2)}
"""Max-pooling after a convolution: kernel and stride."""


class C3D(PooledBackbone):
    """C3D (Tran et al. 2015) up to conv5b: eight 3x3x3 convolutions, each with bias, batch norm and ReLU.

    Deviation from the paper, as in the code of all three methods: batch norm, and a global average in
    place of pool5, fc6 and fc7.
    """

    feature_dim = WIDTHS["5b"]

    def __init__(self) -> None:
        super().__init__()
        self.layers = named(**dict(_layers()))


def _layers() -> Iterator[tuple[str, nn.Module]]:
    channels = 3
    for name, width in WIDTHS.items():
        yield f"conv{name}", nn.Conv3d(channels, width, kernel_size=3, padding=1)
        yield f"bn{name}", nn.BatchNorm3d(width)
        yield f"relu{name}", nn.ReLU(inplace=True)
        if name in POOLED:
            yield f"pool{name}", nn.MaxPool3d(POOLED[name])
        channels = width
