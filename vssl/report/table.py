"""Tables of a launch: what is planned, what came of each stage, and what the points reached.

They are printed to stdout: coloured on a terminal; plain, and as wide as their content, elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vssl.data.index import VERDICTS
from vssl.dispatch.states import State
from vssl.report import comparison
from vssl.report.comparison import INTERVALS
from vssl.report.model import QUICK, Column, Report, Row, declared, in_words
from vssl.stage.store import StageStore
from vssl.words import count, duration

if TYPE_CHECKING:
    from vssl.data.check import Remark
    from vssl.stage.context import Outcome  # it would import torch

COLOURS = {
    "done": "green",
    "reused": "cyan",
    "running": "bold green",
    "submitted": "cyan",
    "queued": "cyan",
    "failed": "bold red",
    "stale": "bold yellow",
}


@dataclass(frozen=True)
class PlanRow:
    """A stage that a launch needs; `what` in words, `clips` that it trains or tests on."""

    key: str
    name: str
    what: str
    state: str
    clips: int


def plan_table(rows: Sequence[PlanRow], num_points: int, num_asked: int) -> None:
    """Print the distinct stages of `num_points` points, which ask for `num_asked` stages together."""
    table = _table("key", "stage", "what", "state", "clips")
    for row in rows:
        table.add_row(row.key, row.name, Text(row.what), state_text(row.state), f"{row.clips:,}")
    _print(table)
    num_done = sum(row.state == "done" for row in rows)
    print(
        f"{count(num_points, 'point')}, {count(num_asked, 'stage')} asked for, "
        f"{len(rows)} distinct, {num_done} already done"
    )


def cause_table(remarks: Sequence[Remark], num_files: int) -> None:
    """Print what a check of `num_files` files has to say, by cause; `used` whether they are trained on."""
    table = _table("cause", "files", "used", "remedy", "for example")
    for cause, verdict in VERDICTS.items():
        if alike := [remark for remark in remarks if remark.verdict == cause]:
            example = Text(f"{alike[0].name}: {alike[0].detail}")
            used = "yes" if verdict.usable else "no"
            table.add_row(cause, f"{len(alike):,}", used, Text(verdict.remedy), example)
    if remarks:
        _print(table)
    print(f"{num_files - len(remarks):,} of {count(num_files, 'file')} without any remark")


def outcome_table(outcomes: Sequence[Outcome], store: StageStore) -> None:
    """Print what came of each stage, and below it why some failed or were skipped."""
    _stage_table("time", ((one, [duration(one.seconds)]) for one in outcomes))
    print(_counts(outcomes))
    # Not in the table: a path that is cut or folded cannot be copied.
    for one in outcomes:
        if one.reason:
            print(f"{one.spec.name} {one.spec.key} {one.status}: {one.reason}")
        if one.status == "failed":
            print(f"    {store.folder(one.spec) / 'log.txt'}")


def job_table(outcomes: Sequence[Outcome]) -> None:
    """Print the stages that have a job (their reason), and how many there are of each status."""
    _stage_table("job", ((one, [one.reason]) for one in outcomes if one.reason))
    print(_counts(outcomes))


def trial_table(options: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> None:
    """Print the values that were tried, and what they reached in words."""
    table = _table("trial", *options, "reached", numeric=["trial", *options, "reached"])
    for number, (values, reached) in enumerate(rows):
        table.add_row(str(number), *map(Text, [*values, reached]))
    _print(table)


def status_table(states: Sequence[State]) -> None:
    """Print how each stage stands, then the log files of those that need a look, and totals."""
    _stage_table("job detail", ((one, [one.job, one.detail]) for one in states))
    for one in states:
        if one.status in ("failed", "stale") and one.log:
            print(f"{one.spec.name} {one.spec.key} {one.status}: {one.detail}\n    {one.log}")
    gpu_hours = sum(one.gpu_hours for one in states)
    print(f"{_counts(states)}; {gpu_hours:.1f} GPU hours in finished stages")


def result_table(report: Report) -> None:
    """Print every declared metric of each row, its mean and standard deviation over the seeds; then how
    certain those are that the columns show, and how rows differ from their baselines."""
    metrics = declared(report.runs)
    places = [(row, column) for row in report.rows for column in report.columns if row.runs_of(column)]
    header = ["method", *(["tested on"] if any(column.label for _, column in places) else []), "seeds"]
    names = [metric.label for metric in metrics]
    table = _table(*header, *names, numeric=["seeds", *names])
    for row, column in places:
        cells = {metric.name: row.cell(column, metric) for metric in metrics}
        numbers = [c.words(c.mean) if name == "chance" else c.mean_sd for name, c in cells.items()]
        tested_on = [_tested_on(row, column)] if len(header) > 2 else []
        table.add_row(*map(Text, [row.label, *tested_on, row.cell(column).seeds, *numbers]))
    _print(table)
    unit = "in percent" if all(metric.percent for metric in metrics) else in_words(metrics)
    print(f"{unit}: mean ± standard deviation over the seeds")
    if report.is_quick:
        print(QUICK)
    if report.intervals or report.comparisons:
        _certainty_table(report)


def _certainty_table(report: Report) -> None:
    """Print the intervals of every mean, below it its differences to baselines, then these in words."""
    one_column = len(report.columns) == 1
    header = ["method", *([] if one_column else ["in"])]
    numbers = [report.columns[0].head if one_column else "mean", *report.intervals]
    p_values = comparison.p_names(report.comparisons)
    table = _table(*header, *numbers, *p_values, numeric=[*numbers, *p_values])
    for row, column in [(row, column) for row in report.rows for column in report.columns]:
        place, cell = [] if one_column else [column.head], row.cell(column)
        if cell.mean is not None:
            table.add_row(
                *map(Text, [row.label, *place, cell.words(cell.mean), *cell.ends(report.intervals)])
            )
        for one in [one for one in report.comparisons if one.row is row and one.column == column]:
            found = [one.signed, *one.ends(report.intervals), *one.p_words(p_values)]
            style = "bold" if one.is_distinguishable else ""
            table.add_row(*map(Text, [f"  minus {one.baseline}", *place, *found]), style=style)
    _print(table)
    for one in report.comparisons:
        print(f"{one.name}: {one.words}")
    how = [f"{name}: {INTERVALS[name]}" for name in report.intervals]
    print(*how, *comparison.how_to_read(report.comparisons), sep="\n")


def _tested_on(row: Row, column: Column) -> str:
    """The label of the column; with the videos that take the place of its data set, in a rehearsal."""
    names = dict.fromkeys(run.test.spec.recipe.data_name for run in row.runs_of(column))
    others = [name for name in names if name.lower() != column.label.lower()]
    return f"{column.label}: {', '.join(others)}" if column.label and others else column.label


def _stage_table(columns: str, rows: Iterable[tuple[Outcome | State, list[str]]]) -> None:
    """Print stages with how they stand, and in further columns what is said of each."""
    table = _table("stage", "key", "what", "status", *columns.split())
    for one, said in rows:
        spec = one.spec
        table.add_row(spec.name, spec.key, Text(spec.recipe.words), state_text(one.status), *map(Text, said))
    _print(table)


def _table(*header: str, numeric: Sequence[str] = ("files", "clips", "time")) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in header:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    return table


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=COLOURS.get(state, "yellow"))


def _counts(stages: Iterable[Outcome | State]) -> str:
    numbers = Counter(one.status for one in stages)
    return ", ".join(f"{number} {status}" for status, number in numbers.items())


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # as wide as the table is
    with console.capture() as text:
        console.print(table)
    print("", *(line.rstrip() for line in text.get().splitlines()), sep="\n")
