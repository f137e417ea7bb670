"""mode=plan: what a launch would do, and cost. It refuses what a run refuses, and writes nothing."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from vssl import pipeline
from vssl.pipeline import Point
from vssl.preflight import Preflight, preflight
from vssl.report.collect import not_run
from vssl.report.formats import not_run_words
from vssl.report.speed import Speed, group, speeds
from vssl.report.table import PlanRow, plan_table
from vssl.stage.compared import differences, nearest_finished
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.words import NONE

plan = partial(pipeline.plan, provisional=True)
"""Data sets that are not checked have their published number of videos."""


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print the forest, how much of it is done, what the rest costs, and what is not known for sure."""
    store = StageStore(Path(cfg.outputs))
    ready = preflight(points, cfg, store)
    rows = _rows(ready, store)
    plan_table(rows, num_points=len(points), num_asked=sum(len(point.chain) for point in points))
    to_do = [(spec, row.clips) for spec, row in zip(ready.forest, rows, strict=True) if row.state != "done"]
    if left := {spec: clips for spec, clips in to_do if clips}:
        print(_cost(left, store, cfg.plan.clips_per_s))
    for words in not_run_words(not_run(cfg.get("sweep") or {})):
        print(f"not run: {words}")
    remarks = [remark for stage in ready.stages.values() for remark in stage.remarks()]
    for line in [*_not_checked(ready.forest), *dict.fromkeys(remarks)]:
        print(line)


def _rows(ready: Preflight, store: StageStore) -> list[PlanRow]:
    near = nearest_finished(ready.forest, store)
    rows = []
    for spec, differs in zip(ready.forest, differences(ready.forest), strict=True):
        key = NONE if spec.is_provisional else spec.key
        state = "done" if store.result(spec) is not None else f"to do{near.get(spec, '')}"
        words = ", ".join([spec.recipe.words, *differs])
        rows.append(PlanRow(key, spec.name, words, state, ready.stages[spec].clips))
    return rows


def _not_checked(forest: Sequence[StageSpec]) -> Iterator[str]:
    """Which data sets are not checked, and the command that checks them."""
    specs = [spec for spec in forest if spec.recipe.is_provisional]
    roots = {spec.recipe.data_name: spec.paths.get("root", "DIR") for spec in specs}
    if roots:
        places = " ".join(f"roots.{name}={root}" for name, root in roots.items())
        yield (
            f"not checked: {', '.join(roots)}; counted as published, and stages have no key before: "
            f"python launch.py {'-m ' if len(roots) > 1 else ''}mode=check source={','.join(roots)} {places}"
        )


def _cost(left: dict[StageSpec, int], store: StageStore, given: float | None) -> str:
    """Clips and time of the stages that are left, at the given speed or as stages of their kinds had it."""
    clips = f"to do: {sum(left.values()):,} clips"
    if given is not None:
        return f"{clips}, {_time(sum(left.values()) / given)} on one device at {given:g} clips/s"
    measured = speeds(store, map(group, left))
    known = {spec: measured[group(spec)] for spec in left if group(spec) in measured}
    if not known:
        return f"{clips}; stages of these kinds were never timed here, plan.clips_per_s=... says how fast"
    line = f"{clips}, {_measured_time(left, known)}"
    if missing := len(left) - len(known):
        line += f"; without {missing} stages of kinds never timed here (plan.clips_per_s=... times all)"
    return line


def _measured_time(left: dict[StageSpec, int], known: dict[StageSpec, Speed]) -> str:
    seconds = {spec: left[spec] / speed.clips_per_s for spec, speed in known.items()}
    gpu_seconds = sum(seconds[spec] * speed.gpus for spec, speed in known.items())
    devices = ", ".join(sorted({speed.device for speed in known.values()}))
    words = f"{_time(sum(seconds.values()))} as measured here on {devices}"
    if gpu_seconds:
        words += f" ({gpu_seconds / 3600:,.1f} GPU hours)"
    cores = max(speed.loader_cores for speed in known.values())
    return f"{words}; {cores:.1f} cores that load keep each process busy" if cores else words


def _time(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
