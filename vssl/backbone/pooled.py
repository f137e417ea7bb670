"""What the published backbones share."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from vssl.checks import check_share
from vssl.types import Backbone

Triple = tuple[int, int, int]
"""Time, height, width."""


class PooledBackbone(Backbone):
    """A backbone whose features are the mean of its last feature map over time and space."""

    @abstractmethod
    def feature_map(self, clips_BCTHW: Tensor) -> Tensor:
        """Return the last feature map [B, feature_dim, t, h, w], before global pooling."""

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return globally pooled features [B, feature_dim]."""
        return self.feature_map(clips_BCTHW).mean(dim=(2, 3, 4))


def set_bn_momentum(net: nn.Module, momentum: float) -> None:
    """Set the share of each batch in the running statistics of every batch norm of a net."""
    check_share("bn_momentum", momentum)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = momentum
