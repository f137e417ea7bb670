"""Schedules by hand."""

import math

import pytest
from omegaconf import OmegaConf

from conftest import ROOT, step_decay
from vssl.engine.schedules import Cosine, MultiStep
from vssl.errors import OptionError
from vssl.stage.build import build


def cosine(**changes):
    values = {"final_factor": 1e-3, "per": "epoch", "warmup_epochs": 0, "warmup_factor": 0.0}
    return Cosine(**{**values, **changes})


def multi_step(**changes):
    values = {"milestones": [50, 70, 90], "factor": 0.1, "per": "epoch"}
    return MultiStep(**{**values, "warmup_epochs": 0, "warmup_factor": 0.0, **changes})


def test_step_decay_of_the_paper():
    schedule = step_decay(every_epochs=6, factor=0.1)
    lr = [1e-3 * schedule.factor_at(epoch, 20) for epoch in range(20)]
    assert lr == pytest.approx([1e-3] * 6 + [1e-4] * 6 + [1e-5] * 6 + [1e-6] * 2)


def test_multi_step_of_rspnet():
    """torch's MultiStepLR counts an epoch that is over: the 51st is the first one of the second part."""
    lr = [0.005 * multi_step().factor_at(epoch, 100) for epoch in range(100)]
    assert lr == pytest.approx([5e-3] * 50 + [5e-4] * 20 + [5e-5] * 20 + [5e-6] * 10)
    assert {multi_step().factor_at(epoch, 30) for epoch in range(30)} == {1}
    assert not multi_step().depends_on_length


def test_cosine_starts_at_one_and_ends_near_its_last_factor():
    assert cosine().factor_at(0, 200) == 1
    assert cosine().factor_at(100, 200) == pytest.approx((1 + 1e-3) / 2)
    assert cosine().factor_at(200, 200) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "schedule", [cosine(), step_decay(every_epochs=2, factor=0.1), multi_step(milestones=[2])]
)
def test_by_default_the_factor_changes_between_epochs_only(schedule):
    for epoch in range(6):
        factors = {schedule.factor_at((3 * epoch + step) / 3, 6) for step in range(3)}
        assert factors == {schedule.factor_at(epoch, 6)}


def test_a_cosine_per_step_is_that_of_the_exact_epoch():
    """SlowFast: .5 (1 + cos(pi e / 200)) with e the exact epoch."""
    found = cosine(final_factor=0.0, per="step").factor_at(50.25, 200)
    assert found == pytest.approx(0.5 * (1 + math.cos(math.pi * 50.25 / 200)))


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_warm_up_rises_step_by_step_to_where_the_schedule_goes_on(per):
    """SlowFast: from the start to the schedule's value at the end of the warm-up, which it replaces."""
    schedule = cosine(final_factor=0.0, per=per, warmup_epochs=35, warmup_factor=0.01)
    end = 0.5 * (1 + math.cos(math.pi * 35 / 200))
    assert schedule.factor_at(0, 200) == pytest.approx(0.01)
    assert schedule.factor_at(17.5, 200) == pytest.approx((0.01 + end) / 2)
    assert schedule.factor_at(35, 200) == pytest.approx(end)


def test_a_step_decay_passes_through_the_end_of_a_shorter_training_and_a_cosine_does_not():
    warm = step_decay(every_epochs=3, factor=0.1, warmup_epochs=4.5)
    assert not warm.depends_on_length
    for epochs in (0, 1.25, 3, 4, 5.5, 7):
        assert warm.factor_at(epochs, 4) == warm.factor_at(epochs, 40)
    assert cosine().depends_on_length
    assert cosine().factor_at(2, 4) != cosine().factor_at(2, 40)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf" / "schedule").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_schedule_says_whether_it_depends_on_the_length(path):
    schedule = build(OmegaConf.to_container(OmegaConf.load(path)), "schedule")
    factors = [[schedule.factor_at(step / 4, total) for step in range(40)] for total in (10, 25, 70)]
    assert schedule.depends_on_length == (factors != [factors[0]] * 3)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (step_decay, {"every_epochs": 0}, "every_epochs=0: too small"),
        (step_decay, {"factor": 0.0}, "factor=0.0: too small"),
        (step_decay, {"warmup_epochs": -1}, "warmup_epochs=-1: too small"),
        (multi_step, {"milestones": [50, 0]}, "milestones=0: too small"),
        (multi_step, {"factor": 0.0}, "factor=0.0: too small"),
        (cosine, {"warmup_factor": -0.1}, "warmup_factor=-0.1: too small"),
        (cosine, {"final_factor": -0.1}, "final_factor=-0.1: too small"),
    ],
)
def test_values_that_cannot_be(make, changes, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        make(**changes)
