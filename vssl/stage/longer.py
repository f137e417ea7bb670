"""A pretext stage that gets the compute of the auxiliary stage as well, for a comparison at equal compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from vssl.stage.build import build
from vssl.stage.spec import Node

NOMINAL_FRAMES = 300
IN_EPOCHS = ("every_epochs", "milestones", "warmup_epochs")
"""Values of schedules that are counted in epochs."""


def longer(pretext: Node, auxiliary: Node, source: Node) -> dict[str, Any]:
    """The node of the pretext stage with as many epochs more as the auxiliary stage has clips, its schedule
    stretched alike. A forward of each clip counts the same, whichever stage it is in."""
    own = _clips(pretext, source, "pretext")
    epochs = pretext["training"]["epochs"]
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
    repeat = source["repeat"] if node.get("repeat") is None else node["repeat"]
    return int(len(frames_KT) * node["training"]["epochs"] * repeat)


def _times(value: Any, factor: float) -> Any:
    """A number of epochs, or several, so many times; whole ones stay whole."""
    if isinstance(value, list):
        return [_times(one, factor) for one in value]
    return round(value * factor) if isinstance(value, int) else value * factor
