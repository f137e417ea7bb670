"""Words and numbers of the tables, beyond what the report of a planted store shows (tests/commands)."""

from dataclasses import replace

import pytest

import fake_store
from fake_store import COST, VIDEO_TOP1
from vssl.report.formats import grid, row_costs, says, stage_costs, to_markdown, to_tex
from vssl.report.model import Column, Report, Row, Run
from vssl.result import Cost, Metric

ONLY, UCF, HMDB = Column("", VIDEO_TOP1), Column("UCF101", VIDEO_TOP1), Column("HMDB51", VIDEO_TOP1)
RANK = Metric("rank", "mean rank", headline=True, larger_is_better=False, percent=False)


def one_run(cost=COST, column=ONLY, label="100 % of A_1 & B", top1=0.5):
    spec = fake_store.stage("test", "Any", fake_store.videos("ucf101", "test"), seed=0)
    done = replace(fake_store.result({column.metric.name: top1}, [column.metric]), cost=cost)
    done = replace(done, protocol={"note": "50 %\nof it"})
    return Row(label, [Run(column, [fake_store.state(spec, done)])], {column.label: 40.0})


def report(*rows, columns=(ONLY,)):
    return Report("name", "A & B", "", columns, rows)


@pytest.mark.parametrize(
    ("cost", "texts"),
    [
        (
            Cost(7200, gpus=4, clips=2_000_000, peak_memory_bytes=3 * 2**30, energy_joules=9e6),
            ["2:00:00", "8.00 GPU h", "2,000,000", "3.00 GiB", "2.5 kWh"],
        ),
        (
            Cost(90, clips=10, peak_memory_bytes=2**20),
            ["1:30", "0.025 CPU h", "10", "0.00 GiB", "unknown"],
        ),
    ],
)
def test_costs_of_one_stage(cost, texts):
    assert stage_costs([cost]) == texts[:4]
    assert row_costs(report(), one_run(cost))[:5] == texts


def test_hours_on_gpus_and_cpus_are_told_apart():
    assert stage_costs([Cost(3600, gpus=1), Cost(1800)])[1] == "1.00 GPU h + 0.50 CPU h"


def test_without_published_numbers_there_is_no_column_for_them():
    row = replace(one_run(), published={})
    assert grid(report(row))[0][:4] == ["method", "video top-1", "seeds", "test data"]


def test_each_column_has_its_numbers_and_a_row_may_lack_one():
    row = one_run(Cost(3600, gpus=1), HMDB)
    header, [cells] = grid(report(row, columns=(UCF, HMDB)))
    assert header.count("seeds") == 2
    assert cells[1:6] == ["–", "–", "–", "–", "–"]  # noqa: RUF001
    assert cells[6:11] == ["50.0", "1", "40.0", "+10.0", "ucf101 test"]
    assert cells[-1] == "HMDB51 50 per GPU hour"


def test_tex_escapes_and_keeps_every_comment_on_its_line():
    lines = to_tex(report(one_run())).splitlines()
    [cells] = [line for line in lines if line.startswith("100")]
    assert cells.startswith(r"100 \% of A\_1 \& B & 50.0 & 1 & 40.0 & +10.0 & ucf101 test &")
    assert cells.endswith(r" \\")
    assert "% note: 50 % of it" in lines
    assert r"\caption{A \& B. Video top-1" in "".join(lines)


def test_markdown_escapes():
    text = to_markdown(report(one_run(label="a|b <i>_x_ `y` [z](u)")))
    assert r"| a\|b \<i>\_x\_ \`y\` \[z](u) | 50.0 |" in text


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((0.4, 0.3), "Highest video top-1: A, 50.0"),
        ((0.5, 0.3), "A and 1 other row, 50.0"),
        ((0.5, 0.5), "2 other rows"),
    ],
)
def test_the_best_row_is_not_alone_if_others_reach_as_much(others, words):
    rows = [one_run(label=label, top1=top1) for label, top1 in zip("ABC", (0.5, *others), strict=True)]
    assert words in to_markdown(report(*rows))


def test_less_may_be_better_and_is_no_percent():
    column = Column("", RANK)
    rows = [one_run(column=column, label=label, top1=rank) for label, rank in (("A", 37.5), ("B", 2.25))]
    best, difference, _ = says(report(*rows, columns=[column]))
    assert best == "Lowest mean rank: B, 2.25 (1 seed; ucf101 test)."
    assert difference == (
        "Ours minus published: −37.8 to −2.5 in mean rank over 2 numbers, −20.1 on average."  # noqa: RUF001
    )
    assert "Mean rank: mean ±" in to_markdown(report(*rows, columns=[column]))
