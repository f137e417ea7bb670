"""What a report says, as plain data, and what follows from it: means, differences, costs, what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vssl.result import References


@dataclass(frozen=True)
class Cost:
    """What a finished stage took; None where nobody measured it. `gpus` is 0 on a CPU. `inherited_seconds` of
    the seconds were spent by the shorter training that it continues."""

    seconds: float | None = None
    gpus: int | None = None
    clips: int | None = None
    memory_bytes: float | None = None
    energy_joules: float | None = None
    inherited_seconds: float = 0.0

    @property
    def own(self) -> Cost:
        """Without the time of another stage."""
        seconds = None if self.seconds is None else self.seconds - self.inherited_seconds
        return replace(self, seconds=seconds)

    @property
    def gpu_hours(self) -> float | None:
        """Hours of wall time, times the GPUs."""
        return None if self.seconds is None or self.gpus is None else self.seconds * self.gpus / 3600

    @property
    def cpu_hours(self) -> float | None:
        """Hours of wall time of a stage that had no GPU; 0 for one that had."""
        if self.seconds is None or self.gpus is None:
            return None
        return 0.0 if self.gpus else self.seconds / 3600


@dataclass(frozen=True)
class Stage:
    """One stage: how it stands, what it took if it is done, its recipe as YAML, its lines of metrics and what
    to read these against."""

    name: str
    key: str
    state: str
    detail: str
    recipe: str
    cost: Cost | None = None
    lines: Sequence[Mapping[str, float]] = ()
    references: References = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One chain of stages with one seed.

    metrics: fractions; None if the last stage is not done. facts: the protocol in words. data: what the
    number was measured on. other_data: in which way the videos are not those of the published number, "" if
    they are. confusion_NN: row = true class, every row sums to 1. sheet: PNG of nearest neighbours.
    """

    column: str
    seed: int
    stages: Sequence[Stage]
    metrics: Mapping[str, float] | None
    facts: Mapping[str, str]
    data: str
    other_data: str = ""
    confusion_NN: NDArray[np.float64] | None = None
    class_names: Sequence[str] = ()
    sheet: bytes | None = None

    @property
    def waits_for(self) -> Stage | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if stage.state != "done"), None)


@dataclass(frozen=True)
class Column:
    """A column of the table: its label ("" if it is the only one) and the metric that it shows."""

    label: str
    metric: str


@dataclass(frozen=True)
class Row:
    """All runs of one label. published: in percent, by column label. x, series: its place in a curve."""

    label: str
    runs: Sequence[Run]
    published: Mapping[str, float] = field(default_factory=dict)
    series: str = ""
    x: float | str | None = None

    @property
    def stages(self) -> list[Stage]:
        """The distinct stages of all runs: each key once."""
        return distinct(self.runs)

    @property
    def facts(self) -> dict[str, str]:
        """The protocol in words; where runs differ, all that they say."""
        names = dict.fromkeys(name for run in self.runs for name in run.facts)
        said = {name: dict.fromkeys(r.facts[name] for r in self.runs if name in r.facts) for name in names}
        return {name: "; ".join(words) for name, words in said.items()}

    @property
    def seeds(self) -> list[int]:
        """The seeds asked for, ascending."""
        return sorted({run.seed for run in self.runs})


@dataclass(frozen=True)
class Curves:
    """Which training curves a sweep shows: metrics of the stages of one name."""

    stage: str
    metrics: Sequence[str]


@dataclass(frozen=True)
class Report:
    """A table with its rows and columns, and where the published numbers stand."""

    name: str
    title: str
    source: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    x_label: str = ""
    curves: Curves | None = None

    @property
    def runs(self) -> list[Run]:
        """The runs of all rows."""
        return [run for row in self.rows for run in row.runs]

    @property
    def rehearsal(self) -> str:
        """How the videos differ from the published ones in any row that has a published number, or ""."""
        said = [run.other_data for row in self.rows if row.published for run in row.runs if run.other_data]
        return "; ".join(dict.fromkeys(said))


@dataclass(frozen=True)
class Cell:
    """What a row reached in a column: one value in percent for each seed that is done, of `asked` seeds."""

    values: Sequence[float]
    asked: int
    published: float | None
    data: str
    other_data: str

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return mean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours less the published number, in points; None if it was measured on other videos."""
        if self.mean is None or self.published is None or self.other_data:
            return None
        return self.mean - self.published


@dataclass(frozen=True)
class Total:
    """A part of the cost over stages; `unknown` of them did not measure it, and are not in `value`."""

    value: float
    stages: int
    unknown: int


@dataclass(frozen=True)
class Missing:
    """A run without a result, and the first of its stages that is not done."""

    label: str
    column: str
    seed: int
    stage: Stage


def cell(row: Row, column: Column, metric: str | None = None) -> Cell:
    """What `row` reached in `column`, by the column's metric or another one."""
    runs = runs_of(row, column)
    name = metric or column.metric
    return Cell(
        values=[100 * run.metrics[name] for run in runs if run.metrics and name in run.metrics],
        asked=len(runs),
        published=row.published.get(column.label),
        data="; ".join(dict.fromkeys(run.data for run in runs)),
        other_data="; ".join(dict.fromkeys(run.other_data for run in runs if run.other_data)),
    )


def runs_of(row: Row, column: Column) -> list[Run]:
    """The runs of a row in a column, one for each seed."""
    return [run for run in row.runs if run.column == column.label]


def distinct(runs: Iterable[Run]) -> list[Stage]:
    """The stages of some runs, each key once."""
    return list({stage.key: stage for run in runs for stage in run.stages}.values())


def total(stages: Iterable[Stage], part: Callable[[Cost], float | None], highest: bool = False) -> Total:
    """The sum of a part of the cost over the stages that are done, or its highest value."""
    parts = [part(stage.cost) for stage in stages if stage.cost]
    known = [value for value in parts if value is not None]
    value = max(known, default=0.0) if highest else sum(known)
    return Total(value, len(parts), len(parts) - len(known))


def hours(runs: Sequence[Run]) -> tuple[float, str] | None:
    """Mean hours that one run took, all its stages together, and their unit: "GPU hour", or "CPU hour" if no
    stage had a GPU. None if a run is not done, a part is unknown, or runs differ in the unit."""
    taken = [_hours_of(run) for run in runs]
    known = [one for one in taken if one]
    units = {unit for _, unit in known}
    if len(known) < len(taken) or len(units) != 1:
        return None
    return mean(value for value, _ in known), units.pop()


def efficiency(row: Row, column: Column) -> tuple[float, str] | None:
    """Mean accuracy in percent by mean hours of one run, over the runs that are done, and the hours' unit."""
    done = [run for run in runs_of(row, column) if run.metrics]
    taken, reached = hours(done), cell(row, column).mean
    return (reached / taken[0], taken[1]) if taken and taken[0] and reached is not None else None


def missing(report: Report) -> list[Missing]:
    """Every run that has no result."""
    return [
        Missing(row.label, run.column, run.seed, run.waits_for)
        for row in report.rows
        for run in row.runs
        if run.waits_for
    ]


def _hours_of(run: Run) -> tuple[float, str] | None:
    gpu, cpu = total(run.stages, lambda c: c.gpu_hours), total(run.stages, lambda c: c.cpu_hours)
    if not run.metrics or gpu.unknown:
        return None
    return (gpu.value, "GPU hour") if gpu.value else (cpu.value, "CPU hour")
