"""How many videos of a stage its sampler cannot use, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vssl.stage.spec import StageSpec


class LeftOut(NamedTuple):
    """Videos of a stage that are shorter than the frames that its sampler needs."""

    videos: int
    of: int
    frames: int
    sampler: str


def left_out(spec: StageSpec) -> LeftOut | None:
    """The videos that a training stage leaves out; None if there are none, or nobody knows yet.

    Imports torch, with the sampler, but only for a sampler that may leave any out.
    """
    recipe = spec.recipe
    if "training" not in recipe or "assumed" in recipe["data"] or not _may_refuse(recipe["task"]["sampler"]):
        return None
    from vssl.stage.build import build

    sampler = build(recipe["task"]["sampler"], f"{spec.name}.sampler")
    places = {name: path for name, path in spec.paths.items() if name != "init"}
    data = {name: value for name, value in recipe["data"].items() if name != "repeat"}
    videos = build({**data, **places}, f"{spec.name}.data").videos
    short = sum(video.num_frames < sampler.min_frames for video in videos)
    return LeftOut(short, len(videos), sampler.min_frames, _class(sampler)) if short else None


def _may_refuse(node: Mapping[str, Any]) -> bool:
    """Whether a sampler, or the one inside it, has a say in how long a video must be.

    Its file is looked into, not imported: torch, which it needs for other things, takes seconds.
    """
    if "sampler" in node:
        return _may_refuse(node["sampler"])
    return _says_min_frames(node["_target_"].rpartition(".")[0])


def _says_min_frames(module: str) -> bool:
    """Whether a module's file defines it, or one beside it that it imports from, and may inherit from."""
    found = find_spec(module)
    if not found or not found.origin:
        return False
    text = Path(found.origin).read_text()
    beside = re.findall(rf"^from ({re.escape(module.rpartition('.')[0])}\.\w+) import", text, re.MULTILINE)
    return "def min_frames" in text or any(map(_says_min_frames, beside))


def _class(sampler: Any) -> str:
    return type(getattr(sampler, "sampler", sampler)).__name__
