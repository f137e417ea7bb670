"""What came of each file, noted as it comes: a kill at any moment leaves all but its last line usable."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vssl.errors import VsslError

State = list[Any]
"""What a file looks like from outside, and what else its outcome depends on."""


def state_of(path: Path, *about: Any) -> State | None:
    """Size and time of change of a file, and whatever else decides what comes of it; None for no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, *about]


def noted(journal: Path) -> Iterator[tuple[str, State, Any]]:
    """Name, state and outcome of each line, in the order in which they were noted; none without a journal."""
    try:
        lines = open(journal, encoding="utf-8", errors="replace")  # noqa: SIM115  closed below
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise VsslError(f"{journal}: cannot be read ({error.strerror}); make it readable") from error
    with lines:
        for line in lines:
            with suppress(ValueError, TypeError):  # blank, or the process was killed while it wrote this line
                name, state, outcome = json.loads(line)
                yield str(name), state, outcome


@contextmanager
def noting(journal: Path) -> Iterator[Callable[[str, State, Any], None]]:
    """Give the function that notes the state and the outcome of a file of this name."""
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        file = open(journal, "a", encoding="utf-8")  # noqa: SIM115  closed below
    except OSError as error:
        raise _unwritable(journal, error) from error

    def write(line: str) -> None:
        try:
            file.write(f"{line}\n")
            file.flush()
        except OSError as error:
            raise _unwritable(journal, error) from error

    with file:
        write("")  # ends the line in which an earlier process was killed
        yield lambda name, state, outcome: write(json.dumps([name, state, outcome]))


def _unwritable(journal: Path, error: OSError) -> VsslError:
    return VsslError(
        f"{journal}: cannot be written ({error.strerror}); free some space or make it writable: the same "
        "command goes on where it was"
    )
