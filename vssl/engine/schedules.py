"""Schedules: the learning rate as a pure function of progress, so that no checkpoint has to hold it."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vssl.checks import ABOVE_0, Checked, at_least, check_at_least


@dataclass(frozen=True, kw_only=True)
class Schedule(Checked, ABC):
    """Learning rate over a training, as a factor on the optimiser's own.

    per: whether the factor changes with every `epoch` or with every `step`.
    warmup_epochs, warmup_factor: in the first so many epochs the factor rises with every step, linearly from
        `warmup_factor` to what it is at their end.
    """

    depends_on_length: ClassVar[bool]
    """Whether `total` matters. If not, a long training passes through the end of a shorter one."""

    per: Literal["epoch", "step"]
    warmup_epochs: float = field(metadata=at_least(0))
    warmup_factor: float = field(metadata=at_least(0))

    def factor_at(self, epochs: float, total: int) -> float:
        """Factor of the step that begins when `epochs` of `total` epochs are done; fractions count steps."""
        at = max(epochs, self.warmup_epochs)
        factor = self._decay(math.floor(at) if self.per == "epoch" else at, total)
        if epochs >= self.warmup_epochs:
            return factor
        return self.warmup_factor + (factor - self.warmup_factor) * epochs / self.warmup_epochs

    @abstractmethod
    def _decay(self, epochs: float, total: int) -> float:
        """The factor without warm-up."""


@dataclass(frozen=True, kw_only=True)
class StepDecay(Schedule):
    """Multiply by `factor` every `every_epochs` epochs (auxSKD paper, 4.2)."""

    depends_on_length = False

    every_epochs: int = field(metadata=at_least(1))
    factor: float = field(metadata=ABOVE_0)

    def _decay(self, epochs: float, total: int) -> float:
        return self.factor ** int(epochs // self.every_epochs)


@dataclass(frozen=True, kw_only=True)
class MultiStep(Schedule):
    """Multiply by `factor` after given numbers of epochs (RSPNet, C3D on HMDB51: 50, 70 and 90)."""

    depends_on_length = False

    milestones: list[int]
    factor: float = field(metadata=ABOVE_0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for epochs in self.milestones:
            check_at_least("milestones", epochs, 1)

    def _decay(self, epochs: float, total: int) -> float:
        return self.factor ** sum(epochs >= milestone for milestone in self.milestones)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Fall along half a cosine to `final_factor` (RSPNet: 1/1000)."""

    depends_on_length = True

    final_factor: float = field(metadata=at_least(0))

    def _decay(self, epochs: float, total: int) -> float:
        cosine = (1 + math.cos(math.pi * min(epochs, total) / total)) / 2
        return self.final_factor + (1 - self.final_factor) * cosine
