"""What a stage is: plain data with a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

KEY_LENGTH = 16


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline: its name, all that decides its weights, and the stage it starts from.

    `recipe` holds plain values only (dicts, lists, numbers, strings). `paths` says where things lie on
    this machine (`data`: root of the videos; `init`: a file of weights); it is no part of the identity.
    """

    name: str
    recipe: Mapping[str, Any] = field(compare=False)
    parent: StageSpec | None = field(compare=False, default=None)
    paths: Mapping[str, str] = field(compare=False, default_factory=dict)
    clips: int = field(compare=False, default=0)
    """Clips that the stage decodes in all; for the plan and progress only."""

    @cached_property
    def key(self) -> str:
        """Merkle hash of name, recipe and the parent's key: same key, same weights."""
        parent = self.parent.key if self.parent else None
        return content_hash([self.name, self.recipe, parent])

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


def content_hash(value: object) -> str:
    """Hash plain data. 1 and 1.0 are the same number; the order of keys does not matter."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
