"""A pretext stage with the compute of the auxiliary one."""

import pytest

from conftest import composed
from vssl.errors import OptionError
from vssl.pipeline import plan

LONGER = ["backbone=r2plus1d_10", "auxiliary=longer_pretext"]


def training(*overrides):
    [pretext, *_] = plan(composed(*LONGER, *overrides))
    assert pretext.name == "pretext"
    return pretext.recipe.training


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        ([], 20 + 2 * 20),  # 20 epochs of one clip; the auxiliary stage has 20 of two
        (["auxiliary.training.epochs=5"], 20 + 2 * 5),
        (["pretext=vcop"], 300 + round(2 * 20 / 3)),  # of three clips
        (["+pretext.repeat=10", "auxiliary.repeat=5"], 20 + 2 * 20 // 2),
        (["source.repeat=10"], 20 + 2 * 20),
    ],
)
def test_epochs(overrides, epochs):
    assert training(*overrides)["epochs"] == epochs


def test_the_schedule_is_stretched_with_them():
    schedule = [
        "schedule@pretext.training.schedule=multi_step",
        "pretext.training.schedule.warmup_epochs=0.5",
    ]
    found = training(*schedule, "pretext.training.schedule.milestones=[5,10]")["schedule"]
    assert (found["milestones"], found["warmup_epochs"], found["factor"]) == ([15, 30], 1.5, 0.1)
    assert training()["schedule"]["every_epochs"] == 18


def test_all_else_is_the_pretext_stage_without_an_auxiliary_one():
    long, short = (plan(composed(*LONGER, *more))[0].recipe.to_plain() for more in ([], ["auxiliary=none"]))
    long["training"].update(epochs=20, schedule={**long["training"]["schedule"], "every_epochs": 6})
    assert long == short


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretext=none", "auxiliary=longer_pretext: there is no pretext stage to make longer"),
        ("pretext.training.epochs=many", r"pretext\.training\.epochs=many: not a whole number"),
        ("auxiliary.training.epochs=0", r"auxiliary\.training\.epochs=0: too small"),
        ("source.repeat=x", r"source\.repeat=x: not a whole number"),
    ],
)
def test_a_mistake_names_the_option(override, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        plan(composed(*LONGER, override))
