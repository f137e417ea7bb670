"""Where stages live: one folder per key, a claim while it is worked on, `result.json` last."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vssl.errors import VsslError
from vssl.files import remove_leftovers, write_atomically
from vssl.stage.spec import StageSpec

FORMAT = 1
"""Version of the folder's layout. A folder with a higher one was written by a newer vssl."""


class StageStore:
    """All stages under `<outputs>/stages/<name>/<key>/`."""

    def __init__(self, outputs: Path) -> None:
        self.root = outputs / "stages"

    def folder(self, spec: StageSpec) -> Path:
        """The stage's folder, whether it exists yet or not."""
        return self.root / spec.name / spec.key

    def key(self, start: str | None, others: Iterable[str] = ()) -> str:
        """The only key that begins with `start`, among those of all folders and `others`.

        Raises `VsslError` if there is none, or more than one.
        """
        if start is None:
            raise VsslError("which stage? give the beginning of its key: stage=KEY (mode=status shows them)")
        folders = {path.name for path in self.root.glob(f"*/{start}*")}
        keys = folders | {key for key in others if key.startswith(start)}
        if len(keys) != 1:
            found = f"{len(keys)} stages begin like this" if keys else f"no such stage in {self.root}"
            raise VsslError(f"stage={start}: {found}; give the beginning of a key (mode=status shows them)")
        return keys.pop()

    def result(self, spec: StageSpec) -> dict[str, Any] | None:
        """The result of a finished stage, or None. A folder of a newer vssl raises `VsslError`."""
        path = self.folder(spec) / "result.json"
        try:
            result: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise VsslError(f"{path}: not JSON ({error}); delete the file to run the stage again") from error
        if result.get("format", 0) > FORMAT:
            raise VsslError(
                f"{path}: written by a newer vssl (format {result['format']}, this one knows {FORMAT}); "
                "update vssl or choose another outputs=DIR"
            )
        return result

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
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                yield False
                return
            remove_leftovers(folder)
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
            write_atomically(folder / "owner.json", json.dumps(owner))
            recipe = yaml.safe_dump(describe(spec), sort_keys=False, width=110)
            write_atomically(folder / "recipe.yaml", recipe)
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
        try:
            note: dict[str, Any] = json.loads((self.folder(spec) / name).read_text())
        except FileNotFoundError:
            return None
        return note

    def fail(self, spec: StageSpec, reason: str) -> None:
        """Note why the stage stopped; the next claim removes the note."""
        self.folder(spec).mkdir(parents=True, exist_ok=True)  # it may not have come so far
        note = {"reason": reason, "time": time.time()}
        write_atomically(self.folder(spec) / "failed.json", json.dumps(note))

    def finish(self, spec: StageSpec, result: Mapping[str, Any]) -> dict[str, Any]:
        """Mark the stage as done; the last file that is written into its folder."""
        whole = {"format": FORMAT, "stage": spec.name, "key": spec.key, **result}
        write_atomically(self.folder(spec) / "result.json", json.dumps(whole, indent=2) + "\n")
        return whole


def is_claimed(folder: Path) -> bool:
    """Whether another process owns the stage of this folder now."""
    try:
        with open(folder / "claim") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):
        return True
    return False


def describe(spec: StageSpec) -> dict[str, Any]:
    """The stage as plain data for `recipe.yaml`: everything that went into its key."""
    parent = f"{spec.parent.name}/{spec.parent.key}" if spec.parent else None
    return {"stage": spec.name, "key": spec.key, "parent": parent, **spec.recipe}
