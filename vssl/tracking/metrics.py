"""The metrics of a stage as lines of JSON, which are the truth, and what a tracker that mirrors them is."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vssl.errors import VsslError
from vssl.files import write_atomically

FILE_NAME = "metrics.jsonl"
RESERVED = ("step", "time")
Status = Literal["running", "finished", "failed", "killed"]
"""`killed`: nobody works on the stage now, and it is not done."""


@dataclass(frozen=True)
class Launch:
    """One command as a tracker sees it: an id that finds it again from any process, a name for people, and
    the command as it was typed."""

    id: str
    name: str
    command: str


@dataclass(frozen=True)
class StageFolder:
    """A stage as a tracker sees it: its name and key, its folder, and tags such as commit, host, version.

    params: values of the recipe by dotted path. metrics: of the result; none before the stage is finished.
    """

    name: str
    key: str
    folder: Path
    tags: Mapping[str, str]
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.key[:8]}"


class Tracker:
    """A mirror of stage folders; this one mirrors nothing, as the folders are enough.

    A launch calls all but `sync` in another process (see `vssl.tracking.apart`), to which the object is sent:
    what it does to connect belongs into `begin`. What goes wrong there is told and not raised.
    """

    def begin(self, launch: Launch) -> None:
        """Open a launch before any stage; again in each other process that runs stages of it."""

    def claim(self, folder: Path) -> None:
        """Note in `folder` that this launch runs, as long as its process does; close what is left there."""

    def close_left(self, folder: Path) -> None:
        """Close the launches that are noted in `folder` and run no more."""

    def mirror(self, stage: StageFolder, status: Status) -> None:
        """Pass on what the folder holds that was not passed on yet. Idempotent; resumes where it stopped."""

    def reuse(self, stage: StageFolder) -> None:
        """Note that this launch uses a stage that was finished before."""

    def sync(self, stage: StageFolder, status: Status) -> None:
        """As `mirror`, outside of any launch; a failure raises `VsslError`."""

    def end(self, ok: bool) -> None:
        """Close the launch; `ok` if every stage finished."""

    def leave(self) -> None:
        """This process will call no more; the launch may go on in others."""

    def missing(self) -> list[str]:
        """What could not be passed on so far."""
        return []

    def where(self) -> str:
        """Say in one line how to look at the results."""
        return f"{FILE_NAME} in the folder of each stage"


class MetricsLog:
    """Appends the metrics of a stage to `metrics.jsonl`: `{"step": int, "time": seconds, name: value, ...}`.

    Lines past `resume_step` are dropped: a killed run wrote them after the checkpoint it resumes from.
    So is a last line that was only half written. JSON knows no NaN or infinity: they become null.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        self._path = folder / FILE_NAME
        lines = _complete_lines(self._path)
        kept = [f"{line}\n" for line in lines if _parse(self._path, line)["step"] <= resume_step]
        write_atomically(self._path, "".join(kept))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append one line; it is in the file when this returns."""
        if taken := metrics.keys() & set(RESERVED):
            raise VsslError(
                f"a metric may not be called {min(taken)!r}: {FILE_NAME} has that name; rename it"
            )
        values = {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        line = json.dumps({"step": step, "time": time.time(), **values}, allow_nan=False)
        # Opened for each line: readers on other nodes of a shared file system see it once it is closed.
        with self._path.open("a") as file:
            file.write(f"{line}\n")


def read(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a stage's `metrics.jsonl`, null as NaN; a line still being written is left out.

    An absent file has no lines. Raises `VsslError` for a line that is not JSON.
    """
    path = folder / FILE_NAME
    return [_parse(path, line) for line in _complete_lines(path)]


def _complete_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _parse(path: Path, line: str) -> dict[str, float]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise VsslError(f"{path}: this line is not JSON: {line[:60]!r}; delete the line to go on") from error
    return {name: math.nan if value is None else value for name, value in values.items()}
