"""How long and how fast to learn: plain values and pure functions of progress."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from vssl.errors import VsslError


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent over all parameters alike, BatchNorm and biases included."""

    lr: float
    momentum: float
    weight_decay: float

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimiser for the parameters that need a gradient."""
        trained = [p for p in parameters if p.requires_grad]
        return torch.optim.SGD(
            trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, foreach=True
        )


class Schedule(ABC):
    """Learning rate over time, as a factor on the optimiser's own."""

    @abstractmethod
    def factor_at(self, epoch: int, epochs: int) -> float:
        """Factor during `epoch` (0-based) of `epochs`; it changes between epochs only."""


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply by `factor` every `every_epochs` epochs (auxSKD paper, 4.2)."""

    every_epochs: int
    factor: float

    def factor_at(self, epoch: int, epochs: int) -> float:
        return self.factor ** (epoch // self.every_epochs)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Fall along half a cosine to `final_factor` (RSPNet: 1/1000)."""

    final_factor: float

    def factor_at(self, epoch: int, epochs: int) -> float:
        cosine = (1 + math.cos(math.pi * epoch / epochs)) / 2
        return self.final_factor + (1 - self.final_factor) * cosine


@dataclass(frozen=True)
class Training:
    """A training recipe.

    `batch_size` is the effective batch, the videos behind one optimiser step. `micro_batch` is how many go
    through the network at once: it divides `batch_size`, the rest is gradient accumulation. BatchNorm
    sees micro-batches, so both belong to the recipe.
    """

    epochs: int
    batch_size: int
    micro_batch: int
    drop_last: bool
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
