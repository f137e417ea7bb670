import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import ROOT, command, environment
from vssl.dispatch.slots import cause_of_death, shares, visible_gpus
from vssl.errors import VsslError

pytestmark = pytest.mark.slow  # whole pipelines in processes of their own: `make test-slow`


def test_each_slot_has_its_own_gpus():
    gpus = [
        share["CUDA_VISIBLE_DEVICES"] for share in shares(["0", "1", "2", "3"], slots=2, gpus_per_stage=2)
    ]
    assert gpus == ["0,1", "2,3"]
    assert all("CUDA_VISIBLE_DEVICES" not in share for share in shares([], slots=2, gpus_per_stage=1))
    assert all("CUDA_VISIBLE_DEVICES" not in share for share in shares(["0"], slots=2, gpus_per_stage=0))


def test_too_few_gpus_are_an_error():
    with pytest.raises(VsslError, match="needs 4 GPUs, 3 are visible"):
        shares(["0", "1", "2"], slots=2, gpus_per_stage=2)


def test_gpus_that_a_scheduler_gave_are_shared_out_by_their_names():
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "5, 7"}, 2) == ["5", "7"]
    assert visible_gpus({}, 2) == ["0", "1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, 0) == []


def test_a_death_has_a_cause():
    assert "want of memory" in cause_of_death(-signal.SIGKILL)
    assert cause_of_death(-signal.SIGSEGV) == "killed by SIGSEGV"


def children(process):
    """Processes that the launcher has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def start(outputs, data, *overrides):
    process = subprocess.Popen(
        command(outputs, data, "auxiliary=none", "dispatch.slots=2", *overrides),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(Path(outputs).glob("stages/*/*/checkpoint.pt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


LONG = ["pretext.training.epochs=300", "runtime.save_every_s=0"]


def test_a_process_that_is_killed_fails_its_stage_and_no_other(data, tmp_path):
    process = start(tmp_path, data, "pretext=none,vspp", "-m", *LONG, "protocol.test.sampler.num_clips=2")
    pretext = next(tmp_path.glob("stages/pretext/*/owner.json"))
    owner = int(pretext.read_text().split('"pid": ')[1].split(",")[0])
    assert owner in children(process)
    os.kill(owner, signal.SIGKILL)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "killed by SIGKILL" in output
    assert len(list(tmp_path.glob("stages/test/*/result.json"))) == 1
    assert "1 of 5 stages failed, 2 skipped" in output


def test_asked_to_stop_the_workers_save_and_all_end(data, tmp_path):
    process = start(tmp_path, data, *LONG)
    workers = children(process)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM; the same command continues" in output
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers)
    [log] = tmp_path.glob("stages/pretext/*/log.txt")
    assert "interrupted (Stopped: stopped by SIGTERM)" in log.read_text()
