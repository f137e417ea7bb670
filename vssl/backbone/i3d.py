"""I3D, the inflated Inception-v1, as in SpeedNet's row of Table 1."""

from torch import Tensor, nn
from torch.nn import functional as F

from vssl.backbone.pooled import PooledBackbone, Triple, named, set_bn_momentum
from vssl.backbone.s3d_g import BN_EPS, MIXED, add_mixed, conv_unit


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad time, height and width by zeros as TensorFlow's "SAME" does.

    An axis of n gets (ceil(n / s) - 1) s + k - n, never less than none, the smaller half in front.
    """
    sizes = x.shape[2:]
    total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(sizes, kernel, stride, strict=True)]
    return F.pad(x, [side for pad in reversed(total) for side in (pad // 2, pad - pad // 2)])


class SameConv3d(nn.Conv3d):
    """A convolution without bias, with "SAME" padding."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Triple, stride: Triple) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, bias=False)
        self.same = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, *self.same))


class SameMaxPool3d(nn.Module):
    """A maximum with "SAME" padding. What it sees comes from a ReLU, so a zero never hides a value."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.same = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, *self.same), *self.same)


def _full(channels_in: int, channels_out: int) -> nn.Sequential:
    return conv_unit(channels_in, channels_out, (3, 3, 3), stride=1)


class I3D(PooledBackbone):
    """I3D (Carreira and Zisserman 2017): Inception-v1 with all convolutions and pools inflated.

    The blocks have the widths of S3D-G; the convolutions are whole, and nothing is gated. Time is halved
    three times, the first time in the stem. PyTorch's default initialisation.
    Deviation: features are a global average; the published net averages windows of 2x7x7.

    bn_momentum: share of each batch in the running statistics of batch norm.
    """

    feature_dim = MIXED["mixed_5c"].out

    def __init__(self, bn_momentum: float) -> None:
        super().__init__()
        wide, half = (1, 3, 3), (1, 2, 2)
        self.layers = named(
            stem=named(
                conv=SameConv3d(3, 64, (7, 7, 7), (2, 2, 2)),
                bn=nn.BatchNorm3d(64, eps=BN_EPS),
                relu=nn.ReLU(inplace=True),
            ),
            pool1=SameMaxPool3d(wide, half),
            conv2b=conv_unit(64, 64, (1, 1, 1), stride=1),
            conv2c=_full(64, 192),
            pool2=SameMaxPool3d(wide, half),
        )
        kernels: dict[str, Triple] = {"mixed_4b": (3, 3, 3), "mixed_5b": (2, 2, 2)}
        pools = {name: SameMaxPool3d(kernel, (2, 2, 2)) for name, kernel in kernels.items()}
        add_mixed(self.layers, _full, pools)
        set_bn_momentum(self, bn_momentum)
