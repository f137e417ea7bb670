"""A launch in one process that is asked to stop."""

import subprocess
import time

import pytest
import torch

from conftest import ROOT, command, environment

LONG = [
    "auxiliary=none",
    "pretext=none",
    "protocol.training.epochs=40",
    "protocol.test.sampler.num_clips=2",
    "runtime.workers=1",
]


@pytest.mark.slow
def test_it_saves_says_so_and_the_same_command_ends_in_the_same_weights(launch, data, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert launch(f"outputs={whole}", *LONG).returncode == 0
    process = subprocess.Popen(
        command(stopped, data, *LONG), cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not any(file.stat().st_size for file in stopped.glob("stages/finetune/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said == "vssl: stopped by SIGTERM; the same command continues from the last checkpoint\n"
    [saved] = stopped.glob("stages/finetune/*/checkpoint.pt")  # save_every_s is 60
    assert torch.load(saved)["step"] < 80
    done = launch(f"outputs={stopped}", *LONG)
    assert done.returncode == 0, done.stderr
    for file in whole.glob("stages/*/*/weights.pt"):
        ours = torch.load(stopped / file.relative_to(whole))
        assert all(torch.equal(tensor, ours[key]) for key, tensor in torch.load(file).items())


def test_zero_slots_are_a_mistake(launch):
    done = launch("dispatch.max_parallel_stages=0")
    assert done.returncode == 1
    assert "dispatch.max_parallel_stages=0" in done.stderr
