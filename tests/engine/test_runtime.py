"""Where and how a stage runs: what is refused before anything starts."""

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
    assert replace(RUNTIME, workers=None, threads=None).num_threads() >= 1
