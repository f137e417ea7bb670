"""What a stage costs: time, memory, and energy where a GPU's meter can be read."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vssl.types import Batch


@dataclass(frozen=True)
class Cost:
    """Of one process, or of all processes of a stage.

    `seconds` of wall time; in `waiting_seconds` of them a batch was waited for (a GPU may still
    have computed). `loader_seconds`: of processor time, by all loader processes. `gpus`: 0 on a CPU.
    `peak_memory_bytes`: the most that tensors took on one GPU; on a CPU, that the process has ever taken.
    `energy_joules`: of the GPUs; None where there is no meter.
    """

    seconds: float
    waiting_seconds: float
    loader_seconds: float
    gpus: int
    peak_memory_bytes: int
    energy_joules: float | None


NOTHING = Cost(0.0, 0.0, 0.0, 0, 0, 0.0)


class CostMeter:
    """Counts from its construction on, on top of what earlier runs of the stage have cost."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: Mapping[str, Any] | None = None
        self.waiting_seconds = self.loader_seconds = 0.0  # of this run
        self._energy_mj = _energy_mj(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._began = time.monotonic()

    def wait_for(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch, None at the end; the time until it is there is waiting time."""
        began = time.monotonic()
        batch = next(batches, None)
        self.waiting_seconds += time.monotonic() - began
        return batch

    def waiting_share(self) -> float:
        """Of the time of this run, how much was spent waiting for batches."""
        return self.waiting_seconds / (time.monotonic() - self._began)

    def read(self) -> Cost:
        """What was spent so far."""
        before = self.before or asdict(NOTHING)
        joules, now_mj = None, _energy_mj(self.device)
        if now_mj is not None and self._energy_mj is not None and before["energy_joules"] is not None:
            joules = before["energy_joules"] + (now_mj - self._energy_mj) / 1000
        return Cost(
            before["seconds"] + time.monotonic() - self._began,
            before["waiting_seconds"] + self.waiting_seconds,
            before["loader_seconds"] + self.loader_seconds,
            int(self.device.type == "cuda"),
            max(before["peak_memory_bytes"], _peak_memory(self.device)),
            joules,
        )


def together(costs: Sequence[Cost]) -> dict[str, Any]:
    """The cost of processes that ran side by side, as plain data."""
    joules = [cost.energy_joules for cost in costs]
    whole = Cost(
        max(cost.seconds for cost in costs),
        max(cost.waiting_seconds for cost in costs),
        sum(cost.loader_seconds for cost in costs),
        sum(cost.gpus for cost in costs),
        max(cost.peak_memory_bytes for cost in costs),
        None if None in joules else sum(value for value in joules if value is not None),
    )
    return asdict(whole)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _energy_mj(device: torch.device) -> int | None:
    """The GPU's meter in millijoules; None without a GPU, a driver library, or a meter in the GPU."""
    if device.type != "cuda":
        return None
    import pynvml

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except pynvml.NVMLError:
        return None
