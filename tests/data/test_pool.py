"""Work in processes that may hang or die: nothing else is lost."""

import operator
import os
import signal
import time
from pathlib import Path

import pytest

from vssl.data.pool import Lost, each
from vssl.errors import VsslError


def results(*arguments, **options):
    """What came of each task."""
    return {task: result for task, result, _ in each(*arguments, **options)}


def test_every_task_comes_back_once_with_its_result():
    assert results(operator.mul, [(n, 10) for n in range(7)], workers=2, timeout_s=60) == {
        (n, 10): 10 * n for n in range(7)
    }


def test_no_tasks_start_no_process():
    assert list(each(os.abort, [], workers=2, timeout_s=60)) == []


def test_a_task_that_hangs_is_named_and_the_others_go_on():
    done = results(time.sleep, [(0,), (1000,), (0.01,), (0.02,)], workers=2, timeout_s=1)
    assert done.pop((1000,)) == Lost("hangs", "took longer than 1 s")
    assert done == {(0,): None, (0.01,): None, (0.02,): None}


def test_a_task_that_kills_its_process_is_named_and_the_others_go_on():
    tasks = [(signal.SIGTERM,), (signal.SIGKILL,), (signal.SIGCHLD,)]
    done = results(signal.raise_signal, tasks, workers=1, timeout_s=60)
    assert done[(signal.SIGTERM,)] == Lost("crashes", f"its process died (exit code {-signal.SIGTERM})")
    assert done[(signal.SIGKILL,)].cause == "no memory"
    assert "SIGKILL" in done[(signal.SIGKILL,)].reason
    assert done[(signal.SIGCHLD,)] is None


def test_ctrl_c_is_not_for_the_processes_not_even_while_they_start():
    """They would print tracebacks; who started them hears it, and ends them."""
    first, second = each(signal.pthread_sigmask, [(signal.SIG_BLOCK, ())] * 2, workers=2, timeout_s=60)
    assert signal.SIGINT in first.result & second.result
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("code", "cause", "reason"),
    [
        ("1 / 0", "crashes", "ZeroDivisionError: division by zero"),
        ("exec(r\"raise ValueError('two\\nlines')\")", "crashes", "ValueError: two lines"),
        ("bytearray(1 << 60)", "no memory", "not enough memory (MemoryError)"),
        ("__import__('numpy').empty(1 << 55)", "no memory", "not enough memory (MemoryError: Unable to"),
        ("exit(3)", "crashes", "its process died (exit code 3)"),
        ("lambda: 0", "crashes", "its process died (exit code 1)"),  # which no pipe can carry
    ],
)
def test_whatever_a_task_raises_is_its_own_outcome(code, cause, reason):
    done = results(eval, [(code,), ("6 * 7",)], workers=1, timeout_s=60)
    assert (done[(code,)].cause, done[(code,)].reason[: len(reason)]) == (cause, reason)
    assert "\n" not in done[(code,)].reason
    assert done[("6 * 7",)] == 42


def refuse(name):
    raise VsslError(f"{name}: the disk is full")


def test_what_a_user_has_to_mend_is_raised_where_the_results_are_taken():
    with pytest.raises(VsslError, match="out: the disk is full"):
        list(each(refuse, [("out",)], workers=1, timeout_s=60))


def test_a_process_that_is_killed_while_it_is_idle_costs_no_task():
    outcomes = each(eval, [("__import__('os').getpid()",)] * 2 + [("6 * 7",)] * 4, workers=1, timeout_s=60)
    pid = next(outcomes).result
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
    other, *rest = (outcome.result for outcome in outcomes)
    assert other not in (pid, None)
    assert rest == [42] * 4


def test_a_process_that_cannot_start_is_one_line(monkeypatch):
    monkeypatch.setattr("vssl.data.pool._serve", exit)  # its process imports it by its name, and it ends
    with pytest.raises(VsslError, match=r"a process that reads files cannot start \(.+\); choose fewer"):
        list(each(eval, [("1",)], workers=1, timeout_s=60))


def test_the_time_of_the_processor_is_that_of_the_task():
    spin = "[n * n for n in range(3_000_000)] and None"
    [spun, slept] = each(eval, [(spin,), ("__import__('time').sleep(0.5)",)], workers=1, timeout_s=60)
    assert spun.cpu_s > slept.cpu_s > 0
