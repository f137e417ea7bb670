"""A network that follows another one as its running average (MoCo, BYOL, auxSKD)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vssl.errors import OptionError
from vssl.nn.batch_norm import in_shuffled_order
from vssl.nn.queue import check_queue_size


class MomentumEncoder(nn.Module):
    """Starts as a copy of `network` and follows it by momentum, without a gradient of its own.

    Only parameters follow. It always normalises with the statistics of its own batch, whatever mode the rest
    is in, so its BatchNorm buffers have no effect. With `shuffle_bn` several processes exchange their clips,
    so that batch norm sees others than the ones of `network` (see `in_shuffled_order`).
    """

    def __init__(self, network: nn.Module, shuffle_bn: bool) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.shuffle_bn = shuffle_bn

    @torch.no_grad()
    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Encode clips, without a gradient."""
        if self.shuffle_bn:
            return in_shuffled_order(self.network, clips_BCTHW)
        embeddings_BD: Tensor = self.network(clips_BCTHW)
        return embeddings_BD

    @torch.no_grad()
    def follow(self, network: nn.Module, momentum: float) -> None:
        """Set every parameter to m times itself + (1 - m) times that of `network`; buffers stay."""
        own, others = list(self.network.parameters()), list(network.parameters())
        get_ema_multi_avg_fn(momentum)(own, others, 0)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> MomentumEncoder:
        """Set the mode, but not that of the network."""
        super().train(mode)
        self.network.train()
        return self


def check_batches(queue_size: int, shuffle_bn: bool, batch_size: int, drop_last: bool) -> None:
    """Raise `OptionError` if the batches of a training do not fit the queue, or cannot be shuffled."""
    check_queue_size(queue_size, batch_size)
    if shuffle_bn and not drop_last:
        problem = "needs full batches, and training.drop_last is false"
        raise OptionError("shuffle_bn", True, problem, "say training.drop_last=true, or shuffle_bn=false")
