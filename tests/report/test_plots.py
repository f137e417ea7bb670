"""Figures: which are drawn, and that what is drawn is what was measured."""

import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import fake_store
from fake_store import VIDEO_TOP1
from vssl.report import plots
from vssl.report.model import Column, Curves, Report, Row, Run
from vssl.report.statistics import Interval

UCF = Column("UCF101", VIDEO_TOP1)
MATRIX = [[0.75, 0.25], [0.0, 1.0]]
ELSEWHERE = {"downstream": "hmdb51"}


def lines(steps):
    return [{"step": s, "time": 0.0, "epoch": s / 2, "loss": 1 / s, "lr": 0.1} for s in range(1, steps + 1)]


def pretext(number, done=None, lines=()):
    spec = fake_store.stage("pretext", "Any", fake_store.videos("kinetics100"), seed=number)
    return fake_store.state(spec, done, lines=lines)


def row(label, top1, x=None, series="", expected=(), store=None, seed=0, **cost):
    """One run of two stages, whose costs are those of the first."""
    first = pretext(seed, fake_store.result(**{"seconds": 3600, "gpus": 1, **cost}), lines(9))
    spec = fake_store.stage("test", label, fake_store.videos("ucf101", "test"), seed, first.spec)
    tested = None if top1 is None else fake_store.result({"video_top1": top1}, seconds=0)
    last = fake_store.state(spec, tested)
    if store:
        vars(last.stage)["folder"] = store.folder(spec)
        store.folder(spec).mkdir(parents=True)
    return Row(label, [Run(UCF, [first, last], dict(expected))], {"UCF101": 50.0}, series, x)


def drawn(*rows, **parts):
    return {picture.name: picture for picture in plots.draw(Report("n", "t", "", [UCF], rows, **parts))}


def test_only_what_there_are_numbers_for_is_drawn():
    waiting = Row("waits", [Run(UCF, [pretext(0)])])
    assert drawn(waiting) == {}
    assert set(drawn(row("a", 0.5))) == {"results", "cost", "training-01"}
    assert set(drawn(row("a", None))) == {"training-01"}
    curves = Curves("pretext", ["loss"])
    assert set(drawn(row("a", 0.5, x=1), curves=curves)) == {
        *("results", "curve", "training", "cost", "training-01")
    }
    assert "training" not in drawn(row("a", 0.5), curves=Curves("finetune", ["loss"]))


def test_candidates_are_drawn_for_rows_that_have_a_choice(monkeypatch):
    """Means over the seeds, and rings as large as one was chosen often; no point of what diverged."""

    def chose(seed, value, *reached):
        made = row("a", 0.5, seed=seed)
        candidates = [
            {"lr": lr, "video_top1": top1} for lr, top1 in zip((0.1, 0.2, 0.3), reached, strict=True)
        ]
        made.runs[0].test.result.protocol.update(chosen={"lr": value}, candidates=candidates)
        return made.runs[0]

    figures = []
    monkeypatch.setattr(plots, "_picture", lambda figure, name, *_: figures.append((name, figure)) or [name])
    rows = [Row("a", [chose(0, 0.1, 0.5, 0.25, 0.25), chose(1, 0.2, 0.25, 0.75, None)]), row("b", 0.5)]
    assert "choices" in [name for [name] in plots.draw(Report("n", "t", "", [UCF], rows))]
    [axes] = dict(figures)["choices"].axes
    [line] = axes.lines
    assert (line.get_label(), list(line.get_xdata())) == ("a", ["0.1", "0.2", "0.3"])
    assert line.get_ydata()[:2].tolist() == [37.5, 50.0]
    assert math.isnan(line.get_ydata()[2])
    assert axes.collections[0].get_sizes().tolist() == [80.0, 80.0, 0.0]


def test_pictures_are_png_and_svg_and_words_stay_words(tmp_path):
    store = fake_store.store_in(tmp_path)
    one = row("$x_1$ & <b>", 0.5, x="a\\b", series="$y^2$", store=store)
    fake_store.predict(store, one.runs[0].test.spec, MATRIX, ["a_1", "$b"])
    made = drawn(one)
    for picture in made.values():
        assert Image.open(io.BytesIO(picture.png)).format == "PNG"
        assert picture.svg.lstrip().startswith("<?xml")
    assert made["confusion-01"].row == 0
    assert made["cost"].row is None
    assert "$x_1$" in made["cost"].svg


def test_the_same_report_is_the_same_picture():
    assert drawn(row("a", 0.5, x=1)) == drawn(row("a", 0.5, x=1))


def test_curves_are_ours_with_bars_and_published_points():
    from matplotlib.figure import Figure

    two = row("b", 0.7, x=2)
    two = Row("b", [*two.runs, *row("c", 0.5, seed=1).runs], {"UCF101": 65.0}, "", 2)
    axes = Figure().add_subplot()
    plots._one_curve(axes, [row("a", 0.4, x=1), two, row("d", None, x=3)], UCF, "VSPP", "#123456")
    [bars] = axes.containers
    ours, _, [[low_high]] = bars.lines[0], bars.lines[1], [bars.lines[2][0].get_segments()[1:]]
    assert ours.get_xydata().tolist() == [[1, 40], [2, 60]]
    assert low_high[:, 1].tolist() == pytest.approx([60 - math.sqrt(200), 60 + math.sqrt(200)])
    assert axes.lines[-1].get_xydata().tolist() == [[1, 50], [2, 65], [3, 50]]
    assert axes.get_legend_handles_labels()[1] == ["VSPP, published", "VSPP"]


def test_differences_are_drawn_with_both_intervals_and_full_only_if_distinguishable():
    base, ours = (
        Row(label, [run for s, v in enumerate(tops) for run in row(label, v, seed=s).runs], baselines=less)
        for label, tops, less in (
            ("scratch", [0.30, 0.32, 0.28, 0.31, 0.29], []),
            ("VSPP", [0.31, 0.34, 0.31, 0.35, 0.34], ["scratch"]),  # 1 to 5 points more
        )
    )
    report = Report("n", "t", "", [UCF], [base, ours])
    seeds = (3 - 2.776 * math.sqrt(0.5), 3 + 2.776 * math.sqrt(0.5))
    for videos, face in (((1.0, 4.5), plots.COLOURS[0]), ((-1.0, 4.5), "white")):
        one = replace(report.comparisons[0], over_videos=Interval(*videos))
        [axes] = plots._differences([one]).axes
        thick, thin, mean, zero = axes.lines
        assert thick.get_xdata() == pytest.approx(seeds, abs=1e-3)
        assert (tuple(thin.get_xdata()), tuple(zero.get_xdata())) == (videos, (0, 0))
        assert mean.get_xdata() == pytest.approx([3])
        assert mean.get_markerfacecolor() == face
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["VSPP\nminus scratch"]
    long = replace(ours, label="a long label, " * 30)
    for one in (
        report,
        replace(report, rows=[base, *[replace(long, label=f"{n} {long.label}") for n in range(9)]]),
    ):
        [picture] = [picture for picture in plots.draw(one) if picture.name == "differences"]
        assert Image.open(io.BytesIO(picture.png)).size[1] > 60 * len(one.comparisons)


def test_points_that_are_not_comparable_are_left_out():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plots._one_curve(axes, [row("a", 0.4, x=1, expected=ELSEWHERE)], UCF, "VSPP", "#123456")
    assert axes.get_legend_handles_labels()[1] == ["VSPP"]
    assert "other videos" in drawn(row("a", 0.4, x=1, expected=ELSEWHERE))["curve"].caption


def test_long_training_curves_are_means_of_neighbours():
    thin = plots._thin([{"loss": float(i)} for i in range(1000)], "loss")
    assert len(thin) == plots.MOST_POINTS
    assert thin[:2] == [2.0, 7.0]


def test_confusion_is_the_mean_over_seeds_of_the_share_of_each_true_class(tmp_path):
    store = fake_store.store_in(tmp_path)
    runs = [run for seed in (0, 1) for run in row("a", 0.5, store=store, seed=seed).runs]
    assert plots._confusion(runs) is None
    for run, matrix_NN in zip(runs, ([[0.7, 0.3], [0, 0]], np.eye(2)), strict=True):
        fake_store.predict(store, run.test.spec, matrix_NN, ["a", "b"])
    matrix_NN, names = plots._confusion(runs)
    np.testing.assert_allclose(matrix_NN, [[0.85, 0.15], [0, 0.5]])
    assert names == ["a", "b"]


def test_costs_are_placed_by_row_number_hours_and_accuracy():
    rows = [row("a", None), row("b", 0.5, seconds=7200, gpus=2), row("c", 0.25, seconds=1800, gpus=0)]
    points = plots._cost_points(Report("n", "t", "", [UCF], rows), UCF)
    assert points == [(2, 4.0, 50.0, 0.0, "GPU hour"), (3, 0.5, 25.0, 0.0, "CPU hour")]


def test_neighbours_are_passed_on_as_they_are(tmp_path):
    one = row("a", 0.5, store=fake_store.store_in(tmp_path))
    assert "retrieval-01-1" not in drawn(one)
    (one.runs[0].test.stage.folder / "retrieval.png").write_bytes(b"png")
    sheet = drawn(one)["retrieval-01-1"]
    assert (sheet.png, sheet.svg, sheet.row) == (b"png", None, 0)


def test_words_and_lines_have_the_two_colours_that_a_page_replaces():
    svg = drawn(row("a", 0.5, x=1))["curve"].svg
    colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
    assert colours <= {plots.INK, plots.GRID, plots.COLOURS[0], "#cccccc", "#ffffff"}


@pytest.mark.parametrize(("other", "expected"), [({"loss": {"chance": 0.5}}, 1), ({}, 0)])
def test_what_all_runs_of_a_row_have_in_common_to_read_a_metric_against(other, expected):
    from matplotlib.figure import Figure

    stages = [
        pretext(seed, fake_store.result(references=references), lines(9))
        for seed, references in enumerate([{"loss": {"chance": 0.5}}, other])
    ]
    axes = Figure().add_subplot()
    plots._references(axes, stages, "loss")
    assert [text.get_text() for text in axes.texts] == ["chance 0.5"] * expected


def test_a_figure_says_by_itself_that_its_videos_are_others():
    same, other = row("a", 0.5), row("b", 0.5, expected=ELSEWHERE)
    assert plots._title(UCF, [same]) == UCF.label
    assert plots._title(UCF, [same, other, other]) == f"{UCF.label} (ucf101 instead of hmdb51)"
    assert plots._title(UCF, [replace(other, published={})]) == UCF.label  # nothing to be held against


def test_several_lines_of_metrics_in_an_epoch_have_places_of_their_own():
    """Two lines in each of two epochs, numbered from 1 while they last."""
    logged = [{"step": 5.0 * n, "epoch": float(n + 1) // 2, "loss": 1.0 / n} for n in range(1, 5)]
    axes = Figure().add_subplot()
    plots._lines(axes, [pretext(0, None, logged)], "loss", "red", "")
    assert axes.lines[0].get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]


def test_the_first_figure_is_what_each_row_reaches_beside_what_was_published():
    runs = [row("a", top1, seed=seed).runs[0] for seed, top1 in enumerate((0.4, 0.5, 0.6))]
    one = Row("a", runs, {"UCF101": 57.5}, test_videos={"UCF101": 3783})
    assert next(iter(drawn(one, row("b", None)))) == "results"
    [axes] = plots._reached(Report("n", "t", "", [UCF], [one]), [one]).axes
    cell = one.cell(UCF)
    found = [(line.get_marker(), list(line.get_xdata()), line.get_linewidth()) for line in axes.lines]
    assert [x for marker, x, _ in found if marker == "o"] == [[pytest.approx(50.0)]]
    assert [x for marker, x, _ in found if marker == "D"] == [[57.5]]
    thick, thin = (next(x for _, x, width in found if width == wanted) for wanted in (3.5, 1.0))
    assert thick == pytest.approx(list(cell.over_seeds))
    assert thin == pytest.approx(list(cell.published_over_videos))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]


def test_published_numbers_of_other_videos_are_not_drawn_beside_ours():
    picture = drawn(row("a", 0.4, expected=ELSEWHERE))["results"]
    assert "published numbers are left out" in picture.caption
    assert "diamonds" in drawn(row("a", 0.4))["results"].caption
