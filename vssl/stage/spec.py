"""What a stage is: plain data with a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

KEY_LENGTH = 16

PRETRAINING = ("auxiliary", "pretext")
"""Stages that train without labels, in their order."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline: its name, all that decides its weights, and the stage it starts from.

    `recipe` holds plain values only (dicts, lists, numbers, strings). `paths` says where things lie on
    this machine (`root` and `index` of the videos; `init`: a file of weights); it is no part of the identity.
    """

    name: str
    recipe: Mapping[str, Any] = field(compare=False)
    parent: StageSpec | None = field(compare=False, default=None)
    paths: Mapping[str, str] = field(compare=False, default_factory=dict)
    clips: int = field(compare=False, default=0)
    """Clips that the stage decodes in all; for the plan and progress only."""
    continues: StageSpec | None = field(compare=False, default=None)
    """The longest of the shorter trainings with this recipe that the launch asks for. It is worth waiting
    for, as this one can go on where it ends. No part of the identity: the weights are the same without it."""

    @cached_property
    def key(self) -> str:
        """Merkle hash of name, recipe and the parent's key: same key, same weights."""
        parent = self.parent.key if self.parent else None
        return content_hash([self.name, self.recipe, parent])

    @property
    def waits_for(self) -> list[StageSpec]:
        """Stages that have to end before this one can start."""
        return [other for other in (self.parent, self.continues) if other]

    def shortened(self, epochs: int) -> StageSpec:
        """The same training with fewer epochs."""
        training = {**self.recipe["training"], "epochs": epochs}
        return replace(self, recipe={**self.recipe, "training": training})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageSpec) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.name} {self.key[:8]}"

    @property
    def chain(self) -> list[StageSpec]:
        """This stage and its ancestors, the first one first."""
        return [*(self.parent.chain if self.parent else []), self]


def to_plain(spec: StageSpec) -> list[dict[str, Any]]:
    """The stage and its ancestors as JSON can hold them, for another process."""
    parts = ("name", "recipe", "paths", "clips")
    return [{part: getattr(one, part) for part in parts} for one in spec.chain]


def from_plain(chain: list[dict[str, Any]]) -> StageSpec:
    """The stage that `to_plain` took apart."""
    spec = None
    for parts in chain:
        spec = StageSpec(**parts, parent=spec)
    assert spec is not None, "a chain has at least one stage"
    return spec


def content_hash(value: object) -> str:
    """Hash plain data. 1 and 1.0 are the same number; the order of keys does not matter."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def class_name(node: Mapping[str, Any]) -> str:
    """Name of the class that a config node points at, for words shown to people."""
    return str(node["_target_"]).rsplit(".", 1)[-1]


def data_name(data: Mapping[str, Any]) -> str:
    """What people call the videos of a recipe."""
    return str(data.get("name") or ("synthetic" if is_synthetic(data) else class_name(data)))


def is_synthetic(data: Mapping[str, Any]) -> bool:
    """Whether the videos of a recipe were made up."""
    return class_name(data) == "SyntheticVideos"


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
