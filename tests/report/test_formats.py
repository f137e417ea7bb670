"""Words and numbers of the tables, beyond what the report of a planted store shows (tests/commands)."""

import pytest

from vssl.report.formats import costs, grid, seeds, signed, stage_costs, to_markdown, to_tex
from vssl.report.model import Cell, Column, Cost, Report, Row, Run, Stage

ONLY, UCF, HMDB = Column("", "video_top1"), Column("UCF101", "video_top1"), Column("HMDB51", "video_top1")


def one_run(cost, column="", label="100 % of A_1 & B", top1=0.5):
    stage = Stage("test", "0123", "done", "", "", cost)
    run = Run(column, 0, [stage], {"video_top1": top1}, {"note": "50 %\nof it"}, "ucf101 test")
    return Row(label, [run], {column: 40.0})


def report(*rows, columns=(ONLY,)):
    return Report("name", "A & B", "", columns, rows)


@pytest.mark.parametrize(
    ("cost", "texts"),
    [
        (Cost(7200, 4, 2_000_000, 3 * 2**30, 9e6), ["2:00:00", "8.00 GPU h", "2,000,000", "3.00 GiB"]),
        (Cost(90, 0, 10, 2**20), ["1:30", "0.025 CPU h", "10", "0.00 GiB"]),
        (Cost(90), ["1:30", "unknown", "unknown", "unknown"]),
        (Cost(), ["unknown"] * 4),
    ],
)
def test_costs_of_one_stage(cost, texts):
    assert stage_costs(Stage("test", "0123", "done", "", "", cost)) == texts
    assert costs(report(), one_run(cost))[:4] == texts


def test_hours_on_gpus_and_cpus_are_told_apart():
    row = one_run(Cost(3600, 1))
    [run] = row.runs
    both = Run("", 0, [*run.stages, Stage("b", "b", "done", "", "", Cost(1800, 0))], None, {}, "")
    assert costs(report(), Row("", [both]))[1] == "1.00 GPU h + 0.50 CPU h"


def test_without_published_numbers_there_is_no_column_for_them():
    row = Row("VSPP", one_run(Cost()).runs)
    assert grid(report(row))[0][:4] == ["method", "video top-1", "seeds", "test data"]


def test_each_column_has_its_numbers_and_a_row_may_lack_one():
    row = one_run(Cost(3600, 1), "HMDB51")
    header, [cells] = grid(report(row, columns=(UCF, HMDB)))
    assert header.count("seeds") == 2
    assert cells[1:6] == ["–", "–", "–", "–", "–"]  # noqa: RUF001
    assert cells[6:11] == ["50.0", "1", "40.0", "+10.0", "ucf101 test"]
    assert cells[-1] == "HMDB51 50 per GPU hour"


def test_tex_escapes_and_keeps_every_comment_on_its_line():
    lines = to_tex(report(one_run(Cost()))).splitlines()
    [cells] = [line for line in lines if line.startswith("100")]
    assert cells.startswith(r"100 \% of A\_1 \& B & 50.0 & 1 & 40.0 & +10.0 & ucf101 test &")
    assert cells.endswith(r" \\")
    assert "% note: 50 % of it" in lines
    assert r"\caption{A \& B. Video top-1" in "".join(lines)


def test_markdown_escapes():
    text = to_markdown(report(one_run(Cost(), label="a|b <i>_x_ `y` [z](u)")))
    assert r"| a\|b \<i>\_x\_ \`y\` \[z](u) | 50.0 |" in text


def test_seeds_and_signs():
    assert [seeds(Cell([1.0] * done, asked, None, "", "")) for done, asked in ((3, 3), (1, 3), (0, 0))] == [
        "3",
        "1 of 3",
        "–",  # noqa: RUF001
    ]
    assert [signed(value) for value in (1.25, -0.5, None)] == ["+1.2", "−0.5", "–"]  # noqa: RUF001


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((0.4, 0.3), "Best video top-1: A, 50.0"),
        ((0.5, 0.3), "A and 1 other row, 50.0"),
        ((0.5, 0.5), "2 other rows"),
    ],
)
def test_the_best_row_is_not_alone_if_others_reach_as_much(others, words):
    rows = [
        one_run(Cost(), label=label, top1=top1) for label, top1 in zip("ABC", (0.5, *others), strict=True)
    ]
    assert words in to_markdown(report(*rows))
