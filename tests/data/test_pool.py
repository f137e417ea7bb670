"""Work in processes that may hang or die: nothing else is lost."""

import operator
import os
import signal
import time

import pytest

from vssl.data.pool import Lost, each


def test_every_task_comes_back_once_with_its_result():
    done = dict(each(operator.mul, [(n, 10) for n in range(7)], workers=2, timeout_s=60))
    assert done == {(n, 10): 10 * n for n in range(7)}


def test_no_tasks_start_no_process():
    assert list(each(os.abort, [], workers=2, timeout_s=60)) == []


def test_a_task_that_hangs_is_named_and_the_others_go_on():
    done = dict(each(time.sleep, [(0,), (1000,), (0.01,), (0.02,)], workers=2, timeout_s=1))
    assert done.pop((1000,)) == Lost(False, "took longer than 1 s")
    assert done == {(0,): None, (0.01,): None, (0.02,): None}


def test_a_task_that_kills_its_process_is_named_and_the_others_go_on():
    tasks = [(signal.SIGTERM,), (signal.SIGKILL,), (signal.SIGCHLD,)]
    done = dict(each(signal.raise_signal, tasks, workers=1, timeout_s=60))
    assert done[(signal.SIGTERM,)] == Lost(True, f"its process died (exit code {-signal.SIGTERM})")
    assert done[(signal.SIGKILL,)] == Lost(True, f"its process died (exit code {-signal.SIGKILL})")
    assert done[(signal.SIGCHLD,)] is None


def test_an_exception_is_raised_where_the_results_are_taken():
    with pytest.raises(ZeroDivisionError):
        list(each(operator.truediv, [(1, 0)], workers=1, timeout_s=60))
