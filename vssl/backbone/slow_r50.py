"""Slow R50, the slow pathway of SlowFast alone, as in "A Large-Scale Study on Unsupervised Spatiotemporal
Representation Learning" (Feichtenhofer et al., CVPR 2021)."""

from torch import Tensor, nn

from vssl.backbone.pooled import PooledBackbone, named
from vssl.backbone.resnet3d import conv3d

BLOCKS, WIDTHS, FRAMES = (3, 4, 6, 3), (64, 128, 256, 512), (1, 1, 3, 3)
"""Of the four stages: number of blocks, inner width, frames that the first convolution of a block sees."""

EXPANSION = 4
"""Output channels of a block by its inner width."""


class Bottleneck(nn.Module):
    """Convolutions of t x 1 x 1, 1x3x3 and 1x1x1 around a shortcut; the second has the stride, in space."""

    def __init__(self, channels: int, width: int, frames: int, stride: int) -> None:
        super().__init__()
        out, strides = EXPANSION * width, (1, stride, stride)
        self.conv1, self.bn1 = conv3d(channels, width, (frames, 1, 1), (1, 1, 1)), nn.BatchNorm3d(width)
        self.conv2, self.bn2 = conv3d(width, width, (1, 3, 3), strides), nn.BatchNorm3d(width)
        self.conv3, self.bn3 = conv3d(width, out, (1, 1, 1), (1, 1, 1)), nn.BatchNorm3d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if channels != out:
            self.shortcut.add_module("conv", conv3d(channels, out, (1, 1, 1), strides))
            self.shortcut.add_module("bn", nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        out: Tensor = self.relu(self.bn3(self.conv3(residual)) + self.shortcut(x))
        return out


class SlowR50(PooledBackbone):
    """ResNet-50 on frames whose last two stages see three time steps at once; time keeps its length.

    Kaiming initialisation. Published with 8 frames, 8 apart at 30 a second ("8x8"): two seconds. Which frames
    a clip has is up to the pretext.
    """

    feature_dim = EXPANSION * WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        self.stem = named(
            conv=conv3d(3, 64, (1, 7, 7), (1, 2, 2)),
            bn=nn.BatchNorm3d(64),
            relu=nn.ReLU(inplace=True),
            pool=nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        )
        self.stages, channels = nn.Sequential(), 64
        for count, width, frames in zip(BLOCKS, WIDTHS, FRAMES, strict=True):
            stage = nn.Sequential()
            for block in range(count):
                stride = 2 if block == 0 and width != WIDTHS[0] else 1
                stage.append(Bottleneck(channels, width, frames, stride))
                channels = EXPANSION * width
            self.stages.append(stage)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
