import io

import pytest

from vssl.report.course import Far
from vssl.report.progress import Progress


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def work(progress, clock, steps, seconds_each, **values):
    for _ in range(steps):
        clock.now += seconds_each
        progress.advance(160, **values)


def test_without_a_terminal_a_line_comes_every_five_seconds_and_one_last(capsys, clock):
    with Progress("pretext vspp 3f2a", 3200, clock=clock) as progress:
        work(progress, clock, 9, 0.5, loss=2.3123, lr=0.01)  # 4.5 s: nothing yet
        assert capsys.readouterr().out == ""
        work(progress, clock, 11, 0.5, loss=2.1, lr=0.001)
    assert capsys.readouterr().out.splitlines() == [
        "pretext vspp 3f2a 50% 1600/3200 clips, 320 clips/s, loss 2.1, lr 0.001, ETA 0:05",
        "pretext vspp 3f2a 100% 3200/3200 clips, 320 clips/s, loss 2.1, lr 0.001, ETA 0:00",
        "pretext vspp 3f2a 100% 3200/3200 clips, 320 clips/s, loss 2.1, lr 0.001, took 0:10",
    ]


def test_resumed_work_counts_for_the_share_but_not_for_the_speed(capsys, clock):
    progress = Progress("p", 3200, clock=clock)
    progress.start(1600)
    work(progress, clock, 1, 8.0)
    progress.close()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "p 55% 1760/3200 clips, 20 clips/s, took 0:08"


def test_work_that_stops_with_an_error_shows_how_far_it_came(capsys, clock):
    progress = Progress("p", 3200, clock=clock)
    with pytest.raises(KeyError), progress:  # noqa: PT012
        work(progress, clock, 2, 1.0)
        raise KeyError
    assert capsys.readouterr().out == "p 10% 320/3200 clips, 160 clips/s, took 0:02\n"


def test_closing_twice_or_before_the_start_prints_nothing(capsys, clock):
    progress = Progress("p", 3200, clock=clock)
    progress.close()
    assert capsys.readouterr().out == ""
    progress.start(0)
    progress.close()
    progress.close()
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(("total", "done"), [(0, 0), (3200, 3200)])
def test_nothing_to_do_is_all_done(capsys, clock, total, done):
    progress = Progress("p", total, clock=clock)
    progress.start(done)
    progress.close()
    assert capsys.readouterr().out == f"p 100% {done}/{total} clips, took 0:00\n"


def test_a_terminal_gets_one_bar_on_one_line(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    with Progress("pretext [vspp] 3f2a", 3200, clock=clock) as progress:
        work(progress, clock, 10, 0.5, loss=2.3123, lr=0.01)
        print("a line in between")
        work(progress, clock, 10, 0.5, loss=2.1, lr=0.01)
    out = terminal.getvalue()
    assert "pretext [vspp] 3f2a" in out
    assert " 50%  320 clips/s  loss 2.31  lr 0.01  ETA 0:05" in out
    assert "100%  320 clips/s  loss 2.1  lr 0.01  took 0:10" in out
    assert "a line in between\n" in out
    assert out.count("\n") == 2  # that line, and the end of the bar


def test_a_bar_is_drawn_at_most_ten_times_a_second(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("p", 160_000, clock=clock) as progress:
        work(progress, clock, 1000, 0.001)
    assert 5 <= terminal.getvalue().count("ETA") <= 11


def test_beside_a_stage_stands_how_far_all_of_them_are(capsys):
    far = Far(done=3, total=8, reused=1, share=0.417, seconds=80.0)
    with Progress("pretext", 10, far=lambda: far) as progress:
        progress.done = 4
    said = capsys.readouterr().out
    assert said.rstrip().endswith("; all: 3 of 8 stages done (1 reused), 41% of the clips, ETA 1:20")
