"""R(2+1)D as in VCOP, VideoPace, auxSKD and RSPNet."""

from math import prod

from torch import Tensor, nn

from vssl.backbone.pooled import Triple
from vssl.backbone.resnet3d import ResidualNet, conv3d


def middle_width(channels_in: int, channels_out: int, kernel: Triple) -> int:
    """Channels between the two halves of a factored convolution.

    The largest number with which the halves have no more weights than the full 3D convolution
    (Tran et al. 2018, section 3.5).
    """
    time, height, width = kernel
    full = prod(kernel) * channels_in * channels_out
    return full // (height * width * channels_in + time * channels_out)


class FactoredConv(nn.Module):
    """A spatial convolution, batch norm, ReLU and a temporal convolution in place of a 3D convolution."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        middle = middle_width(channels_in, channels_out, kernel)
        self.spatial = conv3d(channels_in, middle, (1, *kernel[1:]), (1, *stride[1:]))
        self.bn = nn.BatchNorm3d(middle)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = conv3d(middle, channels_out, (kernel[0], 1, 1), (stride[0], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.temporal(self.relu(self.bn(self.spatial(x))))
        return out


class R2Plus1D(ResidualNet):
    """R(2+1)D (Tran et al. 2018, section 3.5) as in VCOP: every convolution of R3D factored.

    Not torchvision's `r2plus1d_18`: here each convolution has a middle width of its own, and stem and
    shortcuts are factored by the same rule. PyTorch's default initialisation.

    blocks: number of blocks of each stage; 1, 1, 1, 1 is the published net.
    """

    def __init__(self, blocks: list[int]) -> None:
        super().__init__(FactoredConv, stem_kernel=(3, 7, 7), blocks=blocks)
