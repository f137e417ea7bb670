"""What a report computes, against numbers worked out by hand."""

import math

import pytest

from vssl.report.model import (
    Column,
    Cost,
    Report,
    Row,
    Run,
    Stage,
    cell,
    efficiency,
    hours,
    missing,
    total,
)

UCF = Column("UCF101", "video_top1")
GPU = Cost(seconds=3600, gpus=2, clips=100, memory_bytes=10, energy_joules=5)


def stage(key, cost=GPU, state="done"):
    return Stage("pretext", key, state, "", "", cost)


def run(seed, top1, stages, other_data="", column="UCF101"):
    metrics = None if top1 is None else {"video_top1": top1}
    return Run(column, seed, stages, metrics, {"data": f"seed {seed % 2}"}, "ucf101 test", other_data)


def row(*runs, published=None):
    return Row("VSPP", runs, {} if published is None else {"UCF101": published})


# In percent 50, 52 and 57: mean 53, deviations -3, -1 and 4: variance (9 + 1 + 16) / 2 = 13.
THREE = [run(seed, top1, [stage(f"{seed}")]) for seed, top1 in enumerate((0.50, 0.52, 0.57))]


def test_mean_and_sample_deviation_over_the_seeds():
    one = cell(row(*THREE, run(3, None, [stage("3", None, "to do")]), published=55.5), UCF)
    assert one.mean == pytest.approx(53)
    assert one.sd == pytest.approx(math.sqrt(13))
    assert one.difference == pytest.approx(-2.5)
    assert (len(one.values), one.asked) == (3, 4)


def test_one_seed_has_no_deviation_and_none_has_nothing():
    assert cell(row(THREE[0]), UCF).sd is None
    empty = cell(row(run(0, None, [stage("0", None, "to do")]), published=55.5), UCF)
    assert (empty.mean, empty.sd, empty.difference, empty.published) == (None, None, None, 55.5)


def test_runs_of_other_columns_do_not_count():
    other = run(0, 0.9, [stage("0")], column="HMDB51")
    assert cell(row(*THREE, other), UCF).mean == pytest.approx(53)


def test_a_metric_that_was_not_measured_leaves_no_value_but_counts_as_asked():
    one = cell(row(*THREE), Column("UCF101", "recall_at_1"))
    assert (one.values, one.asked) == ([], 3)


def test_other_videos_have_no_difference_to_what_is_published():
    one = cell(row(THREE[0], run(1, 0.6, [stage("1")], "synthetic videos in test"), published=55.5), UCF)
    assert one.difference is None
    assert one.other_data == "synthetic videos in test"


def test_the_report_says_so_only_of_rows_that_have_a_published_number():
    made_up = run(0, 0.6, [stage("1")], "synthetic videos in test")
    for published, words in ((55.5, "synthetic videos in test"), (None, "")):
        assert Report("n", "t", "", [UCF], [row(made_up, published=published)]).rehearsal == words


def test_a_stage_that_runs_share_costs_once():
    shared, own = stage("shared"), [stage("a"), stage("b")]
    both = row(run(0, 0.5, [shared, own[0]]), run(1, 0.5, [shared, own[1]]))
    assert [one.key for one in both.stages] == ["shared", "a", "b"]
    assert total(both.stages, lambda c: c.clips).value == 300
    assert total(both.stages, lambda c: c.gpu_hours).value == 6
    assert total(both.stages, lambda c: c.memory_bytes, highest=True).value == 10


def test_unknown_parts_are_counted_and_stages_that_are_not_done_are_left_out():
    stages = [stage("a"), stage("b", Cost(seconds=10, gpus=0)), stage("c", None, "running")]
    energy = total(stages, lambda c: c.energy_joules)
    assert (energy.value, energy.stages, energy.unknown) == (5, 2, 1)
    assert Cost(seconds=10).gpu_hours is None
    assert Cost(gpus=1).cpu_hours is None


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (GPU, (53 / 4, "GPU hour")),  # two stages of an hour on two GPUs
        (Cost(seconds=1800, gpus=0), (53.0, "CPU hour")),
        (Cost(seconds=1800), None),
    ],
)
def test_accuracy_per_hour_is_of_one_run_however_many_seeds(cost, expected):
    runs = [
        run(one.seed, one.metrics["video_top1"], [stage(f"{one.seed}a", cost), stage(f"{one.seed}b", cost)])
        for one in THREE
    ]
    rate = efficiency(row(*runs), UCF)
    assert rate == (expected and (pytest.approx(expected[0]), expected[1]))


def test_hours_of_gpus_and_of_cpus_are_not_mixed():
    assert hours([run(0, 0.5, [stage("a")]), run(1, 0.5, [stage("b", Cost(seconds=9, gpus=0))])]) is None
    tested_on_cpu = run(0, 0.5, [stage("a"), stage("b", Cost(seconds=9, gpus=0))])
    assert hours([tested_on_cpu]) == (2.0, "GPU hour")


def test_facts_that_differ_between_runs_are_all_said_once():
    assert row(*THREE).facts == {"data": "seed 0; seed 1"}


def test_missing_runs_name_the_first_stage_that_is_not_done():
    waits = run(7, None, [stage("a"), stage("b", None, "failed"), stage("c", None, "to do")])
    [one] = missing(Report("n", "t", "", [UCF], [row(*THREE, waits)]))
    assert (one.label, one.column, one.seed, one.stage.key) == ("VSPP", "UCF101", 7, "b")
