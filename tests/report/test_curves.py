"""Training curves: a picture is written, whatever the metrics hold."""

import math

from PIL import Image

from vssl.report.plots import draw_curves, draw_references


def test_a_panel_for_each_metric(tmp_path):
    lines = [{"step": s, "time": 0.0, "epoch": 1.0, "loss": 1 / s, "lr": 0.1} for s in (1, 2, 3)]
    draw_curves(lines, "pretext 1234", {}, tmp_path / "two.png")
    more = [{**line, "a": 1.0, "b": math.nan} for line in lines]
    more.append({"step": 3, "time": 0.0, "epoch": 1.0, "a": 2.0})
    draw_curves(more, "more", {"a": {"chance": 0.5}, "none": {"chance": 0.5}}, tmp_path / "four.png")
    two, four = (Image.open(tmp_path / name).size for name in ("two.png", "four.png"))
    assert two[0] == four[0]
    assert four[1] == 2 * two[1]


def test_what_to_read_a_metric_against_is_a_dashed_line_with_its_name():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    draw_references(axes, {"chance": 0.25, "reachable": 0.8125})
    assert [line.get_ydata() for line in axes.lines] == [[0.25, 0.25], [0.8125, 0.8125]]
    assert {line.get_linestyle() for line in axes.lines} == {"--"}
    assert [text.get_text() for text in axes.texts] == ["chance 0.25", "reachable 0.8125"]
