"""mode=plan: what a launch would do, and cost.

Trains nothing, writes nothing, imports no MLflow, and torch only where a sampler may leave videos out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, open_dict

from vssl import pipeline
from vssl.data.index import assumed, is_checked
from vssl.errors import VsslError
from vssl.pipeline import Point, describe, merge
from vssl.report.table import NONE, PlanRow, plan_table
from vssl.stage.left_out import left_out
from vssl.stage.spec import StageSpec, data_name
from vssl.stage.speed import Speed, kind, speeds
from vssl.stage.store import StageStore


def plan(cfg: DictConfig) -> list[StageSpec]:
    """The chain of one config, in which a data set that is not checked has its published number of videos."""
    for parent, name in ((cfg, "source"), (cfg.downstream, "train"), (cfg.downstream, "test")):
        if "index" in parent[name]:
            _assume(parent, name)
    return pipeline.plan(cfg)


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print the forest, how much of it is done, what the rest costs, and what is not known for sure."""
    store = StageStore(Path(cfg.outputs))
    forest = merge(point.chain for point in points)
    rows = [_row(spec, store) for spec in forest]
    plan_table(rows, num_points=len(points), num_asked=sum(len(point.chain) for point in points))
    left = [spec for spec, row in zip(forest, rows, strict=True) if row.state == "to do" and spec.clips]
    if left:
        print(_cost(left, store, cfg.plan.clips_per_s))
    for line in _not_checked(forest):
        print(line)
    for line in _left_out(forest):
        print(line)


def _assume(parent: DictConfig, name: str) -> None:
    node = pipeline.plain(parent[name])
    if not is_checked(node) and (stand_in := assumed(node)):
        with open_dict(parent):
            parent[name] = stand_in


def _is_open(spec: StageSpec) -> bool:
    """Whether the key waits for a check: of the stage's own data, or of what it starts from."""
    return any("assumed" in one.recipe["data"] for one in spec.chain)


def _row(spec: StageSpec, store: StageStore) -> PlanRow:
    key = NONE if _is_open(spec) else spec.key
    return PlanRow(key, spec.name, describe(spec), "done" if store.result(spec) else "to do", spec.clips)


def _not_checked(forest: Sequence[StageSpec]) -> Iterator[str]:
    """Which data sets are not checked, and the command that checks them."""
    specs = [spec for spec in forest if "assumed" in spec.recipe["data"]]
    roots = {spec.recipe["data"]["name"]: spec.paths.get("root", "DIR") for spec in specs}
    if roots:
        places = " ".join(f"roots.{name}={root}" for name, root in roots.items())
        yield (
            f"not checked: {', '.join(roots)}; counted as published, and stages have no key before: "
            f"python launch.py {'-m ' if len(roots) > 1 else ''}mode=check source={','.join(roots)} {places}"
        )


def _left_out(forest: Sequence[StageSpec]) -> Iterator[str]:
    """What each stage leaves out, once for stages that do so alike."""
    said: set[str] = set()
    for spec in forest:
        if found := left_out(spec):
            videos = f"{found.videos:,} of {found.of:,} videos of {data_name(spec.recipe['data'])}"
            line = f"left out: {videos}, shorter than the {found.frames} frames that {found.sampler} needs"
            if line not in said:
                said.add(line)
                yield line


def _cost(left: Sequence[StageSpec], store: StageStore, given: float | None) -> str:
    """Clips and time of the stages that are left, at the given speed or as stages of their kinds had it."""
    clips = f"to do: {sum(spec.clips for spec in left):,} clips"
    if given is not None:
        return f"{clips}, {_time(_seconds(left, given))} on one device at {given:g} clips/s"
    measured = speeds(store, map(kind, left))
    known = {spec: measured[kind(spec)] for spec in left if kind(spec) in measured}
    if not known:
        return f"{clips}; stages of these kinds were never timed here, plan.clips_per_s=... says how fast"
    line = f"{clips}, {_measured_time(known)}"
    if missing := len(left) - len(known):
        line += f"; without {missing} stages of kinds never timed here (plan.clips_per_s=... times all)"
    return line


def _seconds(left: Sequence[StageSpec], clips_per_s: float) -> float:
    if clips_per_s <= 0:
        raise VsslError(f"plan.clips_per_s={clips_per_s}: give a number of clips per second")
    return sum(spec.clips for spec in left) / clips_per_s


def _measured_time(known: dict[StageSpec, Speed]) -> str:
    seconds = {spec: spec.clips / speed.clips_per_s for spec, speed in known.items()}
    gpu_seconds = sum(seconds[spec] * speed.gpus for spec, speed in known.items())
    devices = ", ".join(sorted({speed.device for speed in known.values()}))
    words = f"{_time(sum(seconds.values()))} as measured here on {devices}"
    if gpu_seconds:
        words += f" ({gpu_seconds / 3600:,.1f} GPU hours)"
    cores = [speed.loader_cores for speed in known.values() if speed.loader_cores is not None]
    return f"{words}; {max(cores):.1f} cores that load keep each process busy" if cores else words


def _time(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
