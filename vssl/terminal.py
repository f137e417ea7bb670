"""Output that never stops the work: its reader may be gone, its disk full, its encoding short of letters."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


def steady_output() -> None:
    """From now on, printing never raises: what cannot be written is lost, letters that the encoding has not
    are escaped, and closed standard streams lead nowhere, and not into the next file that is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream: TextIO = getattr(sys, name) or os.fdopen(number, "w")
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Steady(stream))


class _Steady:
    """A stream whose errors are nobody's concern."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # a pipe or terminal that is gone; a file that was closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
