"""Whole pipelines on a GPU: killed, moved to the CPU and back, and what they note of themselves."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import SMALL, composed, context_in, start
from gpu.conftest import DEVICE, IS_GPU
from gpu.trainings import EXACT, FAST, apart
from launches import LONG, assert_same_run, kill_at, lines, stage_folders
from vssl.pipeline import plan
from vssl.stage.run import run_stage

HERE = [f"runtime.device={DEVICE}", "runtime.deterministic=true"]


def test_a_run_killed_at_several_moments_ends_in_the_same_weights(launch, data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = launch(f"outputs={whole}", *LONG, *HERE)
    assert done.returncode == 0, done.stderr
    for steps in (1, 14, 30):
        kill_at(killed, data, steps, *LONG, *HERE)
    partial = [path for path in killed.glob("stages/*/*") if not (path / "result.json").exists()]
    assert partial, "the kills came too late to test anything"
    done = launch(f"outputs={killed}", *LONG, *HERE)
    assert done.returncode == 0, done.stderr
    assert_same_run(killed, whole)


@pytest.mark.parametrize(("first", "second"), [(DEVICE, "cpu"), ("cpu", DEVICE)])
def test_a_run_goes_on_on_another_device(launch, data, tmp_path, first, second):
    def trains():
        return list(tmp_path.glob("stages/pretext/*/checkpoint.pt"))

    process = start(trains, tmp_path, data, *LONG, f"runtime.device={first}")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    done = launch(*LONG, f"runtime.device={second}")
    assert done.returncode == 0, done.stderr
    results = [json.loads((folder / "result.json").read_text()) for folder in stage_folders(tmp_path)]
    assert {result["provenance"]["device"].split(":")[0] for result in results} == {first, second}
    [folder] = stage_folders(tmp_path, "pretext")
    losses = [line["loss"] for line in lines(folder)]
    assert len(losses) == 24
    assert np.isfinite(losses).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A store with a chain of stages up to the test, trained on the device."""
    outputs = tmp_path_factory.mktemp("trained")
    chain = plan(composed(*SMALL, *data, f"outputs={outputs}"))
    context = context_in(outputs, EXACT)
    results = {}
    for spec in chain:
        context.store.folder(spec).mkdir(parents=True)
        with context.store.claim(spec):
            results[spec.name] = run_stage(spec, context)
            results[spec.name, "peak"] = torch.cuda.max_memory_allocated() if IS_GPU else 0
    return outputs, chain, results


def test_the_peak_of_memory_is_that_of_torch(trained):
    _, chain, results = trained
    for spec in chain:
        noted = results[spec.name].cost.peak_memory_bytes
        assert noted > 0
        if IS_GPU:
            assert noted == results[spec.name, "peak"]
            assert noted <= torch.cuda.max_memory_reserved()


@pytest.mark.skipif(not IS_GPU, reason="a CPU has no meter")
def test_gpu_time_and_energy_are_noted(trained):
    _, chain, results = trained
    for spec in chain:
        assert results[spec.name].cost.gpus == 1
        assert results[spec.name].provenance["device"] == f"cuda:0, {torch.cuda.get_device_name()}"
        assert results[spec.name].cost.energy_joules is None or results[spec.name].cost.energy_joules >= 0


@pytest.mark.parametrize("layout", [False, True])
def test_ten_clips_are_classified_as_on_the_cpu(trained, tmp_path, layout, close):
    outputs, [*_, spec], results = trained
    shutil.copytree(outputs, tmp_path / "copy")
    shutil.rmtree(next((tmp_path / "copy").glob("stages/test/*")))
    context = context_in(tmp_path / "copy", replace(FAST, device="cpu", channels_last=layout))
    context.store.folder(spec).mkdir(parents=True)
    with context.store.claim(spec):
        there = run_stage(spec, context)
    roots = (outputs, tmp_path / "copy")
    here, cpu = (np.load(next(root.glob("stages/test/*/predictions.npz"))) for root in roots)
    for name in here.files:
        if here[name].dtype.kind == "f":
            one, two = torch.from_numpy(here[name]), torch.from_numpy(cpu[name])
            close("10-clip test against the CPU", f"{name}, channels_last={layout}", apart(one, two), 1e-3)
    assert there.metrics == pytest.approx(results["test"].metrics, abs=0.126)  # one of 8 videos


def test_features_are_those_of_the_cpu(trained, launch, close):
    outputs, chain, _ = trained
    stage = next(spec for spec in chain if spec.name == "pretext").key
    found = []
    for device in (DEVICE, "cpu"):
        done = launch("mode=features", f"stage='{stage}'", f"outputs={outputs}", f"runtime.device={device}")
        assert done.returncode == 0, done.stderr
        [file] = (outputs / "features").glob("*.npz")
        found.append(torch.from_numpy(np.load(file)["features_VD"]))
        file.unlink()
    close("features against the CPU", "pretext", apart(*found), 1e-3)
