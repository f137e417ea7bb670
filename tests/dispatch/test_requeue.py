import signal

import pytest

from vssl import worker
from vssl.errors import VsslError
from vssl.stop import Stopped

USR2, TERM = Stopped(signal.SIGUSR2), Stopped(signal.SIGTERM)


class FakeSlurm:
    requeued = None
    says = "RUNNING"

    def state(self, job):
        return self.says

    def requeue(self, job):
        self.requeued.append(job)


@pytest.fixture
def slurm(monkeypatch):
    monkeypatch.setattr(worker, "Slurm", FakeSlurm)
    monkeypatch.setattr(FakeSlurm, "requeued", [])
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return FakeSlurm


def test_the_time_limit_signal_requeues(slurm):
    assert worker.requeue(USR2, 20) == "requeue 1 of 20"
    assert slurm.requeued == ["12"]


def test_the_number_of_requeues_is_bounded(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert worker.requeue(USR2, 3) == "requeue 3 of 3"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    with pytest.raises(VsslError, match="after 3 requeues, and dispatch"):
        worker.requeue(USR2, 3)
    assert slurm.requeued == ["12"]


def test_sigterm_requeues_only_a_job_that_slurm_does_not_end(slurm, monkeypatch):
    """Preemption with a grace time leaves it running; scancel and scontrol requeue do not."""
    assert worker.requeue(TERM, 20) == "requeue 1 of 20"
    monkeypatch.setattr(slurm, "says", "COMPLETING")
    assert worker.requeue(TERM, 20) == "Slurm ends the job"
    assert slurm.requeued == ["12"]


def test_one_process_of_several_requeues(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    worker.requeue(USR2, 20)
    assert slurm.requeued == []


def test_jobs_of_others_are_left_alone(slurm, monkeypatch):
    assert "same command continues" in worker.requeue(USR2, None)  # an interactive job
    monkeypatch.delenv("SLURM_JOB_ID")
    assert "same command continues" in worker.requeue(USR2, 20)
    assert slurm.requeued == []
