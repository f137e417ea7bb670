"""First-in-first-out memory of unit vectors (MoCo, auxSKD)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl import distributed
from vssl.errors import OptionError

QueueInit = Literal["rows", "columns"]


def check_queue_size(size: int, batch: int) -> None:
    """Raise `OptionError` if a queue cannot hold the keys of one batch."""
    if size < batch:
        problem = f"cannot hold the keys of a batch of {batch}"
        raise OptionError("queue_size", size, problem, f"choose {batch} or more")


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
    def enqueue(self, keys_BD: Tensor) -> None:
        """Replace the B oldest keys, in order. Raises `OptionError` if the queue is smaller than that."""
        size, batch = len(self.keys), len(keys_BD)
        check_queue_size(size, batch)
        # The pointer stays on the device: reading it here would wait for the device in every step.
        rows_B = (self.pointer + torch.arange(batch, device=keys_BD.device)) % size
        self.keys[rows_B] = keys_BD.to(self.keys.dtype)
        self.pointer.copy_((self.pointer + batch) % size)
