"""How each stage of a forest stands, from its folder and from squeue. Imports no torch."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vssl.dispatch.cluster import Job, Slurm
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
    failed or stopped. `log`: the file that tells more. `progress`: how far a stage is that runs, as
    `progress.json` has it.
    """

    stage: StoredStage
    status: Status
    job: str = ""
    detail: str = ""
    log: Path | None = None
    progress: Mapping[str, float] | None = None

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


def states(forest: Sequence[StageSpec], store: StageStore, cluster: Slurm | None) -> list[State]:
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
        record = self.records.read(stage.spec.key)
        number = record.id if record else ""
        # The stage's own log, or what its job printed if it came to none.
        paths = [stage.folder / "log.txt", *([self.records.log(number)] if number else [])]
        log = next((path for path in paths if path.exists()), None)
        status, detail = self._status(stage.spec, record, self.jobs.get(number), parent)
        progress = self.store.note(stage.spec, "progress.json") if status == "running" else None
        return State(stage, status, number, detail, log, progress)

    def _status(
        self, spec: StageSpec, record: Record | None, job: Job | None, parent: State | None
    ) -> tuple[Status, str]:
        """How a stage without a result stands, and what there is to say of it."""
        if self.store.is_claimed(spec):
            return "running", self._progress(spec, job)
        if job and job.waits:
            return "queued", _with_restarts(job.reason, job)
        if job and job.alive:
            return "running", _with_restarts(f"{job.state.lower()} on {job.node}", job)
        if note := self.store.note(spec, "failed.json"):
            return "failed", (record and self.records.death(record.id)) or note["reason"]
        return self._lost(record, job, parent) if record else self._left(spec)

    def _lost(self, record: Record, job: Job | None, parent: State | None) -> tuple[Status, str]:
        """Of a stage whose job is over and left neither a result nor a word."""
        if parent and parent.status in ("failed", "cancelled"):
            return "cancelled", f"{parent.spec} {parent.status}"
        if record.cancelled or (job and job.state == "CANCELLED"):
            return "cancelled", "its job was cancelled"
        ended = f"ended as {job.state}" if job else "is no longer in the queue"
        return "failed", self.records.death(record.id) or f"its job {ended} and left no result"

    def _left(self, spec: StageSpec) -> tuple[Status, str]:
        """Of a stage without a job that nobody works on."""
        if self.store.note(spec, "owner.json") is None:
            return "to do", ""
        progress = self.store.note(spec, "progress.json")
        step = f"step {progress['step']}, " if progress else ""
        return "stale", f"{step}left by {self.store.owner(spec)}; the same command continues"

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
