"""What tasks that compare clips share (MoCo, BYOL, auxSKD): similarities, a queue of keys, and a network that
follows another one as its running average."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vssl import distributed
from vssl.errors import OptionError
from vssl.nn.batch_norm import in_shuffled_order
from vssl.types import Progress

QueueInit = Literal["rows", "columns"]

KeyInit = Literal["random", "query"]
"""What a key encoder starts from where an auxiliary stage went before: with `random` from fresh weights, for
the auxSKD paper (4.3) gives those of the stage to the query encoder alone; with `query` from them too.
Without an auxiliary stage the two are the same."""


def dot_products(one_AD: Tensor, other_BD: Tensor) -> Tensor:
    """Dot products [A,B] of two sets of vectors, never in 16 bits: divided by a temperature of 0.02, what
    bfloat16 rounds off a cosine comes to a fifth of a logit."""
    with torch.autocast(one_AD.device.type, enabled=False):
        return one_AD.to(other_BD.dtype) @ other_BD.T


def info_nce(positive_B: Tensor, negatives_BH: Tensor) -> Tensor:
    """Cross-entropy of telling the positive logit from the negative ones, averaged over the batch."""
    logits_BN = torch.cat([positive_B[:, None], negatives_BH], dim=1)
    return -logits_BN.log_softmax(dim=1)[:, 0].mean()


def annealed(start: float, end: float, progress: Progress) -> float:
    """A momentum that goes from `start` to `end` along half a cosine over the training."""
    return start if start == end else end - (end - start) * (1 + math.cos(math.pi * progress.share)) / 2


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

    def start_as(self, key_init: KeyInit, backbone: nn.Module, network: Callable[[], nn.Module]) -> None:
        """With `query`, copy `network()` anew whenever weights are loaded into its `backbone`."""

        def copy_all(*_: object) -> None:
            self.network.load_state_dict(network().state_dict())

        if key_init == "query":
            backbone.register_load_state_dict_post_hook(copy_all)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> MomentumEncoder:
        """Set the mode, but not that of the network."""
        super().train(mode)
        self.network.train()
        return self


class FrozenEncoder(nn.Module):
    """A network of its own, with the weights that it has: nothing moves it, and it is always in evaluation
    mode.

    In the place of a `MomentumEncoder`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Encode clips, without a gradient."""
        embeddings_BD: Tensor = self.network(clips_BCTHW)
        return embeddings_BD

    def follow(self, network: nn.Module, momentum: float) -> None:
        """Stay."""

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Set the mode, but not that of the network."""
        super().train(mode)
        self.network.eval()
        return self


class KeyQueue(nn.Module):
    """The last `size` keys, as rows of the buffer `keys` [size, dim]; `pointer` is the oldest one's row.

    A ring: a batch may wrap round the end, so that any batch size goes with any queue size. It starts
    with Gaussian noise from torch's generator, normalised by `init`: `rows` makes every key a unit
    vector; `columns` normalises over the keys, as the released auxSKD code does (which makes them
    much shorter, until real keys have replaced them all).
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int, init: QueueInit) -> None:
        super().__init__()
        noise_HD = torch.randn(size, dim)
        self.register_buffer("keys", F.normalize(noise_HD, dim=1 if init == "rows" else 0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self._held: list[Tensor] = []

    def hold(self, keys_BD: Tensor) -> None:
        """Keep the keys of one forward until `enqueue_held`, in training mode only."""
        if self.training:
            self._held.append(keys_BD.detach())

    def enqueue_held(self) -> None:
        """Enqueue the keys of one step's forwards, those of all ranks in order."""
        none = self.keys.new_zeros(0, self.keys.shape[1])
        self.enqueue(distributed.all_gather_rows(torch.cat([none, *self._held])))
        self._held.clear()

    @torch.no_grad()
    def enqueue(self, keys_BD: Tensor) -> Tensor:
        """Replace the B oldest keys, in order, and return their rows [B]. Raises `OptionError` if the queue
        is smaller than that."""
        size, batch = len(self.keys), len(keys_BD)
        check_queue_size(size, batch)
        # The pointer stays on the device: reading it here would wait for the device in every step.
        rows_B = (self.pointer + torch.arange(batch, device=keys_BD.device)) % size
        self.keys[rows_B] = keys_BD.to(self.keys.dtype)
        self.pointer.copy_((self.pointer + batch) % size)
        return rows_B


def check_queue_size(size: int, batch: int) -> None:
    """Raise `OptionError` if a queue cannot hold the keys of one batch."""
    if size < batch:
        problem = f"cannot hold the keys of a batch of {batch}"
        raise OptionError("queue_size", size, problem, f"choose {batch} or more")


def check_batches(queue_size: int, shuffle_bn: bool, batch_size: int, drop_last: bool) -> None:
    """Raise `OptionError` if the batches of a training do not fit the queue, or cannot be shuffled."""
    check_queue_size(queue_size, batch_size)
    if shuffle_bn and not drop_last:
        problem = "needs full batches, and training.drop_last is false"
        raise OptionError("shuffle_bn", True, problem, "say training.drop_last=true, or shuffle_bn=false")
