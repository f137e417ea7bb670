"""Video networks of torchvision, without their classifiers and with torchvision's initialisation.

The keys of their state dicts are torchvision's own, without those of the classifier.
"""

from typing import Literal

from torch import nn

from vssl.backbone.pooled import PooledBackbone, set_bn_eps, set_bn_momentum
from vssl.compat.torch_private import without_compiler
from vssl.errors import OptionError

with without_compiler():
    from torchvision.models import video

Architecture = Literal["r3d_18", "mc3_18", "r2plus1d_18"]
Stride = Literal[1, 2]


class VideoResNet18(PooledBackbone):
    """R3D-18, MC3-18 or R(2+1)D-18 of torchvision (Tran et al. 2018): two blocks per stage.

    R(2+1)D-18 is not VCOP's net with more blocks; see `vssl.backbone.r2plus1d.R2Plus1D`.

    last_spatial_stride: of the last stage; 1 keeps its map as large as the one before (CtP, which pretrains
        with 1). last_temporal_stride: 1 keeps its time steps, and its first convolution sees every second
        one, so that the weights mean the same (TCLR). Neither changes a weight.
    bn_eps: added to the variance in batch norm; CtP's nets have 1e-3.
    """

    feature_dim = 512

    def __init__(
        self,
        architecture: Architecture,
        last_spatial_stride: Stride,
        last_temporal_stride: Stride,
        bn_eps: float,
    ) -> None:
        super().__init__()
        self.architecture, self.last_temporal_stride = architecture, last_temporal_stride
        net = getattr(video, architecture)(weights=None)
        self.stem, self.layer1, self.layer2 = net.stem, net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        if architecture == "mc3_18" and last_temporal_stride != 1:
            problem = "mc3_18 keeps all time steps"
            raise OptionError("last_temporal_stride", last_temporal_stride, problem, "say 1")
        _set_strides(net.layer4[0], last_temporal_stride, last_spatial_stride)
        set_bn_eps(self, bn_eps)


def _set_strides(entry: nn.Module, time: int, space: int) -> None:
    """Give the first block of a stage other strides. What no longer halves time looks twice as far."""
    for conv in entry.modules():
        if not isinstance(conv, nn.Conv3d):
            continue
        before, conv.stride = (
            conv.stride,
            tuple(min(stride, most) for stride, most in zip(conv.stride, (time, space, space), strict=True)),
        )
        if conv.stride[0] < before[0] and conv.kernel_size[0] > 1:
            conv.dilation, conv.padding = (2, 1, 1), (2, *conv.padding[1:])


class S3D(PooledBackbone):
    """S3D of torchvision (Xie et al. 2018), without gates.

    Deviation: features are a global average; torchvision averages windows of 2x7x7 and then those, which
    needs clips of 224 pixels and counts the first and last time step half.

    bn_momentum: share of each batch in the running statistics of batch norm.
    """

    feature_dim = 1024

    def __init__(self, bn_momentum: float) -> None:
        super().__init__()
        self.features: nn.Module = video.s3d(weights=None).features
        set_bn_momentum(self, bn_momentum)
