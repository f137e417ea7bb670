"""How long and how fast to learn: plain values and pure functions of progress."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from vssl.checks import check_above_0, check_at_least
from vssl.engine.precision import Precision
from vssl.errors import VsslError


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent over all parameters alike, BatchNorm and biases included."""

    lr: float
    momentum: float
    weight_decay: float

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_at_least(name, getattr(self, name), 0)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimiser for the parameters that need a gradient."""
        trained = [p for p in parameters if p.requires_grad]
        on_gpu = all(p.is_cuda for p in trained)
        return torch.optim.SGD(
            trained,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=on_gpu,
            foreach=not on_gpu,
        )


class Schedule(ABC):
    """Learning rate over time, as a factor on the optimiser's own."""

    @abstractmethod
    def factor_at(self, epoch: int, epochs: int) -> float:
        """Factor during `epoch` (0-based) of `epochs`; it changes between epochs only."""

    @property
    @abstractmethod
    def depends_on_length(self) -> bool:
        """Whether `epochs` matters. If not, a long training passes through the end of a shorter one."""


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply by `factor` every `every_epochs` epochs (auxSKD paper, 4.2)."""

    every_epochs: int
    factor: float

    def __post_init__(self) -> None:
        check_at_least("every_epochs", self.every_epochs, 1)
        check_above_0("factor", self.factor)

    def factor_at(self, epoch: int, epochs: int) -> float:
        return self.factor ** (epoch // self.every_epochs)

    @property
    def depends_on_length(self) -> bool:
        return False


@dataclass(frozen=True)
class Cosine(Schedule):
    """Fall along half a cosine to `final_factor` (RSPNet: 1/1000)."""

    final_factor: float

    def factor_at(self, epoch: int, epochs: int) -> float:
        cosine = (1 + math.cos(math.pi * epoch / epochs)) / 2
        return self.final_factor + (1 - self.final_factor) * cosine

    @property
    def depends_on_length(self) -> bool:
        return True


@dataclass(frozen=True)
class Training:
    """A training recipe.

    `batch_size` is the effective batch, the videos behind one optimiser step. `micro_batch` is how many go
    through the network at once: it divides `batch_size`, the rest is dealt to the processes of the stage and,
    within one of them, gradient accumulation. BatchNorm sees micro-batches, so both belong to the recipe.
    With `sync_bn` it is each micro-batch that is dealt to the processes, and batch norm still sees it whole.
    `precision` of the arithmetic: `tf32` rounds the factors of products on a GPU to 10 bits, `bfloat16` is
    torch's mixed precision.
    """

    epochs: int
    batch_size: int
    micro_batch: int
    drop_last: bool
    sync_bn: bool
    precision: Precision
    optimizer: SGD
    schedule: Schedule

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.micro_batch) < 1:
            raise VsslError("epochs, batch_size and micro_batch must be at least 1")
        if self.batch_size % self.micro_batch:
            raise VsslError(
                f"batch_size={self.batch_size} is not a multiple of micro_batch={self.micro_batch}; "
                f"try micro_batch={math.gcd(self.batch_size, self.micro_batch)}"
            )

    def check_ranks(self, processes: int, micro_batches: int) -> None:
        """Raise `VsslError` if a step of so many micro-batches cannot be dealt to the processes evenly."""
        if self.sync_bn:
            if processes > 1 and (self.micro_batch % processes or not self.drop_last):
                raise VsslError(
                    f"sync_bn=true with {processes} processes needs a micro_batch that is a multiple of them "
                    f"(it is {self.micro_batch}) and drop_last=true"
                )
        elif self.batch_size // self.micro_batch % processes or micro_batches < processes:
            raise VsslError(
                f"{processes} processes cannot share {micro_batches} micro-batches evenly (batch_size="
                f"{self.batch_size}, micro_batch={self.micro_batch}, which is what batch norm sees); say "
                f"training.micro_batch={max(1, self.batch_size // processes)} or less, or sync_bn=true"
            )

    def shared_out(self, processes: int) -> str:
        """How a step is computed, in words."""
        micro_batches = self.batch_size // self.micro_batch
        if self.sync_bn and processes > 1:
            return f"{processes} processes x {self.micro_batch // processes} videos, {micro_batches} times"
        return f"{processes} processes x {micro_batches // processes} micro-batches of {self.micro_batch}"
