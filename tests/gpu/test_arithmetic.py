"""Every objective: the GPU against the CPU, and its faster ways against its exact one."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partialmethod

import pytest
import torch

from conftest import ROOT
from gpu.conftest import IS_GPU
from gpu.rounding import rounding
from gpu.trainings import COMPILED, CPU, EXACT, FAST, TRAININGS, apart, loss_apart, spec_of, trained
from vssl.engine.loop import UNSTEADY, Loop
from vssl.errors import VsslError
from vssl.stage.construct import Stage

BACKBONES = sorted(path.stem for path in (ROOT / "conf/backbone").glob("*.yaml") if path.stem != "tiny")


@cache
def exact(name, steps=1):
    """Some steps in float32, deterministic."""
    return trained(spec_of(name), EXACT, steps)


@pytest.mark.parametrize("name", TRAININGS)
def test_float32_is_that_of_the_cpu(name, close):
    here, there = exact(name), trained(spec_of(name), CPU, 1)
    close("float32 against the CPU: loss", name, loss_apart(here, there), 1e-5)
    # A CPU differs from itself by 2.6e-3 (VideoMoCo), where another layout of its clips flips a maximum.
    close("float32 against the CPU: first step", name, apart(here.moved, there.moved), 1e-2)
    statistics = [apart(here.state[key], there.state[key]) for key in here.state if "running" in key]
    close("float32 against the CPU: running statistics", name, max(statistics), 1e-4)


@pytest.mark.parametrize("name", TRAININGS)
def test_deterministic_steps_have_the_same_bits_each_time(name):
    one, same = exact(name, 3), trained(spec_of(name), EXACT, 3)
    assert all(torch.equal(value, same.state[key]) for key, value in one.state.items())


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize(("precision", "loss", "step"), [("tf32", 2e-3, 0.6), ("bfloat16", 0.02, 0.6)])
def test_fewer_bits_change_little(name, precision, loss, step, close):
    """The loss by little; its gradient by more, as it passes batch norm over the few clips of a test."""
    with rounding(precision):
        here = trained(spec_of(name, precision), FAST, 1)
    close(f"{precision} against float32: loss", name, loss_apart(here, exact(name)), loss)
    close(f"{precision} against float32: first step", name, apart(here.moved, exact(name).moved), step)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_layout_changes_last_bits(name, close):
    here = trained(spec_of(name), replace(FAST, channels_last=True), 1)
    close("channels_last against contiguous: loss", name, loss_apart(here, exact(name)), 1e-4)
    close("channels_last against contiguous: first step", name, apart(here.moved, exact(name).moved), 0.01)


@pytest.mark.parametrize("name", COMPILED)
def test_compiling_changes_last_bits(name, close, monkeypatch):
    """On a CPU it is traced as for a GPU, and then computed by torch's usual operations."""
    if not IS_GPU:
        traced = partialmethod(torch.nn.Module.compile, backend="aot_eager")
        monkeypatch.setattr(torch.nn.Module, "compile", traced)
    here = trained(spec_of(name), replace(FAST, compile=True), 1)
    close("compiled against eager: loss", name, loss_apart(here, exact(name)), 1e-4)
    close("compiled against eager: first step", name, apart(here.moved, exact(name).moved), 1e-2)


@pytest.mark.parametrize("backbone", BACKBONES if IS_GPU else BACKBONES[:1])
def test_every_backbone_steps_as_on_the_cpu(backbone, close):
    spec = spec_of("vspp", backbone=backbone)
    here, there = trained(spec, FAST, 1), trained(spec, CPU, 1)
    close("backbones against the CPU: loss", backbone, loss_apart(here, there), 1e-4)
    close("backbones against the CPU: first step", backbone, apart(here.moved, there.moved), 0.1)


@pytest.mark.skipif(not IS_GPU, reason="a CPU repeats its bits")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_repeats_its_bits_or_says_that_it_cannot(backbone):
    spec = spec_of("vspp", backbone=backbone)
    unsteady = any(isinstance(part, UNSTEADY) for part in Stage(spec).backbone().modules())
    with pytest.raises(VsslError, match="deterministic") if unsteady else nullcontext():
        one, same = trained(spec, EXACT, 2), trained(spec, EXACT, 2)
        assert torch.equal(one.moved, same.moved)


@contextmanager
def no_waiting():
    """The host must not wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not IS_GPU, reason="a CPU has nothing to wait for")
@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_never_waits_for_the_device(name, precision):
    trained(spec_of(name, precision), FAST, guard=no_waiting)


@pytest.mark.skipif(not IS_GPU, reason="a CPU has nothing to wait for")
def test_waiting_would_be_found():
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        torch.ones(3, device="cuda").sum().item()


def test_a_step_that_waits_leaves_the_tests_after_it_alone(monkeypatch):
    state = []

    @contextmanager
    def guard():
        state.append("forbidden")
        try:
            yield
        finally:
            state.append("allowed")

    def waiting(loop, *given):
        if state:
            raise RuntimeError("synchronizes")

    monkeypatch.setattr(Loop, "_report", waiting)
    with pytest.raises(RuntimeError, match="synchronizes") as caught:
        trained(spec_of("linear"), FAST, guard=guard)
    assert state == ["forbidden", "allowed"], caught  # while the traceback holds what was running
