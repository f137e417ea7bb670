"""Heads on pooled features."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


def mlp(widths: Sequence[int], batch_norm: bool) -> nn.Sequential:
    """Linear layers from each width to the next; ReLU, and before it batch norm, after all but the last
    one."""
    inner: list[nn.Module] = []
    for width, hidden in pairwise(widths[:-1]):
        norms = [nn.BatchNorm1d(hidden)] if batch_norm else []
        inner += [nn.Linear(width, hidden), *norms, nn.ReLU(inplace=True)]
    return nn.Sequential(*inner, nn.Linear(widths[-2], widths[-1]))


class UnitHead(nn.Module):
    """Unit vectors [B,D] of what a layer returns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features_BD: Tensor) -> Tensor:
        return F.normalize(self.layer(features_BD))
