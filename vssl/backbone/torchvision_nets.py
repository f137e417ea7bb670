"""Video networks of torchvision, without their classifiers and with torchvision's initialisation.

The keys of their state dicts are torchvision's own, without those of the classifier.
"""

from typing import Literal

from torch import nn
from torchvision.models import video

from vssl.backbone.pooled import PooledBackbone, set_bn_momentum

Architecture = Literal["r3d_18", "mc3_18", "r2plus1d_18"]


class VideoResNet18(PooledBackbone):
    """R3D-18, MC3-18 or R(2+1)D-18 of torchvision (Tran et al. 2018): two blocks per stage.

    R(2+1)D-18 is not VCOP's net with more blocks; see `vssl.backbone.r2plus1d.R2Plus1D`.
    """

    feature_dim = 512

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        net = getattr(video, architecture)(weights=None)
        self.stem, self.layer1, self.layer2 = net.stem, net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4


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
