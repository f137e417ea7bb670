"""A day on a GPU: parts that fail, take too long or are interrupted, what is done again, and the report."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import measuring
from benchmarks.measuring import Table, kept, kept_since, write
from conftest import ROOT, interrupted_when_starting
from gpu import day
from gpu.day import INTERRUPTED, NOT_STARTED, Part

SAVES = "trap 'echo saved; exit 1' INT; echo $$ > pid; while :; do sleep 0.1; done"
"""A part that keeps what it has when it is interrupted; once there is `pid`, it is ready for that."""


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Not that of the checkout, and no tables that were measured there."""
    monkeypatch.setattr(day, "ROOT", tmp_path)
    monkeypatch.setattr(day, "FOLDER", tmp_path)
    monkeypatch.setattr(day, "kept", lambda name, smallest: None)
    monkeypatch.setattr(day, "gpu_name", lambda: "A GPU")
    return tmp_path


def part(name, code, minutes=1.0):
    return Part(name, [sys.executable, "-c", code], minutes, {})


def saving():
    return Part("tests", ["sh", "-c", SAVES], 1.0, {})


def go(monkeypatch, *found, words=()):
    """Run the day; return its exit status."""
    monkeypatch.setattr(day, "parts", lambda *asked: list(found))
    monkeypatch.setattr(sys, "argv", ["day.py", *words])
    with pytest.raises(SystemExit) as end:
        day.main()
    return int(end.value.code)


def pid_of(folder):
    """Of the part that saves, once it is ready."""
    file = folder / "pid"
    until = time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    return file.read_text().strip()


def test_ctrl_c_ends_the_part_too(folder):
    """Which would else go on beside the next day."""

    def interrupt():
        pid_of(folder)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert day.run(saving(), 1.0) == INTERRUPTED
    assert (folder / "tests.log").read_text() == "saved\n"


ONE_PART = """
import sys
sys.path[:1] = ["{root}", "{root}/tests"]
from pathlib import Path
from gpu import day
day.ROOT = day.FOLDER = Path("{folder}")
day.parts = lambda *asked: [day.Part("tests", ["sh", "-c", {code!r}], 1.0, {{}})]
day.gpu_name = lambda: "A GPU"
sys.argv[1:] = []
day.main()
"""


def test_ctrl_c_while_a_part_starts_ends_it(monkeypatch):
    started = interrupted_when_starting(monkeypatch)
    assert day.run(saving(), 1.0) == INTERRUPTED
    assert [process.poll() is None for process in started] == [False]


@pytest.mark.parametrize("asking", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_the_day_ends_its_part(folder, asking):
    """A limit of the machine's sends one of these; a part that lived on would spoil what is measured next."""
    command = [sys.executable, "-c", ONE_PART.format(root=ROOT, folder=folder, code=SAVES)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    part_of_it = Path("/proc", pid_of(folder))
    process.send_signal(asking)
    assert process.wait(60) == (-signal.SIGKILL if asking == signal.SIGKILL else 1)
    how = "stopped with the day" if asking == signal.SIGKILL else INTERRUPTED
    assert json.loads((folder / "tries.json").read_text())["tests"]["how"] == how
    until = time.monotonic() + 60
    while part_of_it.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not part_of_it.exists()
    assert (folder / "tests.log").read_text() == "saved\n"


def test_two_days_at_once_would_measure_each_other(folder, monkeypatch):
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(day, "parts", lambda *asked: [part("tests", "print('2 passed')")])
        monkeypatch.setattr(sys, "argv", ["day.py"])
        with pytest.raises(SystemExit, match="another gpu-day is running there"):
            day.main()
    assert not (folder / "tests.log").exists()


def test_what_is_done_is_done_for_the_same_videos_words_and_gpu_only(folder, monkeypatch, capsys):
    tries = [("print(1)", "A GPU", 0), ("print(1)", "A GPU", 1), ("print(2)", "A GPU", 0)]
    for code, gpu, before in [*tries, ("print(2)", "Another", 0)]:
        monkeypatch.setattr(day, "gpu_name", lambda gpu=gpu: gpu)
        assert go(monkeypatch, part("sweep", code)) == 0
        assert capsys.readouterr().out.count("sweep: done before") == before


def test_what_took_too_long_comes_after_what_was_not_tried(folder, monkeypatch, capsys):
    """Or it would use up each start of a machine that is lent for minutes only."""
    monkeypatch.setattr(day, "GRACE_S", 0.0)
    slow, other = Part("tests", saving().command, 1 / 60, {}), part("loader", "print('fine')")
    assert go(monkeypatch, slow, other, words=["--minutes", "0.1"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["tests: 0.0 min at most", "tests: stopped after 1 s"]
    assert go(monkeypatch, slow, other) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1::2][:2] == ["loader: done", "tests: stopped after 1 s"]


def test_a_sweep_that_was_stopped_goes_on_in_its_order(folder, monkeypatch, capsys):
    """It has lost nothing."""
    monkeypatch.setattr(day, "GRACE_S", 0.0)
    first, then = Part("linear-0", saving().command, 1 / 60, {}), part("sweep", "print('fine')")
    for minutes in ("0.1", "25"):
        assert go(monkeypatch, first, then, words=["--minutes", minutes]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.endswith((" 1 s", ": done"))] == [
        *["linear-0: stopped after 1 s"] * 2,
        "sweep: done",
    ]


def test_a_try_that_comes_less_far_leaves_the_table_and_the_report_says_so(folder, monkeypatch):
    monkeypatch.setattr(measuring, "FOLDER", folder / "bench")
    monkeypatch.setattr(day, "kept", kept)
    environment = {"versions": {}, "gpu": None, "git_commit": "0" * 40}
    begun = environment | dict.fromkeys(("date", "processor", "cores", "load", "python"), 1)
    write("step", Table("Steps", ["what", "ms"], [["a", 1.0], ["b", 2.0]]), begun)
    assert kept_since(time.time() - 60, "step")
    os.utime(folder / "bench/step.json", (0, 0))
    assert go(monkeypatch, part("step", "raise SystemExit(1)")) == 1
    assert "From an earlier try" in (folder / "report.md").read_text()
    rewrites = f"from pathlib import Path; Path(r'{folder}/bench/step.json').touch()"
    assert go(monkeypatch, part("step", rewrites)) == 0
    assert "From an earlier try" not in (folder / "report.md").read_text()


def test_a_part_that_takes_too_long_can_keep_what_it_has(folder):
    assert day.run(saving(), 4 / 60) == "stopped after 4 s"
    assert (folder / "tests.log").read_text() == "saved\n"


def test_what_is_not_done_is_named_and_tried_again(folder, monkeypatch, capsys):
    failing = part("step", "print('FAILED tests/gpu/test_a.py::b'); print('1 failed'); raise SystemExit(1)")
    parts = [part("tests", failing.command[-1]), part("loader", "print('fine')")]
    assert go(monkeypatch, *parts, words=["--minutes", "0"]) == 0
    assert (folder / "report.md").read_text().count(NOT_STARTED) == 2
    assert go(monkeypatch, *parts) == 1
    report = (folder / "report.md").read_text()
    assert "- tests: failed, see tests.log (commit " in report
    for line in ("    FAILED tests/gpu/test_a.py::b", "    1 failed"):
        assert line in report.splitlines()
    assert go(monkeypatch, part("tests", "print('2 passed')"), parts[1]) == 0
    assert "loader: done before" in capsys.readouterr().out
    assert "    2 passed" in (folder / "report.md").read_text().splitlines()


def test_without_a_gpu_nothing_is_started_and_so_nothing_is_done(folder, monkeypatch, capsys):
    """Skipped tests and benchmarks of a CPU would count as done where there is one, on another node."""
    monkeypatch.undo()
    monkeypatch.setattr(day, "FOLDER", folder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["day.py"])
    day.main()
    assert "skipped: no GPU is visible to torch" in capsys.readouterr().out
    assert not list(folder.iterdir())


def test_a_longer_day_gives_each_part_longer(folder, monkeypatch, capsys):
    """Or tests that take 11 minutes would begin anew for ever."""
    for minutes, limit in (("25", "10.0"), ("20", "10.0"), ("50", "20.0")):
        one = Part("tests", [sys.executable, "-c", f"print({minutes})"], 10.0, {})
        assert go(monkeypatch, one, words=["--minutes", minutes]) == 0
        assert f"tests: {limit} min at most" in capsys.readouterr().out


def test_videos_that_are_not_there_are_told_before_anything_starts(folder, monkeypatch, capsys):
    for missing, asked in ((folder / "none", "none"), (folder / "lists01", "videos")):
        (folder / "videos").mkdir(exist_ok=True)
        assert go(monkeypatch, words=["--videos", str(folder / asked)]) == 2
        assert f"{missing} is no folder; give" in capsys.readouterr().err
    assert not (folder / "report.md").exists()


def test_words_that_are_wrong_are_told_before_anything_is_measured(folder, monkeypatch, capsys):
    real = [part.name for part in day.parts(folder, False, [])]
    assert real[:3] == ["check", "plan", "tests"]
    wrong = part("plan", "print('much'); print('flp=0: no such option'); raise SystemExit(1)")
    assert go(monkeypatch, wrong, part("tests", "print('2 passed')")) == 1
    assert "plan: failed, see plan.log\nflp=0: no such option\n" in capsys.readouterr().out
    assert not (folder / "tests.log").exists()


def test_a_rehearsal_is_called_so_and_leaves_everything_to_do(folder, monkeypatch, capsys):
    assert go(monkeypatch, part("tests", "print('2 passed')"), words=["--smallest"]) == 0
    assert "rehearsal" in (folder / "smallest/report.md").read_text()
    assert not (folder / "report.md").exists()
    monkeypatch.setattr(day, "FOLDER", folder)
    assert go(monkeypatch, part("tests", "print('2 passed')")) == 0
    assert "done before" not in capsys.readouterr().out
    assert "rehearsal" not in (folder / "report.md").read_text()
