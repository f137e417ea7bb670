"""Rows minus their baselines, against numbers worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

import fake_store
from fake_store import VIDEO_TOP1
from vssl.report.comparison import grid, how_to_read, in_a_sentence
from vssl.report.model import Column, Report, Row, Run
from vssl.report.statistics import detectable
from vssl.result import Metric

UCF, HMDB = Column("UCF101", VIDEO_TOP1), Column("HMDB51", VIDEO_TOP1)
RANK = Column("", Metric("rank", "mean rank", headline=True, larger_is_better=False, percent=False))


def run(seed, value, column=UCF, num_videos=100, right_V=None):
    """A run of one stage; `right_V`: which of its test videos were right."""
    spec = fake_store.stage("test", "Any", fake_store.videos("ucf101", "test", num_videos), seed)
    done = None if value is None else fake_store.result({column.metric.name: value}, [column.metric])
    one = Run(column, [fake_store.state(spec, done)])
    if right_V is not None:
        vars(one)["_per_video"] = {column.metric.name: 100 * np.array(right_V, dtype=float)}
    return one


def row(label, values, baselines=(), **others):
    return Row(label, [run(s, v, **others) for s, v in enumerate(values)], baselines=baselines)


def compared(*rows, columns=(UCF,)):
    return Report("n", "t", "", columns, rows).comparisons


SCRATCH = row("scratch", [0.30, 0.32, 0.28, 0.31, 0.29])
# Differences 1, 2, 3, 4 and 5 points: mean 3, standard error sqrt(2.5 / 5); t(0.975; 4) = 2.776.
VSPP = row("VSPP", [0.31, 0.34, 0.31, 0.35, 0.34], ["scratch"])


def test_a_row_less_its_baseline_by_seeds():
    [one] = compared(SCRATCH, VSPP)
    assert list(one.differences) == pytest.approx([1, 2, 3, 4, 5])
    assert one.mean == pytest.approx(3)
    assert one.over_seeds == pytest.approx((3 - 2.776 * math.sqrt(0.5), 3 + 2.776 * math.sqrt(0.5)), abs=1e-3)
    assert (one.p, one.adjusted) == pytest.approx((0.0132, 0.0132), abs=1e-4)
    assert one.over_videos is None
    assert one.is_distinguishable
    assert one.words == "+3.0 [1.0, 5.0], 5 seeds"


def test_other_seeds_and_other_videos_are_no_pairs():
    others = [run(0, 0.31), run(1, 0.34), run(2, 0.9, num_videos=50), run(3, None), run(7, 0.9)]
    [one] = compared(SCRATCH, Row("VSPP", others, baselines=["scratch"]))
    assert list(one.differences) == pytest.approx([1, 2])


def test_more_comparisons_ask_for_more():
    """With p = 0.0132 in each of four, the smallest is taken four times: 0.053."""
    rows = [replace(VSPP, label=label) for label in "ABCD"]
    found = compared(SCRATCH, *rows)
    assert [one.adjusted for one in found] == pytest.approx([4 * 0.013236] * 4, abs=1e-5)
    assert {one.words for one in found} == {
        "not distinguishable: 5 seeds can detect differences of 3.9 or more"
    }
    assert {one.detectable for one in found} == {detectable(found[0].differences, 0.05 / 4)}
    assert compared(SCRATCH, rows[0], rows[1])[0].is_distinguishable


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.35], "1 seed: no test"),
        ([0.30, 0.32], "the same in all 2 seeds: no test"),
        ([0.31, 0.33, 0.29, 0.32, 0.30], "the same in all 5 seeds: no test"),
        ([0.31, 0.31], "not distinguishable: 2 seeds can detect differences of 11.5 or more"),
    ],
)
def test_what_cannot_be_tested_is_said(values, words):
    """Of 2 pairs, +1 and -1: standard deviation sqrt(2), and 11.55 of those are 16.3 points; see below."""
    [one] = compared(SCRATCH, row("VSPP", values, ["scratch"]))
    least = 11.55 * math.sqrt(2)
    assert one.words == words.replace("11.5", f"{least:.1f}")
    assert not one.is_distinguishable


def test_rows_without_results_or_without_a_common_seed():
    assert compared(SCRATCH, row("VSPP", [None], ["scratch"])) == []
    [one] = compared(SCRATCH, Row("VSPP", [run(9, 0.5)], baselines=["scratch"]))
    assert one.words == "no seed is done in both"
    assert one.mean is None
    assert grid([one])[1][0][3:6] == ["–"] * 3  # noqa: RUF001


# Of 100 videos, with each of 3 seeds: the row is right on 60 and the baseline on 50 of these.
RIGHT, LESS = [1] * 60 + [0] * 40, [1] * 50 + [0] * 50


def test_test_videos_are_compared_one_by_one():
    """10 of 100 videos differ, all by 1: the interval is that of a share of 0.1, not of two shares of 0.5."""
    base = Row("scratch", [run(seed, 0.5, right_V=LESS) for seed in range(3)])
    ours = Row("VSPP", [run(seed, 0.6, right_V=RIGHT) for seed in range(3)], baselines=["scratch"])
    [one] = compared(base, ours)
    low, high = one.over_videos
    reach = 196 * math.sqrt(0.1 * 0.9 / 100)
    assert (low, high) == pytest.approx((10 - reach, 10 + reach), abs=1)
    assert ours.cell(UCF).over_videos == pytest.approx((60 - 9.6, 60 + 9.6), abs=1)


def test_the_mean_over_seeds_is_taken_before_the_videos_are_drawn():
    """Right on one half with one seed, on the other with the next: one half, on all videos but the last.
    That one is drawn more than three times in 1.9 % of all draws."""
    runs = [run(0, 0.5, right_V=LESS), run(1, 0.49, right_V=[1 - value for value in LESS[:-1]] + [0])]
    assert Row("VSPP", runs).cell(UCF).over_videos == (48.5, 50)


def test_different_test_videos_have_no_mean():
    runs = [run(0, 0.5, right_V=LESS), run(1, 0.5, right_V=LESS[:50], num_videos=50)]
    assert Row("VSPP", runs).cell(UCF).over_videos is None
    assert Row("VSPP", [runs[0], run(1, 0.5)]).cell(UCF).over_videos is None


def test_what_these_videos_alone_show_is_not_distinguishable():
    """All seeds agree on a point, but it comes from one video, which 37 % of all draws leave out."""
    ours = [run(seed, 0.51 + 0.0001 * seed, right_V=[1] * 51 + [0] * 49) for seed in range(5)]
    base = Row("scratch", [run(seed, 0.5, right_V=LESS) for seed in range(5)])
    [one] = compared(base, Row("VSPP", ours, baselines=["scratch"]))
    assert one.is_over_seeds
    assert one.over_videos.low == 0
    assert not one.is_distinguishable
    assert one.words == "+1.0 [1.0, 1.0], 5 seeds, on these test videos alone"


def test_less_may_be_better_and_no_percent():
    """Differences -7, -6.5 and -7.25: mean -6.917, deviation 0.3819; t(0.975; 2) = 4.303."""
    base = row("scratch", [9.0, 8.0, 9.5], column=RANK)
    ours = row("VSPP", [2.0, 1.5, 2.25], ["scratch"], column=RANK)
    [one] = compared(base, ours, columns=[RANK])
    assert one.words == "−6.92 [−7.87, −5.97], 3 seeds"  # noqa: RUF001


def test_each_baseline_and_each_column_is_a_comparison():
    both = Row("both", [run(s, v, c) for c in (UCF, HMDB) for s, v in enumerate((0.4, 0.6))])
    scratch = replace(both, label="scratch", runs=both.runs[:2])
    last = replace(both, label="last", baselines=["scratch", "both"])
    found = compared(scratch, both, last, columns=(UCF, HMDB))
    assert [(one.baseline, one.column.label) for one in found] == [
        ("scratch", "UCF101"),
        ("both", "UCF101"),
        ("both", "HMDB51"),
    ]


def test_the_table_says_how_many_comparisons_it_makes_and_corrects_for_them():
    one, two = (compared(SCRATCH, *rows) for rows in ([VSPP], [VSPP, replace(VSPP, label="VCOP")]))
    assert grid(one)[0][-3:] == ["95 % (videos)", "p", "in words"]
    assert grid(two)[0][-3:] == ["p", "p (Holm)", "in words"]
    assert grid(two)[1][0] == [
        *("VSPP", "scratch", "UCF101 video top-1", "+3.0", "[1.0, 5.0]", "–", "0.013", "0.026"),  # noqa: RUF001
        "+3.0 [1.0, 5.0], 5 seeds",
    ]
    assert "The table makes 1 comparison." in how_to_read(one)[1]
    assert "The table makes 2 comparisons, so p is corrected for that many (Holm)." in how_to_read(two)[1]
    assert "Distinguishable: p below 0.05" in how_to_read(one)[2]
    assert "Distinguishable: p (Holm) below 0.05" in how_to_read(two)[2]
    assert "80 % of all cases (power) at 0.05 / 2" in how_to_read(two)[3]
    assert in_a_sentence(two) == (
        "Distinguishable from a baseline: 2 of 2 (VSPP minus scratch UCF101; VCOP minus scratch UCF101)."
    )
    long = [replace(VSPP, label=f"{label}{'x' * 200}") for label in "AB"]
    assert in_a_sentence(compared(SCRATCH, *long)) == "Distinguishable from a baseline: 2 of 2."
    assert (how_to_read([]), in_a_sentence([])) == ([], "")
    assert how_to_read(compared(SCRATCH, row("VSPP", [0.35], ["scratch"]))) == [
        "No p value: that takes two seeds that differ."
    ]
