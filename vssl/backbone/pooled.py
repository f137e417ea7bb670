"""What the published backbones share."""

from collections import OrderedDict

from torch import Tensor, nn

from vssl.checks import check_above_0, check_share
from vssl.types import Backbone

Triple = tuple[int, int, int]
"""Time, height, width."""


class PooledBackbone(Backbone):
    """A backbone that applies its children in order, and averages the last map over time and space."""

    def feature_map(self, clips_BCTHW: Tensor) -> Tensor:
        out = clips_BCTHW
        for child in self.children():
            out = child(out)
        return out

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        return self.feature_map(clips_BCTHW).mean(dim=(2, 3, 4))


def named(**modules: nn.Module) -> nn.Sequential:
    """Modules one after the other, with names in the state dict."""
    return nn.Sequential(OrderedDict(modules))


def set_bn_momentum(net: nn.Module, momentum: float) -> None:
    """Set the share of each batch in the running statistics of every batch norm of a net."""
    check_share("bn_momentum", momentum)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = momentum


def set_bn_eps(net: nn.Module, eps: float) -> None:
    """Set what every batch norm of a net adds to the variance."""
    check_above_0("bn_eps", eps)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = eps
