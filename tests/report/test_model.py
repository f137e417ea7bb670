"""What a report computes, against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest

import fake_store
from fake_store import COST, VIDEO_TOP1
from vssl.report.formats import missing_words
from vssl.report.model import Column, Report, Row, Run, costs, hours
from vssl.result import Metric

UCF = Column("UCF101", VIDEO_TOP1)
CPU = replace(COST, gpus=0, energy_joules=None)


def stages(*names, seed=0, target="ucf101"):
    """A chain of stages that are not done, tested on `target`."""
    spec = None
    for name in names:
        data = fake_store.videos(target, "test" if name == "test" else "train")
        spec = fake_store.stage(name, "Any", data, seed, spec)
    return [fake_store.state(one) for one in spec.chain]


def run(seed, top1=None, column=UCF, target="ucf101", expected=(), **cost):
    """A chain of two stages; done if it reached something."""
    found = stages("finetune", "test", seed=seed, target=target)
    if top1 is not None:
        trained = fake_store.result(**cost)
        tested = fake_store.result({"video_top1": top1}, **cost)
        found = [fake_store.state(s.spec, done) for s, done in zip(found, (trained, tested), strict=True)]
    return Run(column, found, dict(expected))


def row(*runs, published=None):
    return Row("VSPP", runs, {} if published is None else {"UCF101": published})


def report(*rows):
    return Report("n", "t", "", [UCF], rows)


# In percent 50, 52 and 57: mean 53, deviations -3, -1 and 4: variance (9 + 1 + 16) / 2 = 13.
THREE = [run(seed, top1) for seed, top1 in enumerate((0.50, 0.52, 0.57))]


def test_mean_and_sample_deviation_over_the_seeds():
    one = row(*THREE, run(3), published=55.5).cell(UCF)
    assert one.mean == pytest.approx(53)
    assert one.sd == pytest.approx(math.sqrt(13))
    assert one.difference == pytest.approx(-2.5)
    assert (len(one.values), one.asked) == (3, 4)
    assert (one.mean_sd, one.seeds, one.signed(one.difference)) == ("53.0 ± 3.6", "3 of 4", "−2.5")  # noqa: RUF001


def test_one_seed_has_no_deviation_and_none_has_nothing():
    assert (row(THREE[0]).cell(UCF).sd, row(THREE[0]).cell(UCF).mean_sd) == (None, "50.0")
    empty = row(run(0), published=55.5).cell(UCF)
    assert (empty.mean, empty.sd, empty.difference, empty.published) == (None, None, None, 55.5)
    assert (empty.mean_sd, empty.seeds, empty.signed(None)) == ("–", "0 of 1", "–")  # noqa: RUF001


def test_runs_of_other_columns_do_not_count():
    other = run(0, 0.9, column=Column("HMDB51", VIDEO_TOP1))
    assert row(*THREE, other).cell(UCF).mean == pytest.approx(53)
    assert row(*THREE).cell(other.column).seeds == "–"  # noqa: RUF001


def test_a_metric_that_was_not_measured_leaves_no_value_but_counts_as_asked():
    one = row(*THREE).cell(UCF, Metric("recall_at_1", "recall at 1"))
    assert (one.values, one.asked) == ([], 3)


def test_what_is_no_share_is_shown_as_it_is():
    rank = Metric("video_top1", "rank", larger_is_better=False, percent=False)
    one = row(*THREE, published=0.6).cell(UCF, rank)
    assert (one.mean_sd, one.signed(one.difference)) == ("0.53 ± 0.0361", "−0.07")  # noqa: RUF001
    column = Column("UCF101", rank)
    assert row(*(run(seed, 0.5, column) for seed in (0, 1))).cell(column).efficiency is None


def test_other_videos_have_no_difference_to_what_is_published():
    one = row(THREE[0], run(1, 0.6, target="synthetic"), published=55.5).cell(UCF)
    assert one.difference is None
    assert one.other_data == "synthetic videos"


def test_the_report_says_so_only_of_rows_that_have_a_published_number():
    other = run(0, 0.6, target="hmdb51", expected={"downstream": "ucf101"})
    for published, words in ((55.5, "hmdb51 instead of ucf101"), (None, "")):
        assert report(row(other, published=published)).rehearsal == words


def test_a_stage_that_runs_share_costs_once():
    shared = fake_store.state(fake_store.stage("pretext", "Any", {}, 0), fake_store.result())
    both = row(*(Run(UCF, [shared, *one.stages]) for one in THREE[:2]))
    assert [stage.spec.name for stage in both.stages] == ["pretext", *["finetune", "test"] * 2]
    assert costs(both.stages) == [COST] * 5


def test_stages_that_are_not_done_cost_nothing_and_inherited_time_is_left_out_where_it_is_asked():
    inherited = run(0, 0.5, inherited_seconds=600.0).stages
    assert [cost.seconds for cost in costs([*inherited, *run(1).stages], own=True)] == [3000.0] * 2


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (COST, (53 / 4, "GPU hour")),  # two stages of an hour on two GPUs
        (replace(CPU, seconds=1800), (53.0, "CPU hour")),
    ],
)
def test_accuracy_per_hour_is_of_one_run_however_many_seeds(cost, expected):
    runs = [run(one.seed, one.metrics["video_top1"], **vars(cost)) for one in THREE]
    assert row(*runs).cell(UCF).efficiency == (pytest.approx(expected[0]), expected[1])


def test_hours_of_gpus_and_of_cpus_are_not_mixed():
    one, two = run(0, 0.5), run(1, 0.5, gpus=0)
    assert hours([one, two]) is None
    assert hours([Run(UCF, [one.stages[0], two.stages[1]])]) == (2.0, "GPU hour")
    assert hours([one, run(2)]) is None


def test_facts_that_differ_between_runs_are_all_said_once():
    runs = [run(0, 0.5), run(1, 0.5), run(2, 0.5, device="cpu")]
    assert row(*runs).facts["device"] == "cuda; cpu"


def test_missing_runs_name_the_first_stage_that_is_not_done():
    waits = run(7)
    [words] = missing_words(report(row(*THREE, waits)))
    assert words == f"VSPP, UCF101, seed 7: finetune {waits.stages[0].spec.key} to do"
