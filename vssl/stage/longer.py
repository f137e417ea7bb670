"""A pretext stage that gets the compute of the auxiliary stage as well, for a comparison at equal compute."""

from typing import Any

import numpy as np

from vssl.checks import check_at_least, check_type
from vssl.errors import OptionError
from vssl.stage.build import build
from vssl.stage.spec import Node

NOMINAL_FRAMES = 300
IN_EPOCHS = ("every_epochs", "milestones", "warmup_epochs")
"""Values of schedules that are counted in epochs."""


def longer(pretext: Node, auxiliary: Node, source: Node) -> dict[str, Any]:
    """The node of the pretext stage with as many epochs more as the auxiliary stage has clips, its schedule
    stretched alike. Clips count the same in both stages; those that `drop_last` leaves out count too.

    Raises `OptionError` if there is no pretext stage.
    """
    if not pretext["_target_"]:
        remedy = "choose a pretext, or auxiliary=none"
        raise OptionError("auxiliary", "longer_pretext", "there is no pretext stage to make longer", remedy)
    own, epochs = _clips(pretext, source, "pretext"), pretext["training"]["epochs"]
    stretched = round(epochs * (1 + _clips(auxiliary, source, "auxiliary") / own))
    schedule = {
        name: _times(value, stretched / epochs) if name in IN_EPOCHS else value
        for name, value in pretext["training"]["schedule"].items()
    }
    return {**pretext, "training": {**pretext["training"], "epochs": stretched, "schedule": schedule}}


def _clips(node: Node, source: Node, where: str) -> int:
    """Clips of all epochs, for each video."""
    sampler = build(node["sampler"], f"{where}.sampler")
    frames_KT = sampler.plan(max(NOMINAL_FRAMES, sampler.min_frames), np.random.default_rng(0)).frames_KT
    own = node.get("repeat") is not None
    repeat = _count(f"{where if own else 'source'}.repeat", (node if own else source)["repeat"])
    return len(frames_KT) * repeat * _count(f"{where}.training.epochs", node["training"]["epochs"])


def _count(option: str, value: Any) -> int:
    check_type(option, value, int)
    check_at_least(option, value, 1)
    return int(value)


def _times(value: Any, factor: float) -> Any:
    """A number of epochs, or several, so many times; whole ones stay whole. Other values are left to who
    checks them."""
    if isinstance(value, list):
        return [_times(one, factor) for one in value]
    if isinstance(value, int):
        return round(value * factor)
    return value * factor if isinstance(value, float) else value
