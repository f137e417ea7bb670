"""Where stages live: one folder per key, a claim while it is worked on, `result.json` last."""

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from vssl.errors import VsslError
from vssl.files import is_locked, remove_leftovers, take, write_atomically
from vssl.result import StageResult
from vssl.stage.spec import StageSpec, leaves
from vssl.tracking.metrics import StageFolder, read

FORMAT = 2
"""Version of the layout of the folders."""

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C takes a tenth of the time."""


@dataclass(frozen=True)
class StoredStage:
    """A stage and what its folder holds; read when it is asked for, once."""

    spec: StageSpec
    folder: Path

    @cached_property
    def result(self) -> StageResult | None:
        """What it came to; None if it is not finished."""
        return read_result(self.folder)

    @cached_property
    def lines(self) -> list[dict[str, float]]:
        """The lines of metrics that it has logged; see `vssl.tracking.metrics.read`."""
        return read(self.folder)

    @property
    def finished(self) -> StageResult:
        """What it came to. Raises `VsslError` if it is not finished."""
        if self.result is None:
            raise VsslError(f"{self.folder}: not finished; run it to its end first")
        return self.result

    def tracked(self, tags: Mapping[str, str]) -> StageFolder:
        """The stage as a tracker sees it. A result tells where it ran; before there is one, `tags` do."""
        origin = self.result.provenance if self.result else tags
        known = {name: str(origin[name]) for name in ("git_commit", "host") if name in origin}
        return StageFolder(
            name=self.spec.name,
            key=self.spec.key,
            folder=self.folder,
            tags={**known, "what": self.spec.recipe.words},
            params=dict(leaves(self.spec.to_plain())),
            metrics=self.result.metrics if self.result else {},
        )


class StageStore:
    """All stages under `<outputs>/stages/<name>/<key>/`.

    Raises `VsslError` for a folder that was written with another layout.
    """

    def __init__(self, outputs: Path) -> None:
        self.root = outputs / "stages"
        if (any_recipe := next(self.root.glob("*/*/recipe.yaml"), None)) is not None:
            _read_recipe(any_recipe)

    def folder(self, spec: StageSpec) -> Path:
        """The stage's folder, whether it exists yet or not."""
        return self.root / spec.name / spec.key

    def stage(self, spec: StageSpec) -> StoredStage:
        """The stage with its folder, whether that exists yet or not."""
        return StoredStage(spec, self.folder(spec))

    def key(self, start: str | None, others: Iterable[str] = ()) -> str:
        """The only key that begins with `start`, among those of all folders and `others`.

        Raises `VsslError` if there is none, or more than one.
        """
        if not start:
            raise VsslError("stage=null: needs the beginning of a key; stage=KEY (mode=status shows them)")
        folders = {path.name for path in self.root.glob(f"*/{start}*")}
        keys = folders | {key for key in others if key.startswith(start)}
        if len(keys) != 1:
            found = f"{len(keys)} stages begin like this" if keys else f"no such stage in {self.root}"
            raise VsslError(f"stage={start}: {found}; give the beginning of a key (mode=status shows them)")
        return keys.pop()

    def open(self, start: str | None) -> StoredStage:
        """The stage whose key begins with `start`, with its ancestors, from their folders alone."""
        [folder] = self.root.glob(f"*/{self.key(start)}")
        return self._stored(folder)

    def all(self, name: str = "*") -> Iterator[StoredStage]:
        """Every stage that has a recipe, in order; those of one name alone, if it is given."""
        for path in sorted(self.root.glob(f"{name}/*/recipe.yaml")):
            yield self._stored(path.parent)

    def finished(self, name: str = "*") -> Iterator[StoredStage]:
        """The same, of stages that have a result."""
        return (stage for stage in self.all(name) if (stage.folder / "result.json").exists())

    def result(self, spec: StageSpec) -> StageResult | None:
        """The result of a finished stage, or None. A folder of another layout raises `VsslError`."""
        return read_result(self.folder(spec))

    @contextmanager
    def claim(self, spec: StageSpec) -> Iterator[bool]:
        """Own the stage while the block runs; yields False at once if another process owns it.

        The claim is a POSIX record lock: the kernel drops it when its owner dies, so a dead owner's
        claim is simply free. (A `flock` would live on in forked loader workers; this one does not, but it
        is lost if this process opens and closes `claim` a second time: nothing else may touch that file.)
        """
        folder = self.folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "claim", "a") as file:
            if not take(file, "outputs"):
                yield False
                return
            remove_leftovers(folder)
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
            write_atomically(folder / "owner.json", json.dumps(owner))
            write_atomically(folder / "recipe.yaml", to_yaml({"format": FORMAT, **spec.to_plain()}))
            (folder / "failed.json").unlink(missing_ok=True)
            yield True

    def is_claimed(self, spec: StageSpec) -> bool:
        """Whether another process owns the stage now; not for the process that does (see `claim`)."""
        return is_claimed(self.folder(spec))

    def owner(self, spec: StageSpec) -> str:
        """Who claimed the stage last, for messages."""
        owner = self.note(spec, "owner.json")
        return f"process {owner['pid']} on {owner['host']}" if owner else "another process"

    def note(self, spec: StageSpec, name: str) -> dict[str, Any] | None:
        """What stands in `owner.json`, `failed.json` or `progress.json` of the stage, if it is there."""
        return read_note(self.folder(spec), name)

    def fail(self, spec: StageSpec, reason: str, diverged: bool = False) -> None:
        """Note why the stage stopped; the next claim removes the note."""
        self.folder(spec).mkdir(parents=True, exist_ok=True)  # it may not have come so far
        note = {"reason": reason, "time": time.time(), "diverged": diverged}
        write_atomically(self.folder(spec) / "failed.json", json.dumps(note))

    def finish(self, spec: StageSpec, result: StageResult) -> None:
        """Mark the stage as done; the last file that is written into its folder."""
        whole = {"format": FORMAT, "stage": spec.name, "key": spec.key, **result.to_plain()}
        write_atomically(self.folder(spec) / "result.json", json.dumps(whole, indent=2) + "\n")

    def _stored(self, folder: Path) -> StoredStage:
        plain = _read_recipe(folder / "recipe.yaml")
        try:
            parent = self._stored(self.root / plain["parent"]).spec if plain["parent"] else None
            spec = StageSpec.from_plain(plain, parent)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # it was cut short, say
            raise VsslError(_damaged(folder / "recipe.yaml")) from error
        if spec.key != folder.name:
            raise VsslError(
                f"{folder / 'recipe.yaml'}: not the recipe of stage {folder.name}; it was changed by hand, "
                "delete that folder"
            )
        return StoredStage(spec, folder)


def to_yaml(plain: dict[str, Any]) -> str:
    """Plain data for people to read."""
    return yaml.safe_dump(plain, sort_keys=False, width=110)


def read_result(folder: Path) -> StageResult | None:
    """What stands in the `result.json` of a stage's folder; None if there is none."""
    path = folder / "result.json"
    try:
        plain: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise VsslError(f"{path}: not JSON ({error}); delete the file to run the stage again") from error
    try:
        _check_format(plain, path)
        return StageResult.from_plain({k: v for k, v in plain.items() if k not in ("format", "stage", "key")})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VsslError(f"{path}: not a result; delete the file to run the stage again") from error


def read_note(folder: Path, name: str) -> dict[str, Any] | None:
    """What stands in a note of a stage's folder, if it is there."""
    try:
        note = json.loads((folder / name).read_text())
    except (FileNotFoundError, ValueError):  # the latter after a crash of the disk; no result rests on it
        return None
    return note if isinstance(note, dict) else None


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = yaml.load(path.read_text(), Loader)
    except FileNotFoundError as error:
        raise VsslError(
            f"{path}: not there; copy that stage's folder too, or delete what rests on it"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VsslError(_damaged(path)) from error
    if not isinstance(plain, dict):  # a crash of the disk may leave it empty
        raise VsslError(_damaged(path))
    _check_format(plain, path)
    return plain


def _damaged(recipe: Path) -> str:
    return f"{recipe}: damaged; delete that folder and run again"


def _check_format(plain: dict[str, Any], path: Path) -> None:
    found = plain.get("format", 1)
    if found != FORMAT:
        age = "a newer" if found > FORMAT else "an older"
        raise VsslError(
            f"{path}: written by {age} vssl (format {found}, this one has {FORMAT}); choose another "
            "outputs=DIR, or read it with that vssl"
        )


def is_claimed(folder: Path) -> bool:
    """Whether another process owns the stage of this folder now."""
    return is_locked(folder / "claim")
