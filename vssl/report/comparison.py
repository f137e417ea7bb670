"""A row minus its baseline: the same seeds on the same test videos, and whether that tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vssl.report.statistics import (
    LEVEL,
    POWER,
    Interval,
    detectable,
    holm,
    interval_of_mean,
    interval_of_test_set,
    paired_p,
)
from vssl.words import NONE, count

if TYPE_CHECKING:
    from vssl.report.model import Column, Row, Run
    from vssl.result import Metric

SENTENCE = 160
"""Letters of names that one sentence holds; the table has them all."""

Pair = tuple["Run", "Run"]

SEEDS, VIDEOS = "95 % (seeds)", "95 % (videos)"
INTERVALS = {
    SEEDS: "t interval of the mean, by the spread of the seeds.",
    VIDEOS: "bootstrap over the test videos, with these seeds, as if videos were independent.",
}
"""Of a mean, or of a difference: what they are called, and how they are found."""


@dataclass(frozen=True)
class Comparison:
    """A row minus its baseline in one column.

    differences: one for each seed that both have done, as shown. over_videos: where their mean lies, by the
    spread of the test videos; None where videos have no values. among: how many comparisons of the table have
    a p value. adjusted: the p value, corrected for that many.
    """

    row: Row
    baseline: str
    column: Column
    differences: Sequence[float]
    over_videos: Interval | None
    among: int = 1
    adjusted: float | None = None

    @property
    def metric(self) -> Metric:
        """What is compared."""
        return self.column.metric

    @property
    def mean(self) -> float | None:
        """Mean difference over the seeds."""
        return mean(self.differences) if self.differences else None

    @property
    def over_seeds(self) -> Interval | None:
        """Where the mean difference over all seeds lies, by the spread of these."""
        return interval_of_mean(self.differences)

    @property
    def p(self) -> float | None:
        """Of the paired t test over the seeds, before any correction."""
        return paired_p(self.differences)

    @property
    def detectable(self) -> float | None:
        """The least difference that as many seeds see, at the strictest level of the correction."""
        return detectable(self.differences, LEVEL / self.among)

    @property
    def is_over_seeds(self) -> bool:
        """Whether other seeds would show a difference, too, as far as the correction lets one say."""
        return self.adjusted is not None and self.adjusted < LEVEL

    @property
    def is_over_videos(self) -> bool:
        """Whether other videos would show it, too, as far as they are known."""
        return self.over_videos is None or 0 not in self.over_videos

    @property
    def is_distinguishable(self) -> bool:
        """Both."""
        return self.is_over_seeds and self.is_over_videos

    @property
    def name(self) -> str:
        """What is compared with what, and in which column."""
        return f"{self.row.label} minus {self.baseline} {self.column.name}".rstrip()

    @property
    def signed(self) -> str:
        """The mean difference with its sign, or a dash."""
        return NONE if self.mean is None else self.metric.signed(self.mean)

    def ends(self, names: Iterable[str]) -> list[str]:
        """Some of its intervals as text."""
        found = {SEEDS: self.over_seeds, VIDEOS: self.over_videos}
        return [self.metric.between(found[name]) for name in names]

    def p_words(self, names: Sequence[str]) -> list[str]:
        """p, and corrected if that has a name, as text."""
        return [_p_words(p) for p, _ in zip((self.p, self.adjusted), names, strict=False)]

    @property
    def words(self) -> str:
        """No more than the numbers say."""
        seeds = count(len(self.differences), "seed")
        if not self.differences:
            return "no seed is done in both"
        if (least := self.detectable) is None:
            return f"{seeds}: no test" if len(self.differences) == 1 else f"the same in all {seeds}: no test"
        if not self.is_over_seeds:
            return (
                f"not distinguishable: {seeds} can detect differences of {self.metric.words(least)} or more"
            )
        found = f"{self.metric.signed(mean(self.differences))} {self.metric.between(self.over_seeds)}"
        return f"{found}, {seeds}" + ("" if self.is_over_videos else ", on these test videos alone")


def compare(rows: Sequence[Row], columns: Sequence[Column]) -> list[Comparison]:
    """Every row minus each of its baselines, in each column in which both have a result."""
    of_label = {row.label: row for row in rows}
    found = [
        _comparison(row, of_label[label], column)
        for row in rows
        for label in row.baselines
        for column in columns
        if row.cell(column).done and of_label[label].cell(column).done
    ]
    tested = [one.p for one in found if one.p is not None]
    adjusted = iter(holm(tested))
    return [
        replace(one, among=len(tested), adjusted=next(adjusted)) if one.p is not None else one
        for one in found
    ]


def _comparison(row: Row, baseline: Row, column: Column) -> Comparison:
    of_seed = {run.seed: run for run in baseline.runs_of(column)}
    pairs = [(run, of_seed[run.seed]) for run in row.runs_of(column) if run.seed in of_seed]
    name = column.metric.name
    pairs = [pair for pair in pairs if all(name in run.metrics for run in pair) and _same_videos(pair)]
    values = [tuple(column.metric.scaled(run.metrics[name]) for run in pair) for pair in pairs]
    videos_V = _per_video(pairs, column.metric)
    classes_V = None if videos_V is None else pairs[0][0].classes(column.metric)
    return Comparison(
        row=row,
        baseline=baseline.label,
        column=column,
        differences=[one - other for one, other in values],
        over_videos=None if videos_V is None else interval_of_test_set(videos_V, classes_V),
    )


def mean_per_video(runs: Sequence[Run], metric: Metric) -> NDArray[np.float64] | None:
    """The metric of each test video [V], the mean over runs; None if they were tested on different videos."""
    values = [run.per_video(metric) for run in runs]
    found = [values_V for values_V in values if values_V is not None]
    if not found or len(found) < len(values) or not _same_videos(runs):
        return None
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def _per_video(pairs: Sequence[Pair], metric: Metric) -> NDArray[np.float64] | None:
    """The difference of each test video [V], the mean over pairs of runs."""
    if not _same_videos([run for pair in pairs for run in pair]):
        return None
    ours_V, others_V = (mean_per_video(runs, metric) for runs in zip(*pairs, strict=True))
    return None if ours_V is None or others_V is None else ours_V - others_V


def _same_videos(runs: Sequence[Run]) -> bool:
    """Whether all were tested on the very same videos, in the same order; False of none."""
    data = [run.test.spec.recipe.data for run in runs]
    return bool(data) and all(one == data[0] for one in data)


def grid(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of comparisons as text."""
    p_values = p_names(comparisons)
    rows = []
    for one in comparisons:
        numbers = [one.signed, *one.ends(INTERVALS), *one.p_words(p_values)]
        rows.append([one.row.label, one.baseline, one.column.head, *numbers, one.words])
    return ["method", "minus", "in", "difference", *INTERVALS, *p_values, "in words"], rows


def p_names(comparisons: Sequence[Comparison]) -> list[str]:
    """What the p values of a table are called, the corrected one last, if there is any."""
    tested = _tested(comparisons)
    return [*(["p"] if tested else []), *(["p (Holm)"] if tested > 1 else [])]


def _p_words(p: float | None) -> str:
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def in_a_sentence(comparisons: Sequence[Comparison]) -> str:
    """Which rows can be told from their baselines; "" without any comparison."""
    if not comparisons:
        return ""
    found = [one for one in comparisons if one.is_distinguishable]
    named = "; ".join(one.name for one in found)
    which = f" ({named})" if 0 < len(named) <= SENTENCE else ""
    return f"Distinguishable from a baseline: {len(found)} of {len(comparisons)}{which}."


def how_to_read(comparisons: Sequence[Comparison]) -> list[str]:
    """What stands in the table of comparisons, in a few sentences; none without any."""
    if not comparisons:
        return []
    if not (tested := _tested(comparisons)):
        return ["No p value: that takes two seeds that differ."]
    corrected = ", so p is corrected for that many (Holm)" if tested > 1 else ""
    level = f"{LEVEL} / {tested}" if tested > 1 else f"{LEVEL}"
    return [
        "p: paired t test, two-sided, over the seeds that both rows have done on the same test videos.",
        f"The table makes {count(tested, 'comparison')}{corrected}.",
        f"Distinguishable: {p_names(comparisons)[-1]} below {LEVEL}, and 0 outside the interval over videos.",
        f"What seeds can detect: the least difference found in {100 * POWER:.0f} % of all cases (power) at "
        f"{level}, if it varies as theirs.",
    ]


def _tested(comparisons: Sequence[Comparison]) -> int:
    """How many have a p value."""
    return sum(one.p is not None for one in comparisons)
