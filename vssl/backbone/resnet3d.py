"""R3D, and what all residual networks here share: a stem and four stages of basic blocks.

VCOP, VideoPace and auxSKD publish results for "R3D-18" and "R(2+1)D-18", but their nets have one block
per stage, ten layers deep; the names here (`r3d_10`) say so.
"""

from collections.abc import Callable

from torch import Tensor, nn

from vssl.backbone.pooled import PooledBackbone, Triple, named
from vssl.errors import OptionError

WIDTHS = (64, 128, 256, 512)

MakeConv = Callable[[int, int, Triple, Triple], nn.Module]
"""From input channels, output channels, kernel and stride to a convolution of "same" padding."""


def conv3d(channels_in: int, channels_out: int, kernel: Triple, stride: Triple) -> nn.Module:
    """A 3D convolution that keeps the size at stride 1; without bias, since batch norm follows."""
    time, height, width = kernel
    padding = (time // 2, height // 2, width // 2)
    return nn.Conv3d(channels_in, channels_out, kernel, stride, padding, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions around a shortcut (He et al. 2016, figure 2).

    Where the stride is not 1 the shortcut is a 1x1x1 convolution with batch norm ("type B").
    """

    def __init__(self, make_conv: MakeConv, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        kernel, strides = (3, 3, 3), (stride, stride, stride)
        self.conv1 = make_conv(channels_in, channels_out, kernel, strides)
        self.bn1 = nn.BatchNorm3d(channels_out)
        self.conv2 = make_conv(channels_out, channels_out, kernel, (1, 1, 1))
        self.bn2 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.add_module("conv", make_conv(channels_in, channels_out, (1, 1, 1), strides))
            self.shortcut.add_module("bn", nn.BatchNorm3d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        out: Tensor = self.relu(residual + self.shortcut(x))
        return out


class ResidualNet(PooledBackbone):
    """A stem and four stages of basic blocks; stages 2 to 4 halve time and space.

    make_conv: the convolution of which stem and blocks are made.
    stem_kernel: of the stem's convolution, which has stride (1, 2, 2).
    blocks: number of blocks of each of the four stages.
    """

    feature_dim = WIDTHS[-1]

    def __init__(self, make_conv: MakeConv, stem_kernel: Triple, blocks: list[int]) -> None:
        super().__init__()
        if len(blocks) != len(WIDTHS) or min(blocks) < 1:
            remedy = "give four numbers of 1 or more, one for each stage"
            raise OptionError("blocks", blocks, "no network", remedy)
        self.stem = named(
            conv=make_conv(3, WIDTHS[0], stem_kernel, (1, 2, 2)),
            bn=nn.BatchNorm3d(WIDTHS[0]),
            relu=nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(*(_stage(make_conv, index, count) for index, count in enumerate(blocks)))


def _stage(make_conv: MakeConv, index: int, count: int) -> nn.Sequential:
    width, first = WIDTHS[index], index == 0
    entry = BasicBlock(make_conv, WIDTHS[max(index - 1, 0)], width, stride=1 if first else 2)
    return nn.Sequential(entry, *(BasicBlock(make_conv, width, width, stride=1) for _ in range(1, count)))


class R3D(ResidualNet):
    """R3D (Tran et al. 2018, section 3) as in VCOP, VideoPace and auxSKD.

    Stem 3x7x7, no max-pool, PyTorch's default initialisation. With equal weights it computes what
    torchvision's `VideoResNet` of plain 3D convolutions does; torchvision's initialisation differs.

    blocks: number of blocks of each stage; 1, 1, 1, 1 is the published net.
    """

    def __init__(self, blocks: list[int]) -> None:
        super().__init__(conv3d, stem_kernel=(3, 7, 7), blocks=blocks)
