"""Several stages at once, each in processes of its own, with its own GPUs where there are some."""

import os
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from vssl import rendezvous, stop
from vssl.cores import usable_cores
from vssl.dispatch.records import worker_command, write_job
from vssl.errors import VsslError
from vssl.modules import python_path
from vssl.stage.context import Context, Outcome
from vssl.stage.spec import StageSpec

POLL_S = 0.1
GRACE_S = 20.0
"""Seconds from the end of one process of a stage until the others, which miss it, are killed."""


@dataclass
class _Running:
    spec: StageSpec
    processes: list[subprocess.Popen[bytes]]
    started: float
    slot: int
    cause: str | None = None
    """What the first process that failed died of, if it could not say so itself."""
    deadline: float | None = None

    def is_over(self) -> bool:
        """Whether all processes have ended. Once one has failed, the others have little time."""
        codes = [process.poll() for process in self.processes]
        failed = min((code for code in codes if code), default=None)  # signals are negative
        if failed and self.deadline is None:
            self.deadline = time.monotonic() + GRACE_S
            self.cause = cause_of_death(failed)
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.signal(signal.SIGKILL)
        return None not in codes

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to the processes that still run."""
        for process in self.processes:
            process.send_signal(signum)


class Slots:
    """Runs stages whose parents are done, `slots` at a time, each training in `processes` processes."""

    context: Context

    def __init__(self, slots: int, gpus_per_stage: int, processes: int, device: str) -> None:
        self.processes = processes
        gpus = [] if device == "cpu" else visible_gpus(os.environ, torch.cuda.device_count())
        own = shares(gpus, slots, gpus_per_stage, processes)
        self.environments = [{**os.environ, **share, "PYTHONPATH": python_path()} for share in own]
        self.running: list[_Running] = []

    def run(self, todo: list[StageSpec], ended: dict[StageSpec, Outcome], context: Context) -> None:
        """Run the stages of `todo`, parents first; note their outcomes in `ended`."""
        self.context = context
        pending = list(todo)
        with stop.undivided() as came:  # they may come in any number, and no worker is forgotten over one
            try:
                while not came and (pending or self.running):
                    for one in [one for one in self.running if one.is_over()]:
                        self.running.remove(one)
                        ended[one.spec] = self._outcome(one)
                    self._skip_orphans(pending, ended)
                    self._start(pending, ended)
                    context.look()
                    time.sleep(POLL_S)
            finally:
                self._stop(came)

    def _outcome(self, one: _Running) -> Outcome:
        seconds = time.monotonic() - one.started
        if one.cause is None:
            return Outcome(one.spec, "done", "", seconds)
        note = self.context.store.note(one.spec, "failed.json")
        if note and not one.cause.startswith("killed"):
            reason: str = note["reason"]
        else:
            reason = one.cause
            self.context.store.fail(one.spec, reason)
        self.context.say(f"{one.spec}: failed: {reason}")
        return Outcome(one.spec, "failed", reason, seconds)

    def _skip_orphans(self, pending: list[StageSpec], ended: dict[StageSpec, Outcome]) -> None:
        """Give up the stages below a failed one; `pending` has parents before children."""
        for spec in list(pending):
            parent = ended.get(spec.parent) if spec.parent else None
            if parent and parent.status in ("failed", "skipped"):
                ended[spec] = Outcome(spec, "skipped", f"{spec.parent} {parent.status}")
                pending.remove(spec)

    def _start(self, pending: list[StageSpec], ended: Mapping[StageSpec, Outcome]) -> None:
        """Fill the free slots with stages that can start; those that nobody else runs come first."""
        ready = [spec for spec in pending if all(other in ended for other in spec.waits_for)]
        free = sorted(set(range(len(self.environments))) - {one.slot for one in self.running})
        if free and ready:
            ready.sort(key=self.context.store.is_claimed)
        for slot, spec in zip(free, ready, strict=False):
            pending.remove(spec)
            command = worker_command(write_job(spec, self.context.plain))
            together = rank_variables(self.processes if spec.kind.trains else 1)
            one = _Running(spec, [], time.monotonic(), slot)
            self.running.append(one)  # before its processes: `_stop` ends those that have started
            with stop.without_ctrl_c(), confined(own_cores(slot, len(self.environments))):
                for own in together:
                    one.processes.append(subprocess.Popen(command, env={**self.environments[slot], **own}))

    def _stop(self, came: list[int]) -> None:
        """Ask the workers that still run to save and stop, and wait for them; Ctrl-C meanwhile kills them."""
        self._signal(signal.SIGTERM)
        if self.running:
            self.context.say("stages that run save their state and stop; Ctrl-C kills them")
        before = came.count(signal.SIGINT)
        while [one for one in self.running if not one.is_over()]:
            if came.count(signal.SIGINT) > before:
                self._signal(signal.SIGKILL)
            time.sleep(POLL_S)

    def _signal(self, signum: signal.Signals) -> None:
        for one in self.running:
            one.signal(signum)


def visible_gpus(environment: Mapping[str, str], count: int) -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:count] if named else [str(i) for i in range(count)]


def own_cores(slot: int, slots: int) -> set[int]:
    """A slot's part of the cores that this process may use; of more slots than cores, some share one. A slot
    alone stays free to move among all."""
    cores = sorted(os.sched_getaffinity(0))
    usable = usable_cores()
    if slots > 1 and usable < len(cores):  # a container's limit; containers on one machine begin elsewhere
        start = zlib.crc32(socket.gethostname().encode()) % len(cores)
        cores = [*cores[start:], *cores[:start]][:usable]
    return set(cores[slot % len(cores) :: slots])


@contextmanager
def confined(cores: set[int]) -> Iterator[None]:
    """Processes that are started in the block see these cores only, from their first thread on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def shares(gpus: list[str], slots: int, gpus_per_stage: int, processes: int) -> list[dict[str, str]]:
    """What the environment of each slot has of its own: its GPUs, plain output."""
    # Workers write to one terminal: a dumb one gets lines instead of bars that draw over one another.
    common = {"TERM": "dumb"}
    if gpus and processes > (each := gpus_per_stage or len(gpus)):
        raise VsslError(
            f"dispatch.processes_per_stage={processes}, but a stage has {each} of {len(gpus)} GPUs, and each "
            "process needs one of its own; lower it, raise dispatch.gpus_per_stage, or say runtime.device=cpu"
        )
    if not gpus or not gpus_per_stage:
        return [common] * slots
    needed = slots * gpus_per_stage
    if needed > len(gpus):
        raise VsslError(
            f"dispatch.max_parallel_stages={slots} with dispatch.gpus_per_stage={gpus_per_stage} needs "
            f"{needed} GPUs, {len(gpus)} are visible; lower one of them (gpus_per_stage=0 shares all)"
        )
    own = [gpus[slot * gpus_per_stage : (slot + 1) * gpus_per_stage] for slot in range(slots)]
    return [{**common, "CUDA_VISIBLE_DEVICES": ",".join(names)} for names in own]


def rank_variables(processes: int) -> list[dict[str, str]]:
    """What tells each of so many processes on this machine who it is, and where to meet the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    count = str(processes)
    here = "127.0.0.1"
    values = [(str(rank), count, str(rank), count, here, str(port), here) for rank in range(processes)]
    return [dict(zip(rendezvous.VARIABLES, own, strict=True)) for own in values]


def cause_of_death(returncode: int) -> str:
    """Why a worker ended that did not say it: a negative code is the number of a signal."""
    if returncode == -signal.SIGKILL:
        return "killed by SIGKILL, perhaps for want of memory (out-of-memory killer)"
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"its process ended with exit status {returncode} and said no more"
