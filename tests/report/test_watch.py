"""A forest that is watched: what is shown of it, and when there is nothing more to wait for."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

import fake_store
from vssl.report import watch
from vssl.report.course import Course
from vssl.stage.store import StageStore

CHAINS = [fake_store.chain(segments, 0) for segments in (1, 2, 3)]
FOREST = [spec for chain in CHAINS for spec in chain]


def standing(*statuses, **parts):
    """The stages of the forest, with these statuses."""
    return [
        replace(fake_store.state(spec), status=s, **parts) for spec, s in zip(FOREST, statuses, strict=False)
    ]


@pytest.fixture
def course(tmp_path):
    return Course(FOREST, StageStore(tmp_path))


@pytest.mark.parametrize(
    ("statuses", "over"),
    [
        (["done", "done", "done"], True),
        (["done", "done", "running"], False),
        (["done", "to do", "to do"], False),  # between two stages, or before a launch
        (["failed", "to do", "to do"], True),  # what waits for it cannot go on
        (["failed", "to do", "to do", "done", "queued", "to do"], False),
        (["cancelled", "cancelled", "cancelled"], True),
        (["done", "failed", "to do", "stale"], False),
    ],
)
def test_it_is_over_once_no_stage_can_go_on(statuses, over):
    assert watch.is_over(standing(*statuses)) == over


def screen(found, course, width=140, height=40):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(watch._screen(found, course, console))
    return console.file.getvalue().splitlines()


RUNNING = {"step": 3, "done": 500, "total": 1000, "rate": 25.0, "time": 0.0}


def test_the_table_has_every_stage_its_bar_its_speed_and_why_it_failed(course):
    found = standing("done", "running", "to do", "failed", "to do", "to do")
    found[1] = replace(found[1], progress={**RUNNING, "time": time.time()}, job="12_3")
    found[3] = replace(found[3], detail="out of memory")
    lines = screen(found, course)
    _, _, *rows = lines
    assert [row.split()[0] for row in rows[:6]] == [state.spec.name for state in found]
    assert "━" in rows[1]
    assert "25" in rows[1]
    assert "ETA 0:20, job 12_3" in rows[1]
    assert found[1].spec.recipe.words in rows[1]
    assert f"{found[3].spec} failed: out of memory" in lines
    assert lines[-1].startswith("0 of 9 stages done")
    assert lines[-1].endswith("1 running, 1 failed")


def test_a_narrow_terminal_keeps_what_changes(course):
    lines = screen(standing("running", progress=RUNNING), course, width=80)
    assert all(len(line) <= 80 for line in lines)
    assert "running" in lines[2]
    assert "25" in lines[2]
    assert "VSPP" not in lines[2]


def test_where_there_is_no_room_for_all_what_runs_and_what_failed_stays(course):
    found = standing("done", "done", "done", "failed", "to do", "to do", "running", "to do", "to do")
    lines = screen(found, course, height=10)
    assert len(lines) < 10
    shown = [
        line for line in lines if line.startswith(("pretext ", "finetune ", "test ")) and ":" not in line
    ]
    assert any("failed" in line for line in shown)
    assert any("running" in line for line in shown)
    assert any(line.startswith("and 3 done") for line in lines)


@pytest.mark.parametrize("statuses", [["done", "to do", "to do"], ["done", "stale", "to do"]])
def test_who_waits_for_nothing_is_told_so(course, statuses):
    assert screen(standing(*statuses), course)[-1].endswith(
        "nothing runs: this waits for a launch (Ctrl-C leaves)"
    )
    statuses[1] = "queued"
    assert "nothing runs" not in screen(standing(*statuses), course)[-1]


def test_elsewhere_it_is_plain_lines_and_one_for_each_failure(course, capsys, monkeypatch):
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    monkeypatch.setattr(watch, "LINE_EVERY_S", 0.0)
    first = standing("running", "to do", "to do")
    last = standing("failed", "to do", "to do", detail="out of memory")
    looks = iter([first, first, last])
    assert watch.watch(lambda: next(looks), course) == last
    assert capsys.readouterr().out.splitlines() == [
        "0 of 9 stages done, ETA ?, 1 running",
        f"{FOREST[0]} failed: out of memory",
        "0 of 9 stages done, ETA ?, 1 failed",
    ]
