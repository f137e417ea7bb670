"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from vssl.words import duration, number

LINE_EVERY_S = 5.0
BAR_EVERY_S = 0.1


class Progress:
    """Shows how far `total` units of work have come, at what speed, and the latest values.

    `clock` returns seconds. Use as a context manager, or call `start` and `close`.
    """

    def __init__(
        self, title: str, total: int, unit: str = "clips", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self.values: dict[str, float] = {}
        self._clock = clock
        self._view: _View | None = None

    def __enter__(self) -> Progress:
        self.start(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, done: int) -> None:
        """Begin to show; `done` units were done by earlier runs and do not count for the speed."""
        self.done = self._done_before = done
        self._began = self._shown = self._clock()
        self._view = _Bar(self) if _on_terminal() else _Lines()

    def advance(self, n: int, **values: float) -> None:
        """Count `n` more units and show `values` (loss, lr, ...) in the order given."""
        self.done += n
        self.values.update(values)
        if self._view is not None and self._clock() - self._shown >= self._view.every_s:
            self._view.show(self)
            self._shown = self._clock()

    def close(self) -> None:
        """Show the last state, and the time taken; nothing if it never started."""
        if self._view is not None:
            self._view.close(self)
            self._view = None

    @property
    def percent(self) -> int:
        """Share that is done, rounded down: 100 is said only of finished work."""
        return 100 * self.done // self.total if self.total else 100

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self._done_before) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def facts(self) -> list[str]:
        """Speed and latest values as text."""
        speed = [f"{number(self.rate)} {self.unit}/s"] if self.rate > 0 else []
        return speed + [f"{name} {number(value)}" for name, value in self.values.items()]

    def remaining(self) -> str:
        """The time left at this speed."""
        return f"ETA {duration((self.total - self.done) / self.rate) if self.rate > 0 else '?'}"

    def taken(self) -> str:
        """The time since the start."""
        return f"took {duration(self.elapsed_s)}"


class _View(Protocol):
    every_s: float

    def show(self, progress: Progress) -> None: ...

    def close(self, progress: Progress) -> None: ...


class _Lines:
    """Plain lines for files and pipes."""

    every_s = LINE_EVERY_S

    def show(self, progress: Progress) -> None:
        self._print(progress, progress.remaining())

    def close(self, progress: Progress) -> None:
        self._print(progress, progress.taken())

    def _print(self, progress: Progress, time_text: str) -> None:
        count = f"{progress.percent}% {progress.done}/{progress.total} {progress.unit}"
        print(progress.title, ", ".join([count, *progress.facts(), time_text]), flush=True)


class _Bar:
    """A bar that is drawn in place."""

    every_s = BAR_EVERY_S

    def __init__(self, progress: Progress) -> None:
        # No refreshing thread: the process forks loader workers while the bar is shown.
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            auto_refresh=False,
            expand=True,
        )
        self._task = self._rich.add_task(progress.title, total=progress.total, text="")
        self._draw(progress, "")
        self._rich.start()

    def show(self, progress: Progress) -> None:
        self._draw(progress, progress.remaining())

    def close(self, progress: Progress) -> None:
        self._draw(progress, progress.taken())
        self._rich.stop()

    def _draw(self, progress: Progress, time_text: str) -> None:
        text = "  ".join([f"{progress.percent:3}%", *progress.facts(), time_text])
        self._rich.update(self._task, completed=progress.done, text=text, refresh=True)


def _on_terminal() -> bool:
    return sys.stdout.isatty() and not Console().is_dumb_terminal
