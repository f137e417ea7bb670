"""Training curves: a picture is written, whatever the metrics hold."""

import math

from PIL import Image

from vssl.report.curves import draw_curves


def test_a_panel_for_each_metric(tmp_path):
    lines = [{"step": s, "time": 0.0, "epoch": 1.0, "loss": 1 / s, "lr": 0.1} for s in (1, 2, 3)]
    draw_curves(lines, "pretext 1234", tmp_path / "two.png")
    draw_curves([{**line, "a": 1.0, "b": math.nan} for line in lines], "more", tmp_path / "four.png")
    two, four = (Image.open(tmp_path / name).size for name in ("two.png", "four.png"))
    assert two[0] == four[0]
    assert four[1] == 2 * two[1]
