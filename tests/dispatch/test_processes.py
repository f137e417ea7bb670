"""Stages that two processes train together: `dispatch.processes_per_stage=2`."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from conftest import start
from multiprocess import pretrain, weights

pytestmark = pytest.mark.slow  # every process imports torch: `make test-slow`

HALVES = [
    "pretext=rspnet",
    "pretext.queue_size=20",
    "pretext.training.epochs=12",
    "pretext.training.micro_batch=4",
    "protocol.training.micro_batch=4",
]
"""RSPNet with each step in two micro-batches: what two processes can share."""
BOTH = [*HALVES, "auxiliary.training.micro_batch=4"]
"""The same after auxSKD."""


@pytest.fixture(scope="module")
def together(data, tmp_path_factory):
    """What two processes make of it that nobody disturbs."""
    outputs = tmp_path_factory.mktemp("together")
    assert [outcome.status for outcome in pretrain(outputs, 2, *data, *BOTH)] == ["done", "done"]
    return outputs


def test_two_processes_train_the_same_weights_as_one(together, data, tmp_path):
    """But for the order of sums, and for batch norm's running statistics: one process takes them through all
    micro-batches of a step, two average those that have seen one each."""
    pretrain(tmp_path, 1, *data, *BOTH)
    alone, shared = weights(tmp_path), weights(together)
    assert alone.keys() == shared.keys() == {"auxiliary", "pretext"}
    for stage, state in alone.items():
        for name, tensor in state.items():
            if "running_" not in name and "num_batches" not in name:
                torch.testing.assert_close(shared[stage][name], tensor, rtol=1e-3, atol=1e-5)


def test_the_result_says_how_a_step_was_shared_out(together):
    [result] = together.glob("stages/pretext/*/result.json")
    assert json.loads(result.read_text())["protocol"]["step"] == "2 processes x 1 micro-batches of 4"


def start_two(outputs, data, *overrides):
    """A launch with two processes per stage, once it has trained some steps of its pretext stage."""
    options = ["dispatch.processes_per_stage=2", "runtime.save_every_s=0", *overrides]
    process = start(lambda: steps(outputs) >= 5, outputs, data, *options)
    assert process.poll() is None, process.communicate()[0]
    return process


def steps(outputs):
    return sum(len(file.read_text().splitlines()) for file in outputs.glob("stages/pretext/*/metrics.jsonl"))


def test_killed_and_started_again_they_end_in_the_same_weights(together, data, tmp_path):
    process = start_two(tmp_path, data, *BOTH)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not list(tmp_path.glob("stages/pretext/*/result.json"))
    assert [outcome.status for outcome in pretrain(tmp_path, 2, *data, *BOTH)] == ["reused", "done"]
    [log] = tmp_path.glob("stages/pretext/*/log.txt")
    assert log.read_text().count(": start") == 2
    whole, continued = weights(together), weights(tmp_path)
    for stage, state in whole.items():
        assert all(torch.equal(tensor, continued[stage][name]) for name, tensor in state.items()), stage


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks_of(process):
    """The processes of the stage by rank."""
    environments = {pid: Path(f"/proc/{pid}/environ").read_text() for pid in children(process.pid)}
    return {rank: pid for pid, own in environments.items() for rank in (0, 1) if f"\0RANK={rank}\0" in own}


def reason(outputs):
    [note] = outputs.glob("stages/pretext/*/failed.json")
    return json.loads(note.read_text())["reason"]


LONG = [*HALVES, "auxiliary=none", "pretext.training.epochs=1000"]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_the_stage_within_a_minute(data, tmp_path, rank):
    process = start_two(tmp_path, data, *LONG)
    os.kill(ranks_of(process)[rank], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert reason(tmp_path).startswith("killed by SIGKILL")
    assert "failed: killed by SIGKILL" in output
    assert "1 of 3 stages failed, 2 skipped" in output


def test_an_error_of_one_is_what_the_stage_failed_of(data, tmp_path):
    """Here the second one loses its loader; the first one only sees that it is alone."""
    process = start_two(tmp_path, data, *LONG, "runtime.workers=1")
    [loader] = children(ranks_of(process)[1])
    os.kill(loader, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the loader worker" in reason(tmp_path), output
    assert f"failed: {reason(tmp_path)}" in output
    [log] = tmp_path.glob("stages/pretext/*/log.txt")
    assert "process 1: the loader worker" in log.read_text()
