"""What a stage is: a recipe of plain data, with a key."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from vssl.stage.kind import AUXILIARY, KINDS, StageKind

KEY_LENGTH = 16

Node = Mapping[str, Any]
"""Plain data; with a `_target_`, what one object is built from."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what a stage gives, as values that YAML and JSON can hold.

    task: what is done with the clips, or with the features; its sampler is part of it.
    data: the videos, which `part` of them, and how often each counts in one epoch (`repeat`). backbone,
    augmentation, training: as in the config. batch_size: videos at once, where nothing trains. init: digest
    of a file of weights. revision: raised to retire old results on purpose. choose: see `vssl.stage.choice`;
    the values that are to be chosen are null.
    """

    task: Node
    backbone: Node
    data: Node
    seed: int
    revision: int
    augmentation: Node | None = None
    training: Node | None = None
    batch_size: int | None = None
    init: str | None = None
    choose: Node | None = None

    def to_plain(self) -> dict[str, Any]:
        """The parts that the recipe has."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def epochs(self) -> int:
        """Length of the training; the longest that it may be where it is to be chosen."""
        assert self.training is not None, "the stage trains"
        options = self.choose["options"] if self.choose else {}
        return int(max(options.get("training.epochs", [self.training["epochs"]])))

    @property
    def num_videos(self) -> int:
        """How many videos there are."""
        return int(self.data.get("part", self.data)["num_videos"])

    @property
    def is_candidate(self) -> bool:
        """Whether others choose by it: training videos are held out of its own, or are its own."""
        return bool(self.data.get("part", {}).get("held_out"))

    @property
    def is_held_out(self) -> bool:
        """Whether its videos are a share that was held out of training videos."""
        of_candidate = self.is_candidate and self.data["part"]["side"] == "val"
        return of_candidate or self.data.get("subset") == "val"

    @property
    def data_name(self) -> str:
        """What people call the videos."""
        return str(self.data.get("name") or ("synthetic" if self.is_synthetic else class_name(self.data)))

    @property
    def is_synthetic(self) -> bool:
        """Whether the videos were made up."""
        return class_name(self.data) in ("SyntheticVideos", "UprightVideos", "FadingVideos")

    @property
    def is_provisional(self) -> bool:
        """Whether the videos have not been checked: the key changes with the check."""
        return bool(self.data.get("provisional"))

    @property
    def words(self) -> str:
        """What the stage is, in a few words."""
        held_out = " held out" if self.is_held_out else ""
        videos = f"{self.data_name} x {self.num_videos}{held_out}"
        epochs = f", {self.epochs} epochs" if self.training else ""
        chosen = f", chosen: {', '.join(self.choose['options'])}" if self.choose else ""
        what = f"{class_name(self.task)}, {class_name(self.backbone)}"
        return f"{what}, {videos}{epochs}{chosen}, seed {self.seed}"


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline: its name and kind, all that decides its result, and the stage it starts from.

    `paths` says where things lie on this machine (`root` and `index` of the videos, their `decoder`; `init`:
    a file of weights), and `options` where the parts of the recipe stand in the config, for messages. Neither
    is part of the identity.
    """

    name: str
    kind: StageKind
    recipe: Recipe = field(compare=False)
    parent: "StageSpec | None" = field(compare=False, default=None)
    paths: Mapping[str, str] = field(compare=False, default_factory=dict)
    options: Mapping[str, str] = field(compare=False, default_factory=dict)
    continues: "StageSpec | None" = field(compare=False, default=None)
    """The longest of the shorter trainings with this recipe that the launch asks for. It is worth waiting
    for, as this one can go on where it ends. No part of the identity: the weights are the same without it."""
    candidates: "Sequence[StageSpec]" = field(compare=False, default=())
    """The tests of the candidates that this one chooses from. The recipe has their keys."""

    @cached_property
    def key(self) -> str:
        """Merkle hash of name, kind, recipe and the parent's key: same key, same weights."""
        parent = self.parent.key if self.parent else None
        return content_hash([self.name, self.kind.name, self.recipe.to_plain(), parent])

    @property
    def waits_for(self) -> "list[StageSpec]":
        """Stages that have to end before this one can start."""
        return [other for other in (self.parent, self.continues, *self.candidates) if other]

    @property
    def chain(self) -> "list[StageSpec]":
        """This stage and its ancestors, the first one first."""
        return [*(self.parent.chain if self.parent else []), self]

    @property
    def is_provisional(self) -> bool:
        """Whether the key waits for a check: of the stage's own videos, or of those before it."""
        return any(spec.recipe.is_provisional for spec in self.chain)

    @property
    def clip_names(self) -> tuple[str, ...]:
        """What the clips of a sample are called, where not by number."""
        return ("student clip", "teacher clip") if self.kind is AUXILIARY else ()

    def shortened(self, epochs: int) -> "StageSpec":
        """The same training with fewer epochs."""
        training = {**(self.recipe.training or {}), "epochs": epochs}
        return replace(self, recipe=replace(self.recipe, training=training))

    def option(self, part: str) -> str:
        """Where a part of the recipe stands in the config."""
        return self.options.get(part, f"{self.name}.{part}")

    def to_plain(self) -> dict[str, Any]:
        """All that went into the key, for `recipe.yaml`."""
        parent = f"{self.parent.name}/{self.parent.key}" if self.parent else None
        about = {"stage": self.name, "kind": self.kind.name, "key": self.key, "parent": parent}
        return {**about, **self.recipe.to_plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], parent: "StageSpec | None", **others: Any) -> "StageSpec":
        """The stage that `to_plain` wrote, after its parent."""
        recipe = Recipe(**{part.name: plain[part.name] for part in fields(Recipe) if part.name in plain})
        return cls(plain["stage"], KINDS[plain["kind"]], recipe, parent, **others)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageSpec) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.name} {self.key[:8]}"


def content_hash(value: object) -> str:
    """Hash plain data. 1 and 1.0 are the same number; the order of keys does not matter."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def class_name(node: Node) -> str:
    """Name of the class that a config node points at, for words shown to people."""
    return str(node["_target_"]).rsplit(".", 1)[-1]


def leaves(node: Node, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested mappings, by dotted path."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
