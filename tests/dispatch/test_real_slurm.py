"""The forest on a Slurm that is real: `make test-slurm`. See tests/slurm-local.sh for what it needs."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch

from conftest import ROOT, command, environment
from multiprocess import pretrain, weights

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

    def until(self, condition, what, patience_s=PATIENCE_S):
        deadline = time.monotonic() + patience_s
        while not condition():
            left = self.queue()  # without any job, nothing will change any more
            in_vain = not condition() and (not left or time.monotonic() > deadline)
            assert not in_vain, f"waited in vain for {what}; {left} {self.logs()}"
            time.sleep(0.2)

    def drain(self, patience_s=PATIENCE_S):
        self.until(lambda: not self.queue(), "the end of all jobs", patience_s)

    def logs(self):
        return "\n".join(path.read_text() for path in sorted(self.outputs.glob("jobs/slurm-*.txt")))

    def steps(self):
        """Lines of metrics of the only pretext stage."""
        [*files] = self.outputs.glob("stages/pretext/*/metrics.jsonl")
        return sum(len(file.read_text().splitlines()) for file in files)

    def more_steps(self):
        """Wait until the only pretext stage has trained five steps more than ever before."""
        goal = self.steps() + 5
        self.until(lambda: self.steps() >= goal, "five more steps")

    def set_node(self, node, state):
        self.run("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")

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


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_forest_runs_to_its_end(slurm):
    sweep = ["-m", "+sweeps=quickstart", "seed=0"]
    assert "9 submitted" in slurm.launch(*sweep)
    assert "9 submitted" not in slurm.launch(*sweep)
    slurm.drain()
    assert "9 done" in slurm.launch(*sweep, "mode=status"), slurm.logs()
    again = slurm.launch(*sweep)
    assert "9 reused" in again
    assert "auxSKD + VSPP" in again.split("method")[1]  # the table of results
    assert slurm.queue() == []


def test_jobs_do_not_inherit_the_allocation_they_are_submitted_from(slurm):
    words = command(slurm.outputs, slurm.data, *SMALL_JOBS, "auxiliary=none", "pretext=none")
    slurm.env = {**slurm.env, "SQUEUE_FORMAT": "%i", "SBATCH_GPUS": "2", "SRUN_CPUS_PER_TASK": "7"}
    assert "2 submitted" in slurm.run("salloc", "-n1", "--mem-per-cpu=500M", *words)
    slurm.until(lambda: "2 done" in slurm.launch(*words[-2:], "mode=status"), "the end of both")


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
    slurm.more_steps()
    slurm.run("scancel", "--signal=USR2", job)
    slurm.until(lambda: "stopped by SIGUSR2; requeue 1 of 20" in slurm.logs(), "the stage to leave")
    slurm.until(lambda: "requeue 1" in slurm.launch(*LONG, "mode=status"), "its status")
    slurm.more_steps()
    slurm.run("scontrol", "requeue", job)
    slurm.until(lambda: "stopped by SIGTERM; Slurm ends the job" in slurm.logs(), "the stage to save")
    slurm.more_steps()
    node = slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    slurm.set_node(node, "down")
    try:
        slurm.drain()
    finally:
        slurm.set_node(node, "resume")
    local = command(tmp_path / "local", slurm.data, "protocol.test.sampler.num_clips=2", *LONG)
    subprocess.run(local, env=environment(), cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE_S)
    disturbed, whole = weights(slurm.outputs), weights(tmp_path / "local")
    assert disturbed.keys() == whole.keys() == {"pretext", "finetune"}
    for stage, state in whole.items():
        assert same(state, disturbed[stage]), stage
    log = next(slurm.outputs.glob("stages/pretext/*/log.txt")).read_text()
    assert log.count(": start") == 4


SHARED = ["auxiliary=none", "pretext.training.epochs=60", "pretext.training.micro_batch=4"]
ON_TWO_NODES = [*SHARED, "dispatch.pretext.nodes=2", "dispatch.pretext.processes=2"]


@pytest.fixture(scope="module")
def without_randomness(data, tmp_path_factory):
    """The weights that two processes train without Slurm."""
    outputs = tmp_path_factory.mktemp("without_randomness")
    pretrain(outputs, 2, *data, *SHARED)
    return weights(outputs)["pretext"]


def pretext(slurm):
    """The weights of the pretext stage once it is done."""
    slurm.until(lambda: list(slurm.outputs.glob("stages/pretext/*/result.json")), "the end of pretext")
    return weights(slurm.outputs)["pretext"]


def test_two_nodes_that_are_signalled_and_requeued_train_the_same_weights(slurm, without_randomness):
    slurm.launch(*ON_TWO_NODES)
    slurm.more_steps()
    [job] = slurm.job("pretext")
    assert slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%D").strip() == "2"
    slurm.run("scancel", "--signal=USR2", job)
    slurm.until(lambda: "requeue 1 of 20" in slurm.logs(), "the stage to leave")
    slurm.more_steps()
    slurm.run("scontrol", "requeue", job)
    slurm.until(lambda: "stopped by SIGTERM; Slurm ends the job" in slurm.logs(), "the stage to save")
    assert same(pretext(slurm), without_randomness)
    [log] = slurm.outputs.glob("stages/pretext/*/log.txt")
    assert log.read_text().count(": start") == 3


def worker(outputs, rank):
    """The process of a rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words, variables = ((folder / name).read_text().split("\0") for name in ("cmdline", "environ"))
        except OSError:  # it has ended
            continue
        if (
            words[1:3] == ["-m", "vssl.worker"]
            and f"RANK={rank}" in variables
            and words[3].startswith(outputs)
        ):
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def test_a_lost_process_fails_the_stage_a_lost_node_does_not(slurm, without_randomness):
    slurm.launch(*ON_TWO_NODES)
    slurm.more_steps()
    os.kill(worker(str(slurm.outputs), 1), signal.SIGKILL)
    slurm.drain(patience_s=60)
    status = slurm.launch(*ON_TWO_NODES, "mode=status")
    assert "task 1: Killed" in status
    assert "1 failed, 2 cancelled" in status
    assert "3 submitted" in slurm.launch(*ON_TWO_NODES)
    slurm.more_steps()
    [job] = slurm.job("pretext")
    slurm.set_node("127.0.0.2", "down")
    try:
        slurm.until(lambda: f"{job} PENDING" in slurm.queue(), "the job to go back into the queue")
        assert "queued" in slurm.launch(*ON_TWO_NODES)
    finally:
        slurm.set_node("127.0.0.2", "resume")
    assert same(pretext(slurm), without_randomness)


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
