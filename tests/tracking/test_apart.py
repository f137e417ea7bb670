"""A tracker in a process of its own: the launch sees nothing of what happens there but one line."""

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from conftest import ROOT
from odd_trackers import Noting, Unmakeable
from vssl.tracking import apart
from vssl.tracking.apart import Apart
from vssl.tracking.metrics import Launch, StageFolder


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Begins a launch with a tracker of `odd_trackers`."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def start(kind=Noting):
        tracker = Apart(kind(tmp_path / "calls"))
        tracker.begin(Launch("1", "a launch", ""))
        return tracker

    return start


def stage(name, key="0123456789"):
    return StageFolder(name, key, Path("/nowhere"), {})


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_calls_arrive_in_order_and_are_waited_for_at_the_end(started, tmp_path, caplog):
    tracker = started()
    tracker.claim(tmp_path)
    for status in ("running", "finished"):
        tracker.mirror(stage("pretext"), status)
    tracker.end(ok=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line for line in calls if line != "mirror pretext running"] == [
        *("begin a launch", f"claim {tmp_path}", "mirror pretext finished", "end True"),
    ]
    assert said(caplog) == []


def test_ctrl_c_in_the_middle_of_a_call_leaves_it_whole(started, tmp_path, caplog, monkeypatch):
    tracker, write = started(), os.write

    def interrupted(file, sent):
        monkeypatch.setattr(os, "write", write)
        length = write(file, sent[:30])
        os.kill(os.getpid(), signal.SIGINT)
        return length

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tracker.mirror(stage("pretext"), "finished")
    tracker.end(ok=False)
    assert (tmp_path / "calls").read_text().splitlines() == [
        *("begin a launch", "mirror pretext finished", "end False"),
    ]
    assert said(caplog) == []


def test_an_error_of_any_kind_is_one_line_and_what_is_missing_another(started, tmp_path, caplog):
    tracker = started()
    tracker.mirror(stage("raises"), "failed")
    tracker.mirror(stage("raises"), "finished")
    tracker.mirror(stage("fine"), "finished")
    tracker.end(ok=True)
    assert (tmp_path / "calls").read_text().endswith("mirror fine finished\nend True\n")
    first, last = said(caplog)
    assert first.startswith("tracking: ")
    assert first.endswith("; training goes on, metrics.jsonl is complete")
    assert "a driver's own error" in first
    assert "\n" not in first
    assert last == "tracking: not logged: raises 01234567; mode=sync brings it later"


def test_what_the_tracker_says_itself_is_passed_on(started, caplog):
    tracker = started()
    tracker.mirror(stage("says"), "finished")
    tracker.end(ok=True)
    assert said(caplog) == ["tracking: down; training goes on"]


def test_a_call_that_hangs_is_given_up_at_the_end_and_said(started, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(apart, "PATIENCE_S", 4.0)
    tracker = started()
    while not (tmp_path / "calls").exists():  # its imports take what they take
        time.sleep(0.05)
    tracker.mirror(stage("hangs"), "failed")
    for number in range(5000):  # more than a pipe holds: none of them waits
        tracker.mirror(stage("pretext", f"{number:010}"), "finished")
    tracker.mirror(stage("pretext"), "running")
    process = tracker._process
    tracker.end(ok=True)
    assert process.returncode is not None
    first, last = said(caplog)
    assert first == "tracking: no answer; training goes on, metrics.jsonl is complete"
    assert last.startswith("tracking: not logged: hangs 01234567, pretext 00000000, ")
    assert last.endswith(", this launch; mode=sync brings it later")


def test_a_process_that_dies_is_one_line(started, caplog):
    tracker = started()
    tracker.mirror(stage("dies"), "finished")
    tracker.end(ok=True)
    assert said(caplog) == [
        "tracking: its process has ended with exit status 7; training goes on, metrics.jsonl is complete",
        "tracking: not logged: dies 01234567, this launch; mode=sync brings it later",
    ]


def test_a_tracker_that_cannot_be_made_is_one_line(started, caplog):
    tracker = started(Unmakeable)
    tracker.mirror(stage("pretext"), "finished")
    tracker.leave()
    first, last = said(caplog)
    assert "its process has ended with exit status 1" in first
    assert last == "tracking: not logged: this launch, pretext 01234567; mode=sync brings it later"


def test_a_process_that_cannot_be_started_is_one_line(started, caplog, monkeypatch):
    monkeypatch.setattr(apart.sys, "executable", "/no/such/python")
    tracker = started()
    tracker.mirror(stage("pretext"), "finished")
    tracker.end(ok=False)
    assert len(said(caplog)) == 2
    assert "/no/such/python" in said(caplog)[0]
