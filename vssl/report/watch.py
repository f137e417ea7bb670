"""How a forest stands, again and again: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vssl.dispatch.states import State, eta
from vssl.report.course import Course
from vssl.report.table import COLOURS, state_text
from vssl.words import number

EVERY_S = 2.0
LINE_EVERY_S = 30.0
WIDE = 100
"""Columns from which on a table has all its columns."""

BAR = 12
"""Columns of a bar."""

IDLE = "nothing runs: this waits for a launch (Ctrl-C leaves)"

REASONS = 5
"""Up to how many failures are explained; the table at the end explains all."""

LEFT_OUT = ("done", "to do", "cancelled", "queued")
"""Of what there is no room for every row, what is left out first comes first."""


def watch(look: Callable[[], list[State]], course: Course) -> list[State]:
    """Show how the stages stand until none of them can go on; return how they do then.

    look: how each stage stands now.
    """
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        return _lines(look, course)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            found = look()
            live.update(_screen(found, course, console), refresh=True)
            if is_over(found):
                return found
            time.sleep(EVERY_S)


def is_over(found: Sequence[State]) -> bool:
    """Whether no stage can go on: each is done, or has failed, or waits for one that has."""
    lost = set()
    for one in found:
        waits_for_lost = one.spec.parent in lost
        if one.status in ("failed", "cancelled") or (one.status != "done" and waits_for_lost):
            lost.add(one.spec)
        elif one.status != "done":
            return False
    return True


def _lines(look: Callable[[], list[State]], course: Course) -> list[State]:
    """A line whenever there is news, and one for each stage that fails."""
    said, told, last = "", set(), float("-inf")
    while True:
        found = look()
        for one in found:
            if one.status == "failed" and one.spec not in told:
                told.add(one.spec)
                print(f"{one.spec} failed: {one.detail}", flush=True)
        words = _summary(found, course)
        over = is_over(found)
        if words != said and (over or time.monotonic() - last > LINE_EVERY_S):
            print(words, flush=True)
            said, last = words, time.monotonic()
        if over:
            return found
        time.sleep(EVERY_S)


def _summary(found: Sequence[State], course: Course) -> str:
    counts = Counter(one.status for one in found if one.status not in ("done", "to do"))
    idle = [] if is_over(found) or counts.keys() & {"running", "queued"} else [IDLE]
    told = [f"{amount} {status}" for status, amount in counts.items()]
    return ", ".join([course.far().words, *told, *idle])


def _screen(found: Sequence[State], course: Course, console: Console) -> Group:
    """The table, what is not in it, why stages failed, and how far all of them are."""
    failed = [one for one in found if one.status in ("failed", "stale")]
    reasons = [Text(f"{one.spec} {one.status}: {one.detail}", COLOURS[one.status]) for one in failed]
    lines = sum(len(text.wrap(console, console.width)) for text in reasons[:REASONS])
    room = max(1, console.height - 5 - lines)
    shown = _fitting(found, room)
    hidden = Counter(one.status for one in found if one not in shown)
    words = [f"and {', '.join(f'{amount} {status}' for status, amount in hidden.items())}"] if hidden else []
    below = [Text(line, "dim") for line in words] + reasons[:REASONS]
    return Group(_table(shown, console.width >= WIDE), *below, Text(_summary(found, course), "bold"))


def _fitting(found: Sequence[State], room: int) -> list[State]:
    """As many as there is room for, in their order."""
    kept = list(found)
    for status in LEFT_OUT:
        surplus = len(kept) - room
        if surplus > 0:
            out = [one for one in kept if one.status == status]
            out = out[:surplus] if status == "done" else out[-surplus:]
            kept = [one for one in kept if one not in out]
    return kept[:room]


def _table(shown: Sequence[State], wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True)
    for name in ("stage", "key", *(["what"] if wide else []), "status", "clips", "clips/s"):
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", justify="right" if name == "clips/s" else "left"
        )
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in shown:
        what = [Text(one.spec.recipe.words)] if wide else []
        key, status = one.spec.key[:8], state_text(one.status)
        table.add_row(one.spec.name, key, *what, status, _bar(one), _speed(one), Text(_detail(one)))
    return table


def _bar(one: State) -> ProgressBar | str:
    if one.status == "done":
        return ProgressBar(1, 1, width=BAR)
    if one.progress and one.progress["total"]:
        return ProgressBar(one.progress["total"], one.progress["done"], width=BAR)
    return ""


def _speed(one: State) -> str:
    """Clips per second: now, or of the whole stage."""
    if one.result and one.result.cost.clips and one.result.cost.seconds:
        return number(one.result.cost.clips / one.result.cost.seconds)
    return number(one.progress["rate"]) if one.progress and one.progress["rate"] else ""


def _detail(one: State) -> str:
    """The time that is left and the job; of what failed, the reason stands below the table."""
    left = [eta(one.progress)] if one.progress else []
    said = [one.detail] if one.status in ("done", "queued", "cancelled") and one.detail else []
    return ", ".join([*left, *said, *([f"job {one.job}"] if one.job and one.status != "done" else [])])
