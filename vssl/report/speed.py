"""How fast finished stages were, from the store alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

Kind = tuple[str, str]
"""What stages are compared by: their name, and their backbone as JSON."""


@dataclass(frozen=True)
class Speed:
    """Clips per second of finished stages, the GPUs that each of them used, and the device (cpu, cuda).

    loader_cores: cores that load for one process and never let it wait: the processor time of loading, by the
    time that was not spent waiting. None where nobody measured it.
    """

    clips_per_s: float
    gpus: float
    device: str
    loader_cores: float | None


class _Run(NamedTuple):
    ended: float
    device: str
    clips: int
    seconds: float
    gpus: int
    loader_seconds: float | None
    busy_seconds: float


def kind(spec: StageSpec) -> Kind:
    """The kind of a stage."""
    return spec.name, json.dumps(spec.recipe.backbone, sort_keys=True)


def speeds(store: StageStore, kinds: Iterable[Kind]) -> dict[Kind, Speed]:
    """The mean speed of finished stages of each kind that has any, on the device that the latest ran on."""
    wanted = set(kinds)
    runs = defaultdict(list)
    for name in {name for name, _ in wanted}:
        for found, run in _finished(store, name):
            runs[found].append(run)
    return {found: _mean(runs[found]) for found in wanted & set(runs)}


def _mean(runs: list[_Run]) -> Speed:
    device = max(runs).device
    alike = [run for run in runs if run.device == device]
    seconds = sum(run.seconds for run in alike)
    gpu_seconds = sum(run.gpus * run.seconds for run in alike)
    return Speed(sum(run.clips for run in alike) / seconds, gpu_seconds / seconds, device, _cores(alike))


def _cores(runs: list[_Run]) -> float | None:
    """Of processes that share a stage, each needs its part of the cores."""
    loading = [run.loader_seconds / max(1, run.gpus) for run in runs if run.loader_seconds is not None]
    busy = sum(run.busy_seconds for run in runs if run.loader_seconds is not None)
    return sum(loading) / busy if busy else None


def _finished(store: StageStore, name: str) -> Iterator[tuple[Kind, _Run]]:
    """The stages of one name whose clips and seconds are known."""
    for stage in store.finished(name):
        cost, device = stage.finished.cost, stage.finished.provenance["device"].partition(":")[0]
        if cost.clips and cost.seconds:
            when, busy = (stage.folder / "result.json").stat().st_mtime, cost.seconds - cost.waiting_seconds
            yield (
                kind(stage.spec),
                _Run(when, device, cost.clips, cost.seconds, cost.gpus, cost.loader_seconds, busy),
            )
