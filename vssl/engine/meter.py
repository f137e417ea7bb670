"""Means of metrics between two log lines, and a check of the loss; neither waits for the device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vssl import distributed


class Meter:
    """Means of metrics since the last reading, over all ranks; part of a checkpoint, so that a resumed run
    logs the same."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Count this rank's part of one step: its metrics, weighted by its share of the samples."""
        self.steps += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def read(self) -> dict[str, float]:
        """Return the means and start over."""
        means = {name: total.item() / self.steps for name, total in self._totals().items()}
        self.sums, self.steps = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the sums over all ranks."""
        return {"sums": self._totals(), "steps": self.steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; rank 0 keeps the sums of all."""
        mine = distributed.rank() == 0
        self.sums = {
            name: total if mine else torch.zeros_like(total) for name, total in state["sums"].items()
        }
        self.steps = state["steps"]

    def _totals(self) -> dict[str, Tensor]:
        """The sums over all ranks; one that had no sample since the last reading does not know the names."""
        names = sorted(set().union(*distributed.all_gather_object(list(self.sums))))
        mine = torch.zeros(len(names), dtype=torch.float64)
        if self.sums:
            mine = torch.stack([self.sums[name] for name in names]).cpu()
        return dict(zip(names, distributed.all_reduce(mine), strict=True))


class FiniteCheck:
    """Finds losses that are not finite. On a GPU it checks those of the previous step, which have arrived by
    then: checking at once would make every step wait."""

    def __init__(self) -> None:
        self._noted: list[tuple[int, list[int], Tensor]] = []
        self._arrived: torch.cuda.Event | None = None

    def note(self, step: int, indices: list[int], loss: Tensor) -> None:
        """Keep the loss of a micro-batch of a step."""
        self._noted.append((step, indices, loss.detach().to("cpu", non_blocking=True)))
        if loss.is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def first_bad(self) -> tuple[int, list[int], float] | None:
        """Step, samples and value of the first noted loss that is not finite; forgets all."""
        if self._arrived is not None:
            self._arrived.synchronize()
        noted, self._noted, self._arrived = self._noted, [], None
        losses = [(step, indices, loss.item()) for step, indices, loss in noted]
        return next((bad for bad in losses if not -float("inf") < bad[2] < float("inf")), None)
