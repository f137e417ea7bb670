"""Tables of a launch: what is planned, what came of each stage, and what the points reached.

They are printed to stdout: coloured on a terminal; plain, and as wide as their content, elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vssl.report.progress import duration

NONE = "\N{EN DASH}"
_COLOURS = {
    "done": "green",
    "reused": "cyan",
    "running": "bold green",
    "submitted": "cyan",
    "queued": "cyan",
    "failed": "bold red",
    "stale": "bold yellow",
}
_METRICS = {
    "clip_top1": "clip top-1",
    "video_top1": "video top-1",
    "video_top5": "video top-5",
    "recall_at_1": "recall at 1",
    "recall_at_5": "recall at 5",
    "recall_at_20": "recall at 20",
    "chance": "chance",
}
"""What `result_table` shows of a point's metrics, and how it is called there."""
_WITH_DEVIATION = ("clip_top1", "video_top1", "recall_at_1")


@dataclass(frozen=True)
class PlanRow:
    """A stage that a launch needs; `what` in words, `clips` that it trains or tests on."""

    key: str
    name: str
    what: str
    state: str
    clips: int


@dataclass(frozen=True)
class Cause:
    """Files of which a check has the same to say; `used` whether they are trained on."""

    cause: str
    files: int
    used: bool
    remedy: str
    example: str


@dataclass(frozen=True)
class StatusRow:
    """How a stage stands: `job` on a cluster if it has one; `detail` is progress, or why it waits, failed or
    stopped; `log` the file that tells more."""

    name: str
    key: str
    what: str
    status: str
    job: str
    detail: str
    log: str | None


@dataclass(frozen=True)
class Outcome:
    """What came of a stage; `reason` if it failed or was skipped, `log` the file that tells more."""

    name: str
    key: str
    what: str
    status: Literal["done", "reused", "failed", "skipped", "submitted", "queued"]
    reason: str
    log: str | None
    seconds: float


@dataclass(frozen=True)
class Point:
    """A point of a sweep: the method's label, the seed, its test metrics (fractions of 1; None if there is no
    result), and what it was tested on if the sweep has several of that."""

    label: str
    seed: int
    metrics: dict[str, float] | None
    column: str = ""


def plan_table(rows: Sequence[PlanRow], num_points: int, num_asked: int) -> None:
    """Print the distinct stages of `num_points` points, which ask for `num_asked` stages together."""
    table = _table("key", "stage", "what", "state", "clips")
    for row in rows:
        table.add_row(row.key, row.name, Text(row.what), _state(row.state), f"{row.clips:,}")
    _print(table)
    num_done = sum(row.state == "done" for row in rows)
    print(
        f"{_count(num_points, 'point')}, {_count(num_asked, 'stage')} asked for, "
        f"{len(rows)} distinct, {num_done} already done"
    )


def cause_table(rows: Sequence[Cause], num_files: int) -> None:
    """Print what a check of `num_files` files has to say, by cause."""
    table = _table("cause", "files", "used", "remedy", "for example")
    for row in rows:
        table.add_row(
            row.cause, f"{row.files:,}", "yes" if row.used else "no", Text(row.remedy), Text(row.example)
        )
    if rows:
        _print(table)
    fine = num_files - sum(row.files for row in rows)
    print(f"{fine:,} of {_count(num_files, 'file')} without any remark")


def outcome_table(rows: Sequence[Outcome]) -> None:
    """Print what came of each stage, and below it why some failed or were skipped."""
    table = _table("stage", "key", "what", "status", "time")
    for row in rows:
        table.add_row(row.name, row.key, Text(row.what), _state(row.status), duration(row.seconds))
    _print(table)
    print(_counts(row.status for row in rows))
    # Not in the table: a path that is cut or folded cannot be copied.
    for row in rows:
        if row.reason:
            print(f"{row.name} {row.key} {row.status}: {row.reason}")
        if row.log:
            print(f"    {row.log}")


def job_table(rows: Sequence[StatusRow]) -> None:
    """Print the stages that have a job or were submitted, and how many there are of each status."""
    table = _table("stage", "key", "what", "status", "job")
    for row in rows:
        if row.job:
            table.add_row(row.name, row.key, Text(row.what), _state(row.status), Text(row.job))
    _print(table)
    print(_counts(row.status for row in rows))


def status_table(rows: Sequence[StatusRow], gpu_hours: float) -> None:
    """Print how each stage stands, then the log files of those that need a look, and totals."""
    table = _table("stage", "key", "what", "status", "job", "detail")
    for row in rows:
        table.add_row(row.name, row.key, Text(row.what), _state(row.status), row.job, Text(row.detail))
    _print(table)
    for row in rows:
        if row.status in ("failed", "stale") and row.log:
            print(f"{row.name} {row.key} {row.status}: {row.detail}\n    {row.log}")
    print(f"{_counts(row.status for row in rows)}; {gpu_hours:.1f} GPU hours in finished stages")


def result_table(points: Sequence[Point]) -> None:
    """Print mean ± sample standard deviation over the seeds of each label (and column), in percent."""
    header, *rows = _result_rows(points)
    table = _table(*header, numeric=header[header.index("seeds") :])
    for row in rows:
        table.add_row(*map(Text, row))
    _print(table)
    print("in percent: mean ± standard deviation over the seeds")


def _result_rows(points: Sequence[Point]) -> list[list[str]]:
    """The header, and a row for each label and column in the order of first appearance.

    Of the metrics those that any point has; what was tested on only if that is said of any.
    """
    metrics = [name for name in _METRICS if any(name in (point.metrics or {}) for point in points)]
    with_columns = any(point.column for point in points)
    header = [
        "method",
        *(["tested on"] if with_columns else []),
        "seeds",
        *(_METRICS[name] for name in metrics),
    ]
    rows = [header]
    for label, column in dict.fromkeys((point.label, point.column) for point in points):
        runs = [point.metrics for point in points if (point.label, point.column) == (label, column)]
        rows.append([label, *([column] if with_columns else []), *_result_cells(runs, metrics)])
    return rows


def _result_cells(runs: Sequence[dict[str, float] | None], metrics: Sequence[str]) -> list[str]:
    """How many runs there are, and their mean for each metric."""
    done = [run for run in runs if run is not None]
    cells = [str(len(runs)) if len(done) == len(runs) else f"{len(done)} of {len(runs)}"]
    for name in metrics:
        values = [100 * run[name] for run in done if name in run]
        cells.append(_mean_sd(values) if name in _WITH_DEVIATION else _mean(values))
    return cells


def _mean(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" if values else NONE


def _mean_sd(values: Sequence[float]) -> str:
    if not values:
        return NONE
    return f"{_mean(values)} ± {f'{stdev(values):.1f}' if len(values) > 1 else NONE}"


def _table(*header: str, numeric: Sequence[str] = ("files", "clips", "time")) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in header:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    return table


def _state(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, "yellow"))


def _counts(statuses: Iterable[str]) -> str:
    return ", ".join(f"{number} {status}" for status, number in Counter(statuses).items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # as wide as the table is
    with console.capture() as text:
        console.print(table)
    print("", *(line.rstrip() for line in text.get().splitlines()), sep="\n")
