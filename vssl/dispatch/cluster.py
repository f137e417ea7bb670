"""What vssl asks of Slurm. No accounting (sacct): squeue and the stage folders are enough."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from vssl.errors import VsslError

TIMEOUT_S = 60
_COLUMNS = ("JobArrayID:40", "State:20", "Reason:60", "NodeList:80", "RestartCnt:10")
_AT_ONCE = 500  # job ids on one command line
_OTHERS = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|SQUEUE|SCANCEL|SCONTROL)_")
OURS = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
"""What a command of Slurm needs to find its cluster."""
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
ACTIVE = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")


@dataclass(frozen=True)
class Job:
    """A job as Slurm knows it: `id` is 12_3 for task 3 of array 12; `reason` says why it waits."""

    id: str
    state: str
    reason: str
    node: str
    restarts: int

    @property
    def waits(self) -> bool:
        """Whether it has yet to start, or to start again."""
        return self.state in WAITING

    @property
    def alive(self) -> bool:
        """Whether it waits or runs."""
        return self.waits or self.state in ACTIVE


class Slurm:
    """The cluster whose commands are in PATH. A command that fails raises `VsslError` with what it said."""

    def submit(self, script: str, options: Sequence[str]) -> str:
        """Submit a batch script as a job array; return the array's id."""
        return _run("sbatch", "--parsable", *options, stdin=script).strip().split(";")[0]

    def jobs(self) -> dict[str, Job]:
        """This user's jobs by id: all that wait or run, and what is remembered of others."""
        columns = ",".join(f"{column}|" for column in _COLUMNS)
        lines = _run("squeue", "--me", "--noheader", "--array", "--states=all", f"--Format={columns}")
        cells = [[cell.strip() for cell in line.split("|")] for line in lines.splitlines() if line.strip()]
        jobs = [Job(job, state, why, node, int(restarts)) for job, state, why, node, restarts, _ in cells]
        return {job.id: job for job in jobs}

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs; those that ended meanwhile do not matter."""
        for start in range(0, len(ids), _AT_ONCE):
            _run("scancel", "--quiet", *ids[start : start + _AT_ONCE])

    def max_array_size(self) -> int:
        """Number of tasks that one array may have."""
        settings = _run("scontrol", "show", "config")
        return int(re.findall(r"^MaxArraySize\s*=\s*(\d+)", settings, re.MULTILINE)[0])

    def version(self) -> str:
        """What Slurm calls itself; asks no daemon."""
        return _run("squeue", "--version").strip()

    def state(self, job: str) -> str:
        """The state of one job, such as RUNNING or COMPLETING; empty if Slurm does not know it."""
        return _run("squeue", "--noheader", f"--jobs={job}", "--Format=State:20").strip()

    def requeue(self, job: str) -> None:
        """Put a running job back into the queue; Slurm ends it."""
        _run("scontrol", "requeue", job)


def environment() -> dict[str, str]:
    """The environment of Slurm's commands, and so of the jobs: without what an allocation or a habit of the
    user (`salloc --mem-per-cpu`, SBATCH_GPUS, SQUEUE_FORMAT) would ask for in place of the config."""
    return {name: value for name, value in os.environ.items() if name in OURS or not _OTHERS.match(name)}


def _run(*words: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            env=environment(),
            encoding="utf-8",
            errors="surrogateescape",
            timeout=TIMEOUT_S,
            start_new_session=True,  # Ctrl-C is for this process alone, which may have it wait
            check=False,
        )
    except FileNotFoundError as error:
        raise VsslError(f"{words[0]}: no such command; dispatch=slurm needs Slurm on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise VsslError(f"{words[0]}: no answer within {TIMEOUT_S} s; is Slurm up? try again") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise VsslError(f"{words[0]} failed: {said}")
    return done.stdout
