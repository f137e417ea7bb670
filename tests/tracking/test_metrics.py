import json
import math

import pytest

from vssl.errors import VsslError
from vssl.tracking.metrics import MetricsLog, read


def steps(folder):
    return [line["step"] for line in read(folder)]


def test_every_line_is_in_the_file_at_once(tmp_path):
    log = MetricsLog(tmp_path, resume_step=0)
    log.log({"loss": 2.5, "lr": 0.1}, step=1)
    assert [(line["step"], line["loss"], line["lr"]) for line in read(tmp_path)] == [(1, 2.5, 0.1)]
    log.log({"loss": 2.0}, step=2)
    assert steps(tmp_path) == [1, 2]
    first, second = read(tmp_path)
    assert first["time"] <= second["time"]


def test_an_absent_file_has_no_lines(tmp_path):
    assert read(tmp_path) == []


def test_resuming_drops_what_was_written_past_the_checkpoint(tmp_path):
    log = MetricsLog(tmp_path, resume_step=0)
    for step in (10, 20, 20, 30, 40):
        log.log({"loss": float(step)}, step)
    before = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    log = MetricsLog(tmp_path, resume_step=20)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(before[:3])
    log.log({"loss": 1.0}, 30)
    assert steps(tmp_path) == [10, 20, 20, 30]


def test_a_half_written_last_line_is_not_read_and_dropped_on_resume(tmp_path):
    MetricsLog(tmp_path, resume_step=0).log({"loss": 1.0}, 10)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "time": 17')
    assert steps(tmp_path) == [10]
    MetricsLog(tmp_path, resume_step=99).log({"loss": 1.0}, 20)
    assert steps(tmp_path) == [10, 20]


def test_a_kill_while_resuming_leaves_the_old_file(tmp_path, monkeypatch):
    MetricsLog(tmp_path, resume_step=0).log({"loss": 1.0}, 10)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        MetricsLog(tmp_path, resume_step=0)
    assert steps(tmp_path) == [10]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path, value):
    MetricsLog(tmp_path, resume_step=0).log({"loss": value, "lr": 0.1}, 1)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse)["loss"] is None
    (line,) = read(tmp_path)
    assert math.isnan(line["loss"])
    assert line["lr"] == 0.1


@pytest.mark.parametrize("name", ["step", "time"])
def test_a_metric_must_not_take_a_name_of_the_file(tmp_path, name):
    with pytest.raises(VsslError, match=name):
        MetricsLog(tmp_path, resume_step=0).log({name: 1.0}, 1)


def test_a_damaged_line_is_named_with_its_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time": 1}\n{"step": 2, "ti\n')
    with pytest.raises(VsslError, match=r"metrics\.jsonl.*step.*2.*delete"):
        read(tmp_path)
