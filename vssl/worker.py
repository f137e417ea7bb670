"""Run one stage in this process: `python -m vssl.worker JOB.json [MAX_REQUEUES]`.

Several processes run a stage together if each has the variables of `vssl.rendezvous.VARIABLES`. Exits with
0 if the stage is done (now, or before), with 1 if it failed, and with 128 + the signal if it was asked to
stop; then only rank 0 does, as srun would end it over another one's code before it has said its word.
With MAX_REQUEUES it is a Slurm job, which then goes back into the queue (see `requeue`).
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vssl import stop
from vssl.dispatch.cluster import Slurm
from vssl.errors import VsslError
from vssl.terminal import steady_output

if TYPE_CHECKING:
    from vssl.stage.context import Context
    from vssl.stage.spec import StageSpec

POLL_S = 1.0
MEETING_S = 600.0
"""Seconds that a process waits for the others to come, and to take part in an exchange."""


class _Alone(SystemExit):
    """The stage has failed, and other processes of it may be gone."""

    code: int


def main(path: Path, max_requeues: int | None) -> None:
    """Run the stage of a job file."""
    steady_output()
    stop.listen()  # before the imports that take seconds: a signal must not find the process deaf
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the launcher, which then asks to stop
    try:
        _run_job(path)
    except VsslError as error:
        sys.exit(f"vssl: {error}")
    except _Alone as alone:
        os._exit(alone.code)  # at once: an orderly end would wait for processes that are gone
    except stop.Stopped as stopped:
        _leave(path, stopped, max_requeues)


def _run_job(path: Path) -> None:
    from vssl import distributed
    from vssl.context import open_context
    from vssl.dispatch.records import read_job

    spec, plain = read_job(path)
    waiting = False
    with distributed.init_distributed(MEETING_S):
        context, tracker = open_context(plain)
        try:
            while not _done(spec, context):
                if not waiting and distributed.rank() == 0:
                    print(f"{spec}: {context.store.owner(spec)} is running it; waiting", flush=True)
                waiting = True
                time.sleep(POLL_S)
        finally:
            tracker.leave()


def _done(spec: "StageSpec", context: "Context") -> bool:
    """Run the stage unless it is done; False if another launch owns it. Rank 0 claims it for all."""
    from vssl import distributed

    if distributed.rank() > 0:
        mine, to_do = distributed.broadcast_object((False, False))
        return _run(spec, context) if to_do else mine
    with context.store.claim(spec) as mine:
        to_do = mine and context.store.result(spec) is None
        distributed.broadcast_object((mine, to_do))
        return _run(spec, context) if to_do else mine


def _run(spec: "StageSpec", context: "Context") -> bool:
    from vssl import distributed
    from vssl.stage.run import one_line, run_stage

    try:
        run_stage(spec, context)
        return True
    except stop.Stopped:
        note = context.store.note(spec, "failed.json")
        if note is None:
            raise
        reason: str = note["reason"]  # it had failed before: srun asks all to stop when one process ends so
    except Exception as error:  # the stage's log has the traceback
        reason = one_line(error)
    if distributed.world_size() == 1:
        sys.exit(f"{spec}: {reason}")
    print(f"{spec}, process {distributed.rank()}: {reason}", file=sys.stderr, flush=True)
    raise _Alone(1)


def _leave(path: Path, stopped: stop.Stopped, max_requeues: int | None) -> None:
    for signum in stop.SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # Slurm sends more of them to a job that it requeues
    if os.environ.get("RANK", "0") != "0":
        sys.exit(0)
    try:
        print(f"{path.stem[:8]}: {stopped}; {requeue(stopped, max_requeues)}", flush=True)
    except VsslError as error:
        from vssl.dispatch.records import read_job
        from vssl.stage.store import StageStore

        spec, plain = read_job(path)
        StageStore(Path(plain["outputs"])).fail(spec, str(error))
        sys.exit(f"{spec}: {error}")
    sys.exit(stopped.exit_code)


def requeue(stopped: stop.Stopped, max_requeues: int | None) -> str:
    """Requeue this job if that is left to us; return what becomes of the stage, in a few words.

    SIGUSR2 comes ahead of the time limit or of a preemption, and is ours to answer. SIGTERM is not if Slurm
    ends the job already: it was cancelled, or Slurm requeues it by itself. A job that has been started again
    `max_requeues` times already raises `VsslError`. None: this is no job that vssl submitted.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if max_requeues is None or job is None:
        return "the same command continues from the last checkpoint"
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return "the first process of the job sees to the rest"
    slurm = Slurm()
    if stopped.signum == signal.SIGTERM and slurm.state(job) != "RUNNING":
        return "Slurm ends the job"
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if restarts >= max_requeues:
        raise VsslError(
            f"{stopped} after {restarts} requeues, and dispatch.max_requeues={max_requeues}; "
            "the same command submits the stage again, which continues from its last checkpoint"
        )
    slurm.requeue(job)
    return f"requeue {restarts + 1} of {max_requeues}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
