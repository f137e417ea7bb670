"""What becomes of a Slurm job that a signal asked to stop."""

from __future__ import annotations

import os
import signal

from vssl.dispatch.cluster import Slurm
from vssl.errors import VsslError
from vssl.stop import Stopped


def after(stopped: Stopped, max_requeues: int | None) -> str:
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
