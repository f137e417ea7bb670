"""Several stages at once, each in a process of its own, each with its own GPUs where there are some."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vssl.dispatch.job import python_path, worker_command, write_job
from vssl.errors import VsslError
from vssl.stage.run import Context, Outcome
from vssl.stage.spec import StageSpec

POLL_S = 0.1


@dataclass(frozen=True)
class _Running:
    spec: StageSpec
    process: subprocess.Popen[bytes]
    started: float
    slot: int


class Slots:
    """Runs stages whose parents are done in `slots` worker processes."""

    def __init__(self, slots: int, gpus_per_stage: int, context: Context) -> None:
        self.context = context
        gpus = [] if context.runtime.device == "cpu" else visible_gpus(os.environ, torch.cuda.device_count())
        self.environments = [
            {**os.environ, **own, "PYTHONPATH": python_path()} for own in shares(gpus, slots, gpus_per_stage)
        ]
        self.running: list[_Running] = []

    def run(self, todo: list[StageSpec], ended: dict[StageSpec, Outcome]) -> None:
        """Run the stages of `todo`, parents first; note their outcomes in `ended`."""
        pending = list(todo)
        try:
            while pending or self.running:
                for outcome in self._collect():
                    ended[outcome.spec] = outcome
                self._skip_orphans(pending, ended)
                self._start(pending, ended)
                time.sleep(POLL_S)
        finally:
            self._stop()

    def _collect(self) -> list[Outcome]:
        """The outcomes of workers that have ended."""
        over = [one for one in self.running if one.process.poll() is not None]
        self.running = [one for one in self.running if one not in over]
        return [self._outcome(one) for one in over]

    def _outcome(self, one: _Running) -> Outcome:
        seconds = time.monotonic() - one.started
        if one.process.returncode == 0:
            return Outcome(one.spec, "done", "", seconds)
        note = self.context.store.note(one.spec, "failed.json")
        if note is None:  # it had no time to say why
            note = {"reason": cause_of_death(one.process.returncode)}
            self.context.store.fail(one.spec, note["reason"])
        self.context.say(f"{one.spec}: failed: {note['reason']}")
        return Outcome(one.spec, "failed", note["reason"], seconds)

    def _skip_orphans(self, pending: list[StageSpec], ended: dict[StageSpec, Outcome]) -> None:
        """Give up the stages below a failed one; `pending` has parents before children."""
        for spec in list(pending):
            parent = ended.get(spec.parent) if spec.parent else None
            if parent and parent.status in ("failed", "skipped"):
                ended[spec] = Outcome(spec, "skipped", f"{spec.parent} {parent.status}")
                pending.remove(spec)

    def _start(self, pending: list[StageSpec], ended: Mapping[StageSpec, Outcome]) -> None:
        """Fill the free slots with stages that can start; those that nobody else runs come first."""
        ready = [spec for spec in pending if spec.parent is None or spec.parent in ended]
        free = sorted(set(range(len(self.environments))) - {one.slot for one in self.running})
        if free and ready:
            ready.sort(key=self.context.store.is_claimed)
        for slot, spec in zip(free, ready, strict=False):
            command = worker_command(write_job(spec, self.context.plain))
            process = subprocess.Popen(command, env=self.environments[slot])
            self.running.append(_Running(spec, process, time.monotonic(), slot))
            pending.remove(spec)

    def _stop(self) -> None:
        """Ask the workers that still run to save and stop, and wait for them."""
        for one in self.running:
            one.process.terminate()
        for one in self.running:
            one.process.wait()


def visible_gpus(environment: Mapping[str, str], count: int) -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:count] if named else [str(i) for i in range(count)]


def shares(gpus: list[str], slots: int, gpus_per_stage: int) -> list[dict[str, str]]:
    """What the environment of each slot has of its own: its GPUs, its share of the cores, plain output."""
    cores = max(1, len(os.sched_getaffinity(0)) // slots)
    # Workers write to one terminal: a dumb one gets lines instead of bars that draw over one another.
    common = {"TERM": "dumb", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))}
    if not gpus or not gpus_per_stage:
        return [common] * slots
    needed = slots * gpus_per_stage
    if needed > len(gpus):
        raise VsslError(
            f"dispatch.slots={slots} with dispatch.gpus_per_stage={gpus_per_stage} needs {needed} GPUs, "
            f"{len(gpus)} are visible; lower one of them (gpus_per_stage=0: all slots share all GPUs)"
        )
    own = [gpus[slot * gpus_per_stage : (slot + 1) * gpus_per_stage] for slot in range(slots)]
    return [{**common, "CUDA_VISIBLE_DEVICES": ",".join(names)} for names in own]


def cause_of_death(returncode: int) -> str:
    """Why a worker ended that did not say it: a negative code is the number of a signal."""
    if returncode == -signal.SIGKILL:
        return "killed by SIGKILL, perhaps for want of memory (out-of-memory killer)"
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"its process ended with exit status {returncode} and said no more"
