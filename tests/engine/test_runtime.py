"""Where and how a stage runs: what is refused before anything starts."""

import os
from dataclasses import replace

import pytest

from conftest import RUNTIME
from vssl.errors import VsslError

TOO_SMALL = {"workers": -1, "threads": 0, "save_every_s": -1.0, "log_every_steps": 0, "timeout_s": 0.5}


@pytest.mark.parametrize(("name", "value"), TOO_SMALL.items())
def test_values_that_would_fail_in_the_middle(name, value):
    with pytest.raises(VsslError, match=rf"^runtime\.{name}={value} is too small: choose "):
        replace(RUNTIME, **{name: value})


def test_what_is_left_open_is_decided_on_the_machine():
    """Two loader processes beside a CPU, if there are cores; arithmetic has the rest, one thread at least."""
    cores = len(os.sched_getaffinity(0))
    there = replace(RUNTIME, workers=None, threads=None)
    assert there.num_workers() == min(cores, 2)
    assert there.num_threads() == max(1, cores - 2)
