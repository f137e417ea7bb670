"""Submit a forest to Slurm and let go: one job per stage that is not done, each waiting for its own parent.

sbatch is called directly and not through submitit, which submits a pickled call per job, needs sacct to know
how jobs are, ignores SIGTERM, does not split arrays at the cluster's limit, and knows no dependencies. What a
job runs here is a file of plain data that the same code reads back (`vssl.worker`).

Stages of one kind go out as job arrays of three shapes, so that a stage waits for its parent and nothing
else: those that can start at once; the children of one parent (`afterok` on its task); and only children,
whose array has the task numbers of their parents' array (`aftercorr`: task 3 waits for task 3). With
kill-on-invalid-dep a stage whose parent failed or was cancelled leaves the queue.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vssl import stop
from vssl.checks import Checked, at_least
from vssl.dispatch.cluster import Job, Slurm
from vssl.dispatch.records import START, JobRecords, Record, worker_command, write_job
from vssl.engine.runtime import Runtime
from vssl.errors import OptionError
from vssl.modules import python_path
from vssl.stage.construct import Machine
from vssl.stage.context import Context, Outcome
from vssl.stage.kind import KINDS, StageKind
from vssl.stage.spec import StageSpec

SIGNAL = "USR2"
FORMS = {
    "memory": (r"\d+[KMGT]?", "give 32G or 500M, say"),
    "time": (r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}|UNLIMITED", "give h:mm:ss or d-hh:mm:ss"),
}
"""How Slurm has some values: as a regular expression, and in words."""


@dataclass(frozen=True)
class Resources(Checked):
    """What a job asks for; None: nothing is asked for, and the cluster's own default holds.

    `gpus` and `memory` (4G, 512M) are per node, `cpus` per process, `time` is as Slurm has it (h:mm:ss).
    `processes` train a stage together (None: one for each GPU of all its nodes). `extra` are further
    arguments of sbatch.
    """

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    nodes: int | None = field(metadata=at_least(1))
    processes: int | None = field(metadata=at_least(1))
    gpus: int | None = field(metadata=at_least(0))
    cpus: int | None = field(metadata=at_least(1))
    memory: str | int | None
    time: str | int | None
    extra: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (form, remedy) in FORMS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(form, str(value), re.IGNORECASE):
                raise OptionError(name, value, "not as Slurm has it", remedy)

    def alone(self) -> Resources:
        """The same for a stage that does not train: one process does it."""
        return replace(self, nodes=1, processes=1)

    @property
    def tasks(self) -> int:
        """Processes that train a stage together, on all nodes."""
        return self.processes or (self.nodes or 1) * max(1, self.gpus or 0)

    def options(self) -> list[str]:
        """Arguments of sbatch. Raises `VsslError` if nodes cannot have as many processes each."""
        nodes, processes = self.nodes or 1, self.tasks
        if processes % nodes:
            raise OptionError("processes", processes, f"not a multiple of nodes={nodes}", "give a multiple")
        same = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "time")}
        named = {
            **same,
            "nodes": nodes,
            "ntasks": processes,
            "ntasks-per-node": processes // nodes,  # or one node might get more of them than it has GPUs
            "gres": f"gpu:{self.gpus}" if self.gpus else None,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
        }
        return [f"--{name}={value}" for name, value in named.items() if value is not None] + self.extra


@dataclass(frozen=True)
class SlurmDispatcher(Checked):
    """Submits what is neither done nor in the queue, and returns at once.

    `max_parallel`: tasks of one array that run at once (None: as many as fit). `max_requeues`: how often a
    stage may go back into the queue. `signal_s`: seconds before its time limit at which a stage saves and
    goes back. `auxiliary`, `pretext`, `finetune` and `test`: what stages of each kind ask for; the config
    makes them of `default`.
    """

    max_parallel: int | None = field(metadata=at_least(1))
    max_requeues: int = field(metadata=at_least(0))
    signal_s: int = field(metadata=at_least(1))
    default: Resources
    auxiliary: Resources
    pretext: Resources
    finetune: Resources
    test: Resources

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("auxiliary", "pretext", "finetune", "test"):
            try:
                getattr(self, name).options()  # says what is wrong before anything is submitted
            except OptionError as error:
                raise error.below(name) from error

    def run(self, forest: Sequence[StageSpec], context: Context) -> list[Outcome]:
        """Submit; return one outcome per stage, in the order of the forest."""
        return Submission(self, context, Slurm()).submit(forest)

    def machines(self, runtime: Runtime) -> dict[str, Machine]:
        """What stages of each kind run on; of what device the nodes have, nothing is known."""
        return {name: Machine(self.resources(kind).tasks) for name, kind in KINDS.items()}

    def resources(self, kind: StageKind) -> Resources:
        """What a stage of this kind asks for."""
        resources: Resources = getattr(self, kind.resources)
        return resources if kind.trains else resources.alone()


class Submission:
    """One launch that sends what is missing to a cluster."""

    def __init__(self, dispatcher: SlurmDispatcher, context: Context, cluster: Slurm) -> None:
        self.dispatcher, self.context, self.cluster = dispatcher, context, cluster
        self.records = JobRecords(Path(context.plain["outputs"]))
        self.placed: dict[StageSpec, str] = {}
        self.outcomes: dict[StageSpec, Outcome] = {}

    def submit(self, forest: Sequence[StageSpec]) -> list[Outcome]:
        """Submit what is missing; return one outcome per stage."""
        jobs = self.cluster.jobs()
        todo = [spec for spec in forest if not self._is_settled(spec, jobs)]
        limit = self.cluster.max_array_size() if todo else 0
        while todo:
            missing = set(todo)
            ready = [spec for spec in todo if not missing.intersection(spec.waits_for)]
            for dependency, tasks in _arrays(ready, self.placed, limit):
                self._send(dependency, tasks)
            todo = [spec for spec in todo if spec not in self.placed]
        return [self.outcomes[spec] for spec in forest]

    def _is_settled(self, spec: StageSpec, jobs: dict[str, Job]) -> bool:
        """Whether the stage is done or has a job that waits for nothing that is to be submitted again."""
        if self.context.store.result(spec) is not None:
            self.outcomes[spec] = Outcome(spec, "reused")
            return True
        record = self.records.read(spec.key)
        job = jobs.get(record.id) if record else None
        if job is None or not job.alive:
            return False
        if spec.parent and spec.parent not in self.outcomes:
            self.cluster.cancel([job.id])  # it waits for a job of its parent that has failed
            return False
        self.placed[spec] = job.id
        self.outcomes[spec] = Outcome(spec, "queued", f"job {job.id} {job.state.lower()}")
        return True

    def _send(self, dependency: str | None, tasks: dict[int, StageSpec]) -> None:
        """Submit stages of one name as an array, each as the task with its number."""
        script, options = self._script(tasks), self._options(dependency, tasks)
        with stop.undivided():  # no job without a record, which the next launch would submit again
            number = self.cluster.submit(script, options)
            for index, spec in tasks.items():
                self.placed[spec] = f"{number}_{index}"
                self.records.write(spec.key, Record(self.placed[spec]))
        for spec in tasks.values():
            job = self.placed[spec]
            after = f", after {self.placed[spec.parent]}" if spec.parent in self.placed else ""
            self.outcomes[spec] = Outcome(spec, "submitted", f"job {job}{after}")

    def _options(self, dependency: str | None, tasks: dict[int, StageSpec]) -> list[str]:
        at_once = f"%{self.dispatcher.max_parallel}" if self.dispatcher.max_parallel else ""
        spec = next(iter(tasks.values()))
        return [
            f"--job-name=vssl-{spec.name}",
            f"--array={','.join(map(str, tasks))}{at_once}",
            f"--output={self.records.log('%A_%a')}",
            "--open-mode=append",  # a requeued job goes on in the same file
            "--requeue",
            f"--signal={SIGNAL}@{self.dispatcher.signal_s}",
            *([f"--dependency={dependency}", "--kill-on-invalid-dep=yes"] if dependency else []),
            *self.dispatcher.resources(spec.kind).options(),
        ]

    def _script(self, tasks: dict[int, StageSpec]) -> str:
        """The batch script: picks the job file of its task, and runs workers in a step, where signals go.

        It runs on the first node, where rank 0 is; each worker learns from Slurm which one it is. The ports
        lie below those that the kernel gives to whoever asks for any.
        """
        files = {index: write_job(spec, self.context.plain) for index, spec in tasks.items()}
        table = " ".join(f"[{index}]={shlex.quote(str(file))}" for index, file in files.items())
        worker = shlex.join(worker_command("JOB")).removesuffix("JOB")
        return f"""#!/bin/bash
export PYTHONPATH={shlex.quote(python_path())}
export MASTER_ADDR=$SLURMD_NODENAME MASTER_PORT=$((10000 + SLURM_JOB_ID % 10000)) LOCAL_WORLD_SIZE=1
export LAST_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n 1)
[ "$MASTER_ADDR" != "$LAST_ADDR" ] || export MASTER_ADDR=127.0.0.1 LAST_ADDR=127.0.0.1
jobs=({table})
echo "{START} ${{SLURM_RESTART_COUNT:-0}} on $SLURM_JOB_NODELIST"
exec srun --kill-on-bad-exit=1 ${{SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK}} \\
    bash -c 'export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
        export PEER_ADDR=$MASTER_ADDR
        [ "$SLURMD_NODENAME" != "$MASTER_ADDR" ] || PEER_ADDR=$LAST_ADDR
        exec "$@"' rank \\
    {worker}"${{jobs[$SLURM_ARRAY_TASK_ID]}}" {self.dispatcher.max_requeues}
"""


def _arrays(
    ready: Sequence[StageSpec], placed: Mapping[StageSpec, str], limit: int
) -> Iterator[tuple[str | None, dict[int, StageSpec]]]:
    """Pack stages whose parents are done or placed into arrays of one name and at most `limit` tasks: what
    they wait for, and each stage by its task's number."""
    children = Counter((spec.name, spec.parent) for spec in ready)
    groups: dict[tuple[str, str | None], list[StageSpec]] = defaultdict(list)
    for spec in ready:
        dependency = _dependency(spec, placed, alone=children[spec.name, spec.parent] == 1)
        groups[spec.name, dependency].append(spec)
    for (_, dependency), specs in groups.items():
        for start in range(0, len(specs), limit):
            chunk = specs[start : start + limit]
            yield dependency, dict(zip(_numbers(dependency, chunk, placed), chunk, strict=True))


def _dependency(spec: StageSpec, placed: Mapping[StageSpec, str], alone: bool) -> str | None:
    """What the stage waits for; `alone` if its parent has no other child of this kind."""
    parent = placed.get(spec.parent) if spec.parent else None
    others = [placed[other] for other in spec.waits_for if other in placed and other != spec.parent]
    if parent and alone and not others:
        return f"aftercorr:{parent.partition('_')[0]}"
    # Whatever comes of a shorter training, this one can do without it; of candidates it sees for itself.
    waits = [f"afterok:{parent}"] * bool(parent) + [f"afterany:{':'.join(others)}"] * bool(others)
    return ",".join(waits) or None


def _numbers(
    dependency: str | None, specs: Sequence[StageSpec], placed: Mapping[StageSpec, str]
) -> list[int]:
    """Task numbers: those of the parents where tasks correspond, else from 0 on."""
    if dependency is None or not dependency.startswith("aftercorr"):
        return list(range(len(specs)))
    return [int(placed[spec.parent].partition("_")[2]) for spec in specs if spec.parent]
