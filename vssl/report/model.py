"""What a report says, and what follows from it: means, differences, costs, what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean, stdev

from vssl.dispatch.states import State
from vssl.report.facts import data_words, facts, other_data
from vssl.result import Cost, Metric
from vssl.words import MINUS, NONE


@dataclass(frozen=True)
class Column:
    """A column of the table: its label ("" if it is the only one) and the metric that it shows.

    word: tells it from another column of this label.
    """

    label: str
    metric: Metric
    word: str = ""

    @property
    def name(self) -> str:
        """What no other column is called."""
        return " ".join(filter(None, [self.label, self.word]))

    @property
    def head(self) -> str:
        """What stands above it."""
        return " ".join(filter(None, [self.label, self.metric.label]))


@dataclass(frozen=True)
class Run:
    """One chain of stages with one seed, the first stage first.

    expected: names of the data sets of the published number, as `facts.other_data` takes them.
    """

    column: Column
    stages: Sequence[State]
    expected: Mapping[str, str] = field(default_factory=dict)

    @property
    def test(self) -> State:
        """The stage that gives the metrics."""
        return self.stages[-1]

    @property
    def seed(self) -> int:
        """The seed of all its stages."""
        return self.test.spec.recipe.seed

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the test measured; nothing if it is not done."""
        return self.test.result.metrics if self.test.result else {}

    @property
    def declared(self) -> Sequence[Metric]:
        """How these are shown."""
        return self.test.result.declared if self.test.result else []

    @cached_property
    def facts(self) -> dict[str, str]:
        """The protocol in words."""
        return facts(self.stages)

    @property
    def data(self) -> str:
        """What it was measured on."""
        return data_words(self.test.spec.recipe)

    @cached_property
    def other_data(self) -> str:
        """How the videos differ from those of the published number, or ""."""
        return other_data([stage.spec for stage in self.stages], self.expected)

    @property
    def waits_for(self) -> State | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if stage.status != "done"), None)


@dataclass(frozen=True)
class Row:
    """All runs of one label. published: by column label, as shown. x, series: its place in a curve."""

    label: str
    runs: Sequence[Run]
    published: Mapping[str, float] = field(default_factory=dict)
    series: str = ""
    x: float | str | None = None

    @property
    def stages(self) -> list[State]:
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
    """What a row reached in a metric: one value, as shown, for each seed that is done, of `asked` seeds."""

    metric: Metric
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
        """Ours less the published number; None if it was measured on other videos."""
        if self.mean is None or self.published is None or self.other_data:
            return None
        return self.mean - self.published

    @property
    def mean_sd(self) -> str:
        """Mean and deviation; a mean alone of one seed; a dash of none."""
        words = self.words(self.mean)
        return words if self.sd is None else f"{words} ± {self.words(self.sd)}"

    @property
    def seeds(self) -> str:
        """How many seeds are done, of how many; a dash where none was asked for."""
        if not self.asked:
            return NONE
        return str(self.asked) if len(self.values) == self.asked else f"{len(self.values)} of {self.asked}"

    def words(self, value: float | None) -> str:
        """A value of the metric, or a dash."""
        return NONE if value is None else self.metric.words(value)

    def signed(self, value: float | None) -> str:
        """The same with its sign."""
        return NONE if value is None else f"{MINUS if value < 0 else '+'}{self.words(abs(value))}"


def cell(row: Row, column: Column, metric: Metric | None = None) -> Cell:
    """What `row` reached in `column`, by the column's metric or another one."""
    runs, shown = runs_of(row, column), metric or column.metric
    return Cell(
        metric=shown,
        values=[shown.scaled(run.metrics[shown.name]) for run in runs if shown.name in run.metrics],
        asked=len(runs),
        published=row.published.get(column.label) if runs or not column.word else None,
        data="; ".join(dict.fromkeys(run.data for run in runs)),
        other_data="; ".join(dict.fromkeys(run.other_data for run in runs if run.other_data)),
    )


def runs_of(row: Row, column: Column) -> list[Run]:
    """The runs of a row in a column, one for each seed."""
    return [run for run in row.runs if run.column == column]


def declared(runs: Iterable[Run]) -> list[Metric]:
    """The metrics of some runs, each name once, in the order declared."""
    return list({metric.name: metric for run in runs for metric in run.declared}.values())


def in_words(metrics: Iterable[Metric]) -> str:
    """The labels of some metrics, and which of these are in percent."""
    labels = {percent: [m.label for m in metrics if m.percent == percent] for percent in (True, False)}
    shares = [f"{', '.join(labels[True])} in percent"] if labels[True] else []
    return ", ".join([*shares, *labels[False]])


def distinct(runs: Iterable[Run]) -> list[State]:
    """The stages of some runs, each key once."""
    return list({stage.spec: stage for run in runs for stage in run.stages}.values())


def costs(stages: Iterable[State], own: bool = False) -> list[Cost]:
    """The costs of the stages that are done; `own`: without trainings that they continued."""
    found = [stage.result.cost for stage in stages if stage.result]
    return [cost.own for cost in found] if own else found


def hours(runs: Sequence[Run]) -> tuple[float, str] | None:
    """Mean hours that one run took, all its stages together, and their unit: "GPU hour", or "CPU hour" if no
    stage had a GPU. None if a run is not done, or runs differ in the unit."""
    taken = [_hours_of(run) for run in runs]
    units = {unit for _, unit in taken}
    if len(units) != 1 or any(run.waits_for for run in runs):
        return None
    return mean(value for value, _ in taken), units.pop()


def efficiency(row: Row, column: Column) -> tuple[float, str] | None:
    """Mean percent reached by mean hours of one run, over the runs that are done, and the hours' unit.

    None of a metric of which less is better, or that is no share.
    """
    done = [run for run in runs_of(row, column) if run.metrics]
    taken, reached = hours(done), cell(row, column).mean
    if not (column.metric.percent and column.metric.larger_is_better and taken and taken[0]):
        return None
    return None if reached is None else (reached / taken[0], taken[1])


def missing(report: Report) -> list[tuple[Row, Run, State]]:
    """Every run that has no result, with its row and the first of its stages that is not done."""
    return [(row, run, run.waits_for) for row in report.rows for run in row.runs if run.waits_for]


def _hours_of(run: Run) -> tuple[float, str]:
    taken = costs(run.stages)
    gpu, cpu = sum(cost.gpu_hours for cost in taken), sum(cost.cpu_hours for cost in taken)
    return (gpu, "GPU hour") if gpu else (cpu, "CPU hour")
