"""What a stage costs: time, memory, and energy where a GPU's meter can be read."""

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from vssl.result import Cost
from vssl.types import Batch


class CostMeter:
    """Counts from its construction on, on top of what earlier runs of the stage have cost."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = Cost(0.0, energy_joules=0.0)
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
        before, joules, now_mj = self.before, None, _energy_mj(self.device)
        if now_mj is not None and self._energy_mj is not None and before.energy_joules is not None:
            joules = before.energy_joules + (now_mj - self._energy_mj) / 1000
        return replace(
            before,
            seconds=before.seconds + time.monotonic() - self._began,
            waiting_seconds=before.waiting_seconds + self.waiting_seconds,
            loader_seconds=before.loader_seconds + self.loader_seconds,
            gpus=int(self.device.type == "cuda"),
            peak_memory_bytes=max(before.peak_memory_bytes, _peak_memory(self.device)),
            energy_joules=joules,
        )


def together(costs: Sequence[Cost]) -> Cost:
    """The cost of processes that ran side by side."""
    joules = [cost.energy_joules for cost in costs]
    return replace(
        costs[0],
        seconds=max(cost.seconds for cost in costs),
        waiting_seconds=max(cost.waiting_seconds for cost in costs),
        loader_seconds=sum(cost.loader_seconds for cost in costs),
        gpus=sum(cost.gpus for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        energy_joules=None if None in joules else sum(value for value in joules if value is not None),
    )


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
