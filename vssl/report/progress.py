"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from vssl.report.course import Far
from vssl.words import duration, number

LINE_EVERY_S = 5.0
BAR_EVERY_S = 0.1


class Progress:
    """Shows how far `total` units of work have come, at what speed, and the latest values.

    `clock` returns seconds. Use as a context manager, or call `start` and `close`; `done` units were done by
    earlier runs and do not count for the speed. `far`: how far all the work is that this is a part of.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "clips",
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
        far: Callable[[], Far] | None = None,
    ) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self.values: dict[str, float] = {}
        self._clock, self._far = clock, far
        self._is_shown = False
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self.start(self.done)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, done: int) -> None:
        """Begin to show."""
        self.done = self._done_before = done
        self._began = self._shown = self._clock()
        self._is_shown = True
        if sys.stdout.isatty() and not Console().is_dumb_terminal:
            title, text = (
                TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[text]")
            )
            # No refreshing thread: the process forks loader workers while the bar is shown.
            self._bar = Bar(title, BarColumn(bar_width=None), text, auto_refresh=False, expand=True)
            self._bar.add_task(self.title, total=self.total, text="")
            if self._far:
                self._bar.add_task("all stages", total=1.0, text="")
            self._show("")
            self._bar.start()

    def advance(self, n: int, **values: float) -> None:
        """Count `n` more units and show `values` (loss, lr, ...) in the order given."""
        self.done += n
        self.values.update(values)
        if self._is_shown and self._clock() - self._shown >= (BAR_EVERY_S if self._bar else LINE_EVERY_S):
            left = duration((self.total - self.done) / self.rate) if self.rate > 0 else "?"
            self._show(f"ETA {left}")
            self._shown = self._clock()

    def close(self) -> None:
        """Show the last state, and the time taken; nothing if it never started."""
        if self._is_shown:
            self._show(f"took {duration(self._clock() - self._began)}")
        if self._bar:
            self._bar.stop()
        self._is_shown, self._bar = False, None

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        seconds = self._clock() - self._began
        return (self.done - self._done_before) / seconds if seconds > 0 else 0.0

    def _show(self, time_text: str) -> None:
        percent = 100 * self.done // self.total if self.total else 100  # 100 is said only of finished work
        facts = [f"{number(self.rate)} {self.unit}/s"] if self.rate > 0 else []
        facts += [f"{name} {number(value)}" for name, value in self.values.items()]
        if self._bar:
            text = "  ".join([f"{percent:3}%", *facts, time_text])
            if self._far:
                far = self._far()
                self._bar.update(self._bar.task_ids[1], completed=far.share or 0.0, text=far.words)
            self._bar.update(self._bar.task_ids[0], completed=self.done, text=text, refresh=True)
        else:
            beside = f"; all: {self._far().words}" if self._far else ""
            counted = f"{percent}% {self.done}/{self.total} {self.unit}"
            print(self.title, ", ".join([counted, *facts, time_text]) + beside, flush=True)
