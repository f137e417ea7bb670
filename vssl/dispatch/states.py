"""How each stage of a forest stands, from its folder and from squeue. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vssl.dispatch.cluster import Cluster, Job
from vssl.dispatch.records import JobRecords, Record
from vssl.result import StageResult
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore, StoredStage
from vssl.words import duration

Status = Literal["done", "running", "queued", "failed", "cancelled", "stale", "to do"]


@dataclass(frozen=True)
class State:
    """How a stage stands.

    `job`: its Slurm job, if it has one. `detail`: the headline of a test, progress, or why the stage waits,
    failed or stopped. `log`: the file that tells more.
    """

    stage: StoredStage
    status: Status
    job: str = ""
    detail: str = ""
    log: Path | None = None

    @property
    def spec(self) -> StageSpec:
        """What the stage is."""
        return self.stage.spec

    @property
    def result(self) -> StageResult | None:
        """What it came to; None if it is not done."""
        return self.stage.result

    @property
    def gpu_hours(self) -> float:
        """Hours of GPUs that a finished stage took itself."""
        return self.result.cost.own.gpu_hours if self.result else 0.0


def states(forest: Sequence[StageSpec], store: StageStore, cluster: Cluster | None) -> list[State]:
    """The state of every stage. Slurm is asked only about stages that were submitted and are not done.

    Without a cluster nobody is asked, and a stage whose job has not begun counts as failed.
    """
    reader = _Reader(store)
    stages = {spec: store.stage(spec) for spec in forest}
    if cluster and any(not one.result and reader.records.read(spec.key) for spec, one in stages.items()):
        reader.jobs = cluster.jobs()
    found: dict[StageSpec, State] = {}
    for spec, stage in stages.items():
        found[spec] = reader.state(stage, found.get(spec.parent) if spec.parent else None)
    return list(found.values())


class _Reader:
    def __init__(self, store: StageStore) -> None:
        self.store = store
        self.records = JobRecords(store.root.parent)
        self.jobs: dict[str, Job] = {}

    def state(self, stage: StoredStage, parent: State | None) -> State:
        if stage.result is not None:
            return State(stage, "done", detail=stage.result.reached)
        spec = stage.spec
        record = self.records.read(spec.key)
        number, job = (record.id, self.jobs.get(record.id)) if record else ("", None)
        if self.store.is_claimed(spec):
            return State(stage, "running", number, self._progress(spec, job), self._log(spec, number))
        if job and job.waits:
            return State(stage, "queued", number, _with_restarts(job.reason, job))
        if job and job.alive:
            where = f"{job.state.lower()} on {job.node}"
            return State(stage, "running", number, _with_restarts(where, job), self._log(spec, number))
        if note := self.store.note(spec, "failed.json"):
            reason = (number and self.records.death(number)) or note["reason"]
            return State(stage, "failed", number, reason, self._log(spec, number))
        return self._lost(stage, record, job, parent) if record else self._left(stage)

    def _lost(self, stage: StoredStage, record: Record, job: Job | None, parent: State | None) -> State:
        """A stage whose job is over and left neither a result nor a word."""
        log = self._log(stage.spec, record.id)
        if parent and parent.status in ("failed", "cancelled"):
            return State(stage, "cancelled", record.id, f"{parent.spec} {parent.status}", log)
        if record.cancelled or (job and job.state == "CANCELLED"):
            return State(stage, "cancelled", record.id, "its job was cancelled", log)
        ended = f"ended as {job.state}" if job else "is no longer in the queue"
        reason = self.records.death(record.id) or f"its job {ended} and left no result"
        return State(stage, "failed", record.id, reason, log)

    def _left(self, stage: StoredStage) -> State:
        """A stage without a job that nobody works on."""
        spec = stage.spec
        owner, progress = (self.store.note(spec, f"{name}.json") for name in ("owner", "progress"))
        if owner is None:
            return State(stage, "to do")
        step = f"step {progress['step']}, " if progress else ""
        detail = f"{step}left by {self.store.owner(spec)}; the same command continues"
        return State(stage, "stale", "", detail, self._log(spec, ""))

    def _log(self, spec: StageSpec, number: str) -> Path | None:
        """The stage's own log, or what its job printed if it came to none."""
        paths = [self.store.folder(spec) / "log.txt", *([self.records.log(number)] if number else [])]
        return next((path for path in paths if path.exists()), None)

    def _progress(self, spec: StageSpec, job: Job | None) -> str:
        owner, progress = (self.store.note(spec, f"{name}.json") for name in ("owner", "progress"))
        words = [] if progress is None else [f"step {progress['step']}", share(progress), eta(progress)]
        words += [] if owner is None else [job.node if job and job.node else owner["host"]]
        return _with_restarts(", ".join(words) or "starting", job)


def share(progress: Mapping[str, float]) -> str:
    """Percent that is done, rounded down."""
    return f"{100 * progress['done'] // max(1, progress['total']):.0f}%"


def eta(progress: Mapping[str, float]) -> str:
    """The time left, counted from now."""
    if not progress["rate"]:
        return "ETA ?"
    left = (progress["total"] - progress["done"]) / progress["rate"] - (time.time() - progress["time"])
    return f"ETA {duration(max(0.0, left))}"


def _with_restarts(text: str, job: Job | None) -> str:
    return f"{text}, requeue {job.restarts}" if job and job.restarts else text
