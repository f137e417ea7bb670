"""The forest on a Slurm that is real: `make test-slurm`. See tests/slurm-local.sh for what it needs."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch

from conftest import ROOT, command, environment

pytestmark = pytest.mark.slurm

SMALL_JOBS = [
    "dispatch=slurm",
    "dispatch.default.gpus=0",
    "dispatch.default.cpus=1",
    "dispatch.default.memory=1G",
    "dispatch.default.time=60",
    "dispatch.test.time=30",
    "protocol.test.sampler.num_clips=2",
]
LONG = [
    "auxiliary=none",
    "pretext.training.epochs=100",
]  # and no checkpoint before the last step, unless asked
PATIENCE_S = 600


class RealSlurm:
    """A cluster of two nodes, and launches on it that share one outputs folder."""

    def __init__(self, env, outputs, data):
        self.env, self.outputs, self.data = env, outputs, data

    def run(self, *words):
        done = subprocess.run(
            words, env=self.env, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def launch(self, *overrides):
        return self.run(*command(self.outputs, self.data, *SMALL_JOBS, *overrides))

    def queue(self):
        """Jobs that wait or run."""
        return self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}; {self.queue()} {self.logs()}"
            time.sleep(0.2)

    def drain(self):
        self.until(lambda: not self.queue(), "the end of all jobs")

    def logs(self):
        return "\n".join(path.read_text() for path in sorted(self.outputs.glob("jobs/slurm-*.txt")))

    def steps(self):
        """Lines of metrics of the only pretext stage."""
        [*files] = self.outputs.glob("stages/pretext/*/metrics.jsonl")
        return sum(len(file.read_text().splitlines()) for file in files)

    def job(self, name, count=1):
        """The job ids of the stages of one kind."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %j").splitlines()
        found = sorted(line.split()[0] for line in lines if line.split()[1] == f"vssl-{name}")
        assert len(found) == count
        return found


@pytest.fixture(scope="module")
def cluster_environment():
    missing = [
        name
        for name in ("slurmctld", "munged")
        if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if missing:
        pytest.skip(
            f"needs Slurm: apt-get install --no-install-recommends slurm-wlm munge ({missing} not found)"
        )
    script = str(ROOT / "tests" / "slurm-local.sh")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # short: sockets lie in there
    try:
        done = subprocess.run(
            [script, "start", folder], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        path = f"{folder}/bin:{os.environ['PATH']}"
        yield {**environment(), "SLURM_CONF": f"{folder}/slurm.conf", "PATH": path}
    finally:
        subprocess.run([script, "stop", folder], capture_output=True, check=False, timeout=180)
        shutil.rmtree(folder)


@pytest.fixture
def slurm(cluster_environment, tmp_path, data):
    slurm = RealSlurm(cluster_environment, tmp_path / "out", data)
    yield slurm
    slurm.run("scancel", "--user", slurm.run("id", "-un").strip())
    slurm.drain()


def weights(outputs):
    files = sorted(Path(outputs).glob("stages/*/*/weights.pt"))
    return {file.parent.parent.name: torch.load(file) for file in files}


def test_a_forest_runs_to_its_end(slurm):
    sweep = ["-m", "auxiliary=none", "pretext=none,vspp", "seed=0,1"]
    assert "10 submitted" in slurm.launch(*sweep)
    assert "submitted" not in slurm.launch(*sweep).partition("\n\n")[0]
    slurm.drain()
    assert "10 done" in slurm.launch(*sweep, "mode=status"), slurm.logs()
    again = slurm.launch(*sweep)
    assert "10 reused" in again
    assert "pretext=vspp" in again.split("method")[1]  # the table of results
    assert slurm.queue() == []


def test_a_cancelled_parent_takes_its_children_and_only_them(slurm):
    slurm.launch("-m", *LONG, "seed=0,1")
    slurm.until(lambda: slurm.steps() > 0, "the first step")
    slurm.run("scancel", slurm.job("pretext", 2)[0])
    slurm.until(lambda: len(slurm.queue()) == 3, "the children to leave the queue")
    status = slurm.launch("-m", *LONG, "seed=0,1", "mode=status")
    assert "3 cancelled" in status
    assert "its job was cancelled" in status
    assert status.count("cancelled") >= 6
    again = slurm.launch("-m", *LONG, "seed=0,1")
    assert "3 submitted" in again
    assert "3 queued" in again


def test_mode_cancel_takes_exactly_these_stages_back(slurm):
    slurm.launch("-m", *LONG, "seed=0,1")
    slurm.until(lambda: slurm.steps() > 0, "the first step")
    assert "3 jobs cancelled" in slurm.launch(*LONG, "seed=0", "mode=cancel")
    slurm.until(lambda: len(slurm.queue()) == 3, "the jobs to leave the queue")
    assert "3 cancelled" in slurm.launch(*LONG, "seed=0", "mode=status")
    assert "cancelled" not in slurm.launch(*LONG, "seed=1", "mode=status")


def test_signals_requeues_and_a_lost_node_end_in_the_same_weights(slurm, tmp_path):
    slurm.launch(*LONG)
    [job] = slurm.job("pretext")

    def more_steps(begun=0):
        slurm.until(lambda: slurm.steps() >= begun + 5, "five more steps")
        return slurm.steps()

    done = more_steps()
    slurm.run("scancel", "--signal=USR2", job)
    slurm.until(lambda: "stopped by SIGUSR2; requeue 1 of 20" in slurm.logs(), "the stage to leave")
    slurm.until(lambda: "requeue 1" in slurm.launch(*LONG, "mode=status"), "its status")
    done = more_steps(max(done, slurm.steps()))
    slurm.run("scontrol", "requeue", job)
    slurm.until(lambda: "stopped by SIGTERM; Slurm ends the job" in slurm.logs(), "the stage to save")
    more_steps(max(done, slurm.steps()))
    node = slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        slurm.drain()
    finally:
        slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
    local = command(tmp_path / "local", slurm.data, "protocol.test.sampler.num_clips=2", *LONG)
    subprocess.run(local, env=environment(), cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE_S)
    disturbed, whole = weights(slurm.outputs), weights(tmp_path / "local")
    assert disturbed.keys() == whole.keys() == {"pretext", "finetune"}
    for stage, state in whole.items():
        assert all(torch.equal(tensor, disturbed[stage][name]) for name, tensor in state.items()), stage
    log = next(slurm.outputs.glob("stages/pretext/*/log.txt")).read_text()
    assert log.count(": start") == 4


def test_the_number_of_requeues_is_bounded(slurm):
    slurm.launch(*LONG, "dispatch.max_requeues=0")
    slurm.until(lambda: slurm.steps() > 0, "the first step")
    slurm.run("scancel", "--signal=USR2", *slurm.job("pretext"))
    slurm.drain()
    status = slurm.launch(*LONG, "mode=status")
    assert "stopped by SIGUSR2 after 0 requeues" in status
    assert "1 failed, 2 cancelled" in status


def test_hydras_own_slurm_launcher_runs_each_point_in_a_job(slurm):
    launcher = [
        "-m",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.mem_gb=1",
        "hydra.launcher.cpus_per_task=1",
    ]
    overrides = ["auxiliary=none", "pretext=none", "seed=0,1", "dispatch=local"]
    words = command(slurm.outputs, slurm.data, "protocol.test.sampler.num_clips=2", *launcher, *overrides)
    done = subprocess.run(
        words, env=slurm.env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert len(list(slurm.outputs.glob("stages/test/*/result.json"))) == 2
