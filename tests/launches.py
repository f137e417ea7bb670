"""What whole launches left behind, and launches that are killed."""

import json
import os
import signal
from pathlib import Path

import torch

from conftest import start


def stage_folders(outputs, name="*"):
    return sorted(path.parent for path in Path(outputs).glob(f"stages/{name}/*/result.json"))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(outputs):
    """All weights and final checkpoints of a run, by stage and key."""
    files = Path(outputs).glob("stages/*/*/*.pt")
    return {f"{path.parent.parent.name}/{path.name}": torch.load(path) for path in files}


def assert_identical(one, two, where=""):
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for name in one:
            if name != "cost":
                assert_identical(one[name], two[name], f"{where}/{name}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


def assert_same_run(one, two):
    """All weights, checkpoints and lines of metrics of two runs are the same."""
    assert_identical(weights(one), weights(two))
    for here, there in zip(stage_folders(one), stage_folders(two), strict=True):
        same, other = ([{**line, "time": None} for line in lines(folder)] for folder in (here, there))
        assert same == other


def kill_at(outputs, data, steps, *overrides):
    """Start a launch in its own session and kill all its processes once so many steps are logged."""

    def has_done_them():
        files = Path(outputs).glob("stages/*/*/metrics.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files) >= steps

    process = start(has_done_them, outputs, data, *overrides)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


LONG = [
    "auxiliary.training.epochs=12",
    "pretext.training.epochs=12",
    "runtime.save_every_s=0",
    "runtime.workers=1",
    "protocol.test.sampler.num_clips=2",
]
