"""Run one stage in this process: `python -m vssl.dispatch.worker JOB.json [MAX_REQUEUES]`.

Exits with 0 if the stage is done (now, or before), with 1 if it failed, and with 128 + the signal if it was
asked to stop. With MAX_REQUEUES it is a Slurm job, which then goes back into the queue (see `requeue`).
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vssl import stop
from vssl.dispatch import requeue
from vssl.errors import VsslError

if TYPE_CHECKING:
    from vssl.stage.run import Context
    from vssl.stage.spec import StageSpec

POLL_S = 1.0


def main(path: Path, max_requeues: int | None) -> None:
    """Run the stage of a job file."""
    stop.listen()  # before the imports that take seconds: a signal must not find the process deaf
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the launcher too, which then asks to stop
    try:
        _run_job(path)
    except VsslError as error:
        sys.exit(f"vssl: {error}")
    except stop.Stopped as stopped:
        _leave(path, stopped, max_requeues)


def _run_job(path: Path) -> None:
    from vssl.dispatch.job import open_context, read_job

    spec, plain = read_job(path)
    context, _ = open_context(plain)
    waiting = False
    while not _done(spec, context):
        if not waiting:
            print(f"{spec}: {context.store.owner(spec)} is running it; waiting", flush=True)
        waiting = True
        time.sleep(POLL_S)


def _done(spec: StageSpec, context: Context) -> bool:
    """Run the stage unless it is done; False if another process owns it."""
    from vssl.stage.run import one_line, run_stage

    with context.store.claim(spec) as mine:
        if mine and context.store.result(spec) is None:
            try:
                run_stage(spec, context)
            except Exception as error:  # the stage's log has the traceback
                sys.exit(f"{spec}: {one_line(error)}")
        return mine


def _leave(path: Path, stopped: stop.Stopped, max_requeues: int | None) -> None:
    for signum in stop.SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # Slurm sends more of them to a job that it requeues
    try:
        print(f"{path.stem[:8]}: {stopped}; {requeue.after(stopped, max_requeues)}", flush=True)
    except VsslError as error:
        from vssl.dispatch.job import read_job
        from vssl.stage.store import StageStore

        spec, plain = read_job(path)
        StageStore(Path(plain["outputs"])).fail(spec, str(error))
        sys.exit(f"{spec}: {error}")
    sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
