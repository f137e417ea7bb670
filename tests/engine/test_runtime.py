"""Where and how a stage runs: what is refused before anything starts, and what leaves the weights alone."""

import os
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.fake_clips import batch_of, stages
from conftest import PRETEXTS, RUNTIME
from vssl.cores import usable_cores
from vssl.data.operations import jitter
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.engine.precision import arithmetic, autocast
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
TOO_SMALL = {"workers": -1, "threads": 0, "save_every_s": -1.0, "log_every_steps": 0, "timeout_s": 0.5}


@pytest.mark.parametrize(("name", "value"), TOO_SMALL.items())
def test_values_that_would_fail_in_the_middle(name, value):
    with pytest.raises(VsslError, match=rf"^{name}={value}: too small; choose "):
        replace(RUNTIME, **{name: value})


def test_what_is_left_open_is_decided_on_the_machine():
    """Two loader processes beside a CPU, if there are cores; arithmetic has the rest, one thread at least."""
    cores = usable_cores()
    there = replace(RUNTIME, workers=None, threads=None)
    assert there.num_workers() == min(cores, 2)
    assert there.num_threads() == max(1, cores - 2)


def test_a_gpu_is_told_by_its_name(monkeypatch):
    assert replace(RUNTIME, device="cpu").device_in_words() == "cpu"
    monkeypatch.setattr(Runtime, "torch_device", lambda self: torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", {torch.device("cuda", 1): "NVIDIA H100"}.get)
    assert RUNTIME.device_in_words() == "cuda:1, NVIDIA H100"


def trained(folder, **changes):
    """Weights and buffers of auxSKD after three steps on noise."""
    folder.mkdir()
    stage = Stage(stages("auxiliary.training={epochs: 3, batch_size: 8, micro_batch: 8}")["auxiliary"])
    batch, augmentation = batch_of(stage.spec, 8)
    steps = Steps(8, stage.training, 0)
    objective = stage.task.objective(stage.backbone())
    loop = Loop(objective, steps, 2, augmentation.apply, folder, replace(RUNTIME, **changes), Silent())
    loop.run(iter([[batch]] * 3))
    assert loop.step == 3
    return objective.state_dict()


def test_what_is_asked_of_gpus_leaves_a_cpu_alone(tmp_path):
    plain, asked = trained(tmp_path / "plain"), trained(tmp_path / "asked", deterministic=True)
    assert plain.keys() == asked.keys()
    assert all(torch.equal(plain[name], asked[name]) for name in plain)


@pytest.mark.slow
@needs_compiler
def test_compiled_and_eager_backbones_learn_the_same(tmp_path):
    """But for rounding, which three steps of momentum carry on; names of weights stay."""
    eager, compiled = trained(tmp_path / "eager"), trained(tmp_path / "compiled", compile=True)
    assert eager.keys() == compiled.keys()
    for name in eager:
        torch.testing.assert_close(compiled[name], eager[name], rtol=1e-3, atol=1e-5)


def compiled(folder, sizes):
    """Weights after steps of so many videos, or after those of them that are left."""
    folder.mkdir(exist_ok=True)
    recipe = "{epochs: 2, batch_size: 4, micro_batch: 4, drop_last: false}"
    stage = Stage(stages("auxiliary=none", f"pretext.training={recipe}")["pretext"])
    made = {size: batch_of(stage.spec, size) for size in set(sizes)}
    steps = Steps(10, stage.training, 0)
    objective, augment = stage.task.objective(stage.backbone()), made[sizes[0]][1].apply
    runtime = replace(RUNTIME, compile=True, save_every_s=0.0)
    loop = Loop(objective, steps, 1, augment, folder, runtime, Silent())
    loop.run(iter([[made[size][0]] for size in sizes[loop.step :]]))
    return objective.state_dict()


@pytest.mark.parametrize("pretext", PRETEXTS)
def test_a_backbone_is_compiled_whichever_way_a_task_takes_through_it(tmp_path, monkeypatch, pretext):
    """Each of its convolutions is in a graph that torch has traced; for that it needs no compiler."""
    traced = []

    def trace(graph, inputs):
        traced.extend(node.target for node in graph.graph.nodes if "conv3d" in str(node.target))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=trace))
    stage = Stage(stages("auxiliary=none", f"pretext={pretext}")["pretext"])
    batch, augmentation = batch_of(stage.spec, 4)
    objective, steps = stage.task.objective(stage.backbone()), Steps(1000, stage.training, 0)
    runtime = replace(RUNTIME, compile=True)
    Loop(objective, steps, batch["clips"].shape[1], augmentation.apply, tmp_path, runtime, Silent())
    objective({**batch, "clips": augmentation.apply(batch)})
    modules = objective.backbone.modules()
    assert len(traced) >= sum(isinstance(module, torch.nn.Conv3d) for module in modules) > 0


@pytest.mark.slow
@needs_compiler
def test_a_compiled_training_goes_on_bit_for_bit_after_a_smaller_batch(tmp_path):
    whole = compiled(tmp_path / "whole", [4, 4, 2, 4, 4, 2])
    compiled(tmp_path / "parts", [4, 4, 2])
    parts = compiled(tmp_path / "parts", [4, 4, 2, 4, 4, 2])
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


@pytest.mark.slow
@needs_compiler
def test_a_compiled_augmentation_does_the_same(monkeypatch):
    """All clips at once, as on a GPU, in one piece of code; rounding turns a grey level here and there."""
    monkeypatch.setattr(jitter, "CACHED_VALUES", 2**40)
    small = ("backbone.input.crop=32", "backbone.input.resize=[36,36]")
    batch, augment = batch_of(stages("backbone=r2plus1d_10", *small)["pretext"], 4)
    assert augment.operations["jitter"].jitters
    found = torch.compile(augment.apply, fullgraph=True)(batch)
    expected = augment.apply(batch)
    assert (found - expected).abs().mean() < 1e-3


@pytest.mark.parametrize("deterministic", [False, True])
def test_arithmetic_is_as_asked_within_the_block_and_as_before_after_it(deterministic, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before = gpu_settings()
    with arithmetic("tf32", deterministic):
        assert gpu_settings() == ("tf32", "tf32", "tf32", not deterministic, deterministic)
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
    assert gpu_settings() == before


def gpu_settings():
    """Products, convolutions and recurrent layers; whether the fastest algorithm is looked for, or one that
    repeats its bits."""
    cudnn = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    precisions = [place.fp32_precision for place in places]
    return (*precisions, cudnn.benchmark, torch.are_deterministic_algorithms_enabled())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_without_tf32_nothing_is_rounded_to_it(precision):
    """torch's own default is TF32 for convolutions and recurrent layers."""
    with arithmetic(precision, False):
        assert gpu_settings()[:3] == ("ieee", "ieee", "ieee")


def test_mixed_precision_adds_up_gradients_of_several_uses_in_float32():
    """Each is rounded to 16 bits, and their sum is not; a use without gradients changes nothing."""
    torch.manual_seed(0)
    layer, uses = nn.Linear(8, 8, bias=False), torch.randn(7, 4, 8)
    parts = []
    for use in uses:
        with autocast(torch.device("cpu"), "bfloat16"):
            loss = layer(use).float().square().sum()
        parts += torch.autograd.grad(loss, layer.weight)
    with autocast(torch.device("cpu"), "bfloat16"):
        with torch.no_grad():
            layer(uses[0])
        loss = sum(layer(use).float().square().sum() for use in uses)
    loss.backward()
    torch.testing.assert_close(layer.weight.grad, sum(parts), rtol=1e-6, atol=1e-5)
