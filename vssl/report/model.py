"""What a report says, and what follows from it: means, differences, costs, what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.dispatch.states import State
from vssl.report.comparison import INTERVALS, SEEDS, VIDEOS, Comparison, compare, mean_per_video
from vssl.report.predictions import OF_VIDEOS, OVER_CLASSES, classes, per_video
from vssl.report.statistics import Interval, interval_of_mean, interval_of_share, interval_of_test_set
from vssl.result import Cost, Metric
from vssl.stage.spec import Recipe, StageSpec, class_name
from vssl.words import NONE, count

_TOLD_ELSEWHERE = ("backbone", "backbone_parameters", "task", "start", "epochs", "effective_batch", "seed")


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
class Chosen:
    """Candidates in words; what each reached on held-out videos, as shown (None: it diverged); which won."""

    candidates: tuple[str, ...]
    reached: Sequence[float | None]
    chosen: Sequence[bool]


@dataclass(frozen=True)
class Run:
    """One chain of stages with one seed, the first stage first.

    expected: what the published number was measured with: names of the data sets, by `source` and
    `downstream`, and how it was tested (`protocol`), by the name of the stage before the test.
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

    @cached_property
    def _per_video(self) -> dict[str, NDArray[np.float64] | None]:
        return {}

    def per_video(self, metric: Metric) -> NDArray[np.float64] | None:
        """The metric of each test video [V], as shown; None where it is no mean over videos, nor one over
        `classes`."""
        if metric.name not in self._per_video:
            name = OF_VIDEOS if metric.name == OVER_CLASSES else metric.name
            found = per_video(self.test.stage.folder, name) if self.metrics else None
            self._per_video[metric.name] = None if found is None else metric.scaled(1) * found
        return self._per_video[metric.name]

    def classes(self, metric: Metric) -> NDArray[np.int64] | None:
        """The class of each test video [V], where the metric is a mean over classes."""
        return classes(self.test.stage.folder, metric.name)

    @cached_property
    def facts(self) -> dict[str, str]:
        """The protocol in words: what the recipes say, then what the last finished stage noted."""
        results = [stage.result for stage in self.stages if stage.result]
        noted = results[-1].protocol if results else {}
        backbone = class_name(self.test.spec.recipe.backbone)
        if "backbone_parameters" in noted:
            backbone += f", {noted['backbone_parameters']:,} parameters"
        told = {"backbone": backbone, **{stage.spec.name: _stage_words(stage.spec) for stage in self.stages}}
        for name, value in noted.items():
            if isinstance(value, str | int | float) and name not in _TOLD_ELSEWHERE:
                told[name.replace("_", " ")] = f"{value:,}" if type(value) is int else str(value)
        if results:
            told["device"] = "; ".join(dict.fromkeys(str(one.provenance["device"]) for one in results))
            told["code"] = ", ".join(dict.fromkeys(_code(one.provenance) for one in results))
        return told

    @cached_property
    def other_data(self) -> str:
        """How the videos, or the way of testing, differ from those of the published number, or ""; made up
        videos always do."""
        tested = self.tested_by
        wanted = self.expected.get("protocol", tested)
        found = [f"{tested} instead of {wanted}"] if tested != wanted else []
        for spec in (stage.spec for stage in self.stages):
            name, pretrains = spec.recipe.data_name, spec.kind.trains and not spec.kind.labelled
            wanted = self.expected.get("source" if pretrains else "downstream", name)
            if spec.recipe.is_synthetic:
                found.append("synthetic videos")
            elif wanted != name:
                found.append(f"{name} instead of {wanted}")
        return "; ".join(dict.fromkeys(found))

    @property
    def tested_by(self) -> str:
        """The stage that made the classifier that was tested; without one, the protocol."""
        before = self.test.spec.parent
        return before.name if before and before.kind.trains else class_name(self.test.spec.recipe.task)

    @property
    def choice(self) -> Chosen | None:
        """What was chosen on the way to the test, as its result notes it; None if nothing was."""
        result = self.test.result
        if result is None or not (chosen := result.protocol.get("chosen")):
            return None
        candidates = [{name: one[name] for name in chosen} for one in result.protocol["candidates"]]
        metric = next(one for one in result.declared if one.name in result.protocol["candidates"][0])
        reached = [one[metric.name] for one in result.protocol["candidates"]]
        return Chosen(
            candidates=tuple(", ".join(map(str, values.values())) for values in candidates),
            reached=[None if value is None else metric.scaled(value) for value in reached],
            chosen=[values == chosen for values in candidates],
        )

    @property
    def waits_for(self) -> State | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if stage.status != "done"), None)


@dataclass(frozen=True)
class Cell:
    """What a row reached in a metric: one value, as shown, for each seed that is done, of `asked` seeds.

    done: their runs. test_videos: how many the published number was measured on, if that is known.
    """

    metric: Metric
    done: Sequence[Run]
    asked: int
    published: float | None
    test_videos: int | None
    data: str
    other_data: str
    hours: tuple[float, str] | None
    """Mean hours of one run, over the runs that are done; see `hours`."""

    @cached_property
    def values(self) -> list[float]:
        """The metric of each run that is done."""
        return [self.metric.scaled(run.metrics[self.metric.name]) for run in self.done]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return mean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def over_seeds(self) -> Interval | None:
        """Where the mean over all seeds lies, by the spread of these."""
        return interval_of_mean(self.values)

    @property
    def over_videos(self) -> Interval | None:
        """Where the mean of these seeds lies over all videos, by the spread of those of the test."""
        values_V = mean_per_video(self.done, self.metric)
        if values_V is None:
            return None
        return interval_of_test_set(values_V, self.done[0].classes(self.metric))

    @property
    def published_over_videos(self) -> Interval | None:
        """The same of the published number, by the size of its test set alone; None if that is unknown."""
        if self.published is None or not self.test_videos or not self.metric.percent:
            return None
        low, high = interval_of_share(self.published / 100, self.test_videos)
        return Interval(100 * low, 100 * high)

    @property
    def comparable(self) -> float | None:
        """The published number if it was measured on the same videos."""
        return None if self.other_data else self.published

    @property
    def difference(self) -> float | None:
        """Ours minus the published number; None if it was measured on other videos."""
        return None if self.mean is None or self.comparable is None else self.mean - self.comparable

    @property
    def mean_sd(self) -> str:
        """Mean and deviation; a mean alone of one seed; a dash of none."""
        words = self.words(self.mean)
        return words if self.sd is None else f"{words} ± {self.words(self.sd)}"

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """Over the seeds and over the test videos, by what they are called."""
        return {SEEDS: self.over_seeds, VIDEOS: self.over_videos}

    def ends(self, names: Iterable[str]) -> list[str]:
        """Some of these as text."""
        return [self.metric.between(self.intervals[name]) for name in names]

    @property
    def published_words(self) -> str:
        """The published number and, where it is known, its interval over test videos."""
        ends = self.published_over_videos
        return self.words(self.published) + (f" {self.metric.between(ends)}" if ends else "")

    @property
    def seeds(self) -> str:
        """How many seeds are done, of how many; a dash where none was asked for."""
        if not self.asked:
            return NONE
        return str(self.asked) if len(self.values) == self.asked else f"{len(self.values)} of {self.asked}"

    @property
    def efficiency(self) -> tuple[float, str] | None:
        """Mean percent reached by mean hours of one run, and the hours' unit.

        None of a metric of which less is better, or that is no share.
        """
        if self.mean is None or not (self.hours and self.hours[0]):
            return None
        is_share = self.metric.percent and self.metric.larger_is_better
        return (self.mean / self.hours[0], self.hours[1]) if is_share else None

    @property
    def sign(self) -> str:
        """Whether ours is the "better" number or the "worse" one; "" if not even their intervals tell them
        apart, or one is unknown."""
        ours, theirs = self.over_seeds, self.published_over_videos
        if self.difference is None or ours is None or theirs is None or ours.meets(theirs):
            return ""
        return "better" if (self.difference > 0) == self.metric.larger_is_better else "worse"

    def words(self, value: float | None) -> str:
        """A value of the metric, or a dash."""
        return NONE if value is None else self.metric.words(value)

    def signed(self, value: float | None) -> str:
        """The same with its sign."""
        return NONE if value is None else self.metric.signed(value)


@dataclass(frozen=True)
class Row:
    """All runs of one label. published: by column label, as shown. x, series: its place in a curve.

    not_run: why nothing of it can run, where it is there for its published numbers alone. baselines: labels
    of the rows that it is compared with. test_videos: how many its published numbers were measured on, by
    column label.
    """

    label: str
    runs: Sequence[Run]
    published: Mapping[str, float] = field(default_factory=dict)
    series: str = ""
    x: float | str | None = None
    not_run: str = ""
    baselines: Sequence[str] = ()
    test_videos: Mapping[str, int] = field(default_factory=dict)

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

    def runs_of(self, column: Column) -> list[Run]:
        """The runs in a column, one for each seed."""
        return [run for run in self.runs if run.column == column]

    def cell(self, column: Column, metric: Metric | None = None) -> Cell:
        """What was reached in `column`, by the column's metric or another one."""
        runs, shown = self.runs_of(column), metric or column.metric
        return Cell(
            metric=shown,
            done=[run for run in runs if shown.name in run.metrics],
            asked=len(runs),
            published=self.published.get(column.label) if runs or not column.word else None,
            test_videos=self.test_videos.get(column.label),
            data="; ".join(dict.fromkeys(data_words(run.test.spec.recipe) for run in runs)),
            other_data="; ".join(dict.fromkeys(run.other_data for run in runs if run.other_data)),
            hours=hours([run for run in runs if run.metrics]),
        )

    def seeds_of(self, stage: State) -> list[int]:
        """Those that a stage belongs to."""
        return sorted({run.seed for run in self.runs if stage in run.stages})


@dataclass(frozen=True)
class Curves:
    """Which training curves a sweep shows: metrics of the stages of one name."""

    stage: str
    metrics: Sequence[str]


QUICK = "A rehearsal (experiment=quick): these numbers mean nothing."
"""What stands beside numbers that `Report.is_quick`."""


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
    is_quick: bool = False

    @property
    def runs(self) -> list[Run]:
        """The runs of all rows."""
        return [run for row in self.rows for run in row.runs]

    @cached_property
    def intervals(self) -> list[str]:
        """What those intervals are called that any row has in any column."""
        found = [row.cell(column).intervals for row in self.rows for column in self.columns]
        return [name for name in INTERVALS if any(one[name] for one in found)]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Every row minus its baselines, in each column."""
        return compare(self.rows, self.columns)

    @property
    def rehearsal(self) -> str:
        """How the videos differ from the published ones in any row that has a published number, or ""."""
        said = [run.other_data for row in self.rows if row.published for run in row.runs if run.other_data]
        return "; ".join(dict.fromkeys(said))


def declared(runs: Iterable[Run]) -> list[Metric]:
    """The metrics of some runs, each name once, in the order declared."""
    results = [run.test.result for run in runs if run.test.result]
    return list({metric.name: metric for result in results for metric in result.declared}.values())


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
    taken = [costs(run.stages) for run in runs]
    gpu = [sum(cost.gpu_hours for cost in found) for found in taken]
    if not runs or any(run.waits_for for run in runs) or any(gpu) != all(gpu):
        return None
    cpu = [sum(cost.cpu_hours for cost in found) for found in taken]
    return (mean(gpu), "GPU hour") if any(gpu) else (mean(cpu), "CPU hour")


def data_words(recipe: Recipe) -> str:
    """The data set of a recipe and which part of it."""
    part = recipe.data.get("subset") or recipe.data.get("appearance")
    held_out = "held out" if recipe.is_held_out else None
    return " ".join(filter(None, [recipe.data_name, part, held_out]))


def _stage_words(spec: StageSpec) -> str:
    recipe = spec.recipe
    words = f"{class_name(recipe.task)} on {data_words(recipe)}, {count(recipe.num_videos, 'video')}"
    if recipe.training:
        words += f", epochs {recipe.epochs}, batch {recipe.training['batch_size']}"
    return words


def _code(origin: Mapping[str, Any]) -> str:
    commit, changed, _ = str(origin["git_commit"]).partition("+changes")
    return f"vssl {origin['vssl']}, commit {commit[:12]}{changed}"
