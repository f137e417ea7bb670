"""Stages on a GPU that is not there: nothing mixes devices, and nothing in a step makes the GPU wait.

torch's fake tensors have a device and no values. An operation between devices raises, and so does a look at a
value. They can neither go backward nor through a fused optimiser: there torch is trusted, gradients are made
up, and weights stay.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.fake_clips import batch_of, stages
from conftest import RUNTIME
from gpu.trainings import TRAININGS
from vssl.engine import loop
from vssl.engine.cost import CostMeter
from vssl.engine.device import predict, to_device
from vssl.engine.loader import Steps
from vssl.engine.meter import FiniteCheck
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage

GPU = torch.device("cuda", 0)
SIZE = 4
NO_VALUES = partial(FakeTensorMode, allow_non_fake_inputs=True)  # given batches are real


class Waits(TorchDispatchMode):
    """Writes down the copies between host and device that the host waits for: where to, what shape."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        is_copy = isinstance(result, torch.Tensor) and args and isinstance(args[0], torch.Tensor)
        if is_copy and result.device.type != args[0].device.type and not kwargs.get("non_blocking"):
            self.seen.append((result.device.type, tuple(result.shape)))
        return result


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Stages believe in a GPU, one without meter and events."""
    # At its first backward torch starts threads for the devices it finds. With those of a fake one, no test
    # that comes later in this process could fork.
    torch.ones((), requires_grad=True).backward()
    monkeypatch.setattr(Runtime, "torch_device", lambda self: GPU)
    monkeypatch.setattr(loop, "CostMeter", lambda device: CostMeter(torch.device("cpu")))
    monkeypatch.setattr(FiniteCheck, "note", lambda *noted: None)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)  # its LSTM wants a driver


def train(spec, monkeypatch, runtime):
    """Three steps of a stage, each of two micro-batches."""
    batch, augmentation = batch_of(spec, SIZE)
    stage = Stage(spec)
    objective = stage.task.objective(stage.backbone())
    steps = Steps(100 * SIZE, stage.training, 0)

    def backward(loss):
        assert (loss.device, loss.shape, loss.dtype) == (GPU, (), torch.float32)
        for parameter in training._trained():
            parameter.grad = torch.zeros_like(parameter)

    def step(optimizer):
        assert all(group["fused"] for group in optimizer.param_groups)
        assert {parameter.device for parameter in training._trained()} == {GPU}

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, input, **kept: (torch.zeros_like(input),))
    monkeypatch.setattr(torch.optim.SGD, "step", step)
    clips = batch["clips"].shape[1]
    with NO_VALUES():
        training = loop.Loop(objective, steps, clips, augmentation.apply, Path("nowhere"), runtime, Silent())
        with Waits() as waits:
            training.run(iter([[batch, batch]] * 3))
    assert waits.seen == []
    return training


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize(("precision", "channels_last"), [("tf32", False), ("bfloat16", True)])
def test_a_step_stays_on_its_device_and_waits_for_nothing(monkeypatch, name, precision, channels_last):
    stage, *overrides = TRAININGS[name]
    group = stage if stage in ("auxiliary", "pretext") else "protocol"
    recipe = f"{{batch_size: {2 * SIZE}, micro_batch: {SIZE}, precision: {precision}}}"
    spec = stages(*overrides, f"{group}.training={recipe}")[stage]
    runtime = replace(RUNTIME, channels_last=channels_last, log_every_steps=1000, save_every_s=math.inf)
    training = train(spec, monkeypatch, runtime)
    assert training.step == 3
    state = training.objective.state_dict()
    on_gpu = {name: value for name, value in state.items() if not name.endswith("extra_state")}  # of the host
    assert {value.device for value in on_gpu.values()} == {GPU}
    assert {value.dtype for value in on_gpu.values()} <= {torch.float32, torch.int64}
    assert {total.device for total in training.meter.sums.values()} == {GPU}


def test_pooling_had_no_deterministic_gradient(monkeypatch):
    """Averages have none, maxima none before torch 2.13. A frozen backbone needs none."""
    assert (nn.MaxPool3d in loop.UNSTEADY) == (torch.__version__ < "2.13")
    monkeypatch.setattr(loop, "UNSTEADY", (nn.AvgPool3d, nn.MaxPool3d))
    training = f"training={{batch_size: {2 * SIZE}, micro_batch: {SIZE}}}"
    there = replace(RUNTIME, deterministic=True, log_every_steps=1000, save_every_s=math.inf)
    trained = stages("backbone=s3d", "auxiliary=none", f"pretext.{training}")["pretext"]
    with pytest.raises(VsslError, match=r"runtime\.deterministic=true: S3D pools, .*; say false"):
        train(trained, monkeypatch, there)
    frozen = ("auxiliary=none", "pretext=none", "protocol=linear", f"protocol.{training}")
    assert train(stages("backbone=s3d", *frozen)["linear"], monkeypatch, there).step == 3
    monkeypatch.setattr(loop, "UNSTEADY", (nn.AvgPool3d,))
    assert train(trained, monkeypatch, there).step == 3


@pytest.mark.parametrize("channels_last", [False, True])
def test_an_evaluation_waits_once_at_its_end(channels_last):
    spec = stages("auxiliary=none", "pretext=none")["test"]
    runtime = replace(RUNTIME, channels_last=channels_last)
    batch, augmentation = batch_of(spec, SIZE)
    trained = Stage(spec.parent)
    classifier = trained.task.objective(trained.backbone())
    with NO_VALUES() as mode:
        logits = to_device(classifier, runtime).eval().logits
        two = [{name: mode.from_tensor(value) for name, value in batch.items()}] * 2
        with Waits() as waits:
            found, _ = predict(logits, two, augmentation.apply, runtime, "bfloat16", lambda clips: None)
    assert found.dtype == torch.float32
    assert waits.seen == [("cpu", (2 * SIZE, batch["clips"].shape[1], 8))]


def test_what_waits_would_be_found():
    with NO_VALUES(), Waits() as waits:
        value = torch.empty((), device=GPU)
        value.to("cpu", non_blocking=True)
        assert waits.seen == []
        value.cpu()
        torch.zeros(3).to(GPU)
        assert waits.seen == [("cpu", ()), ("cuda", (3,))]
        with pytest.raises(DataDependentOutputException):
            value.item()
