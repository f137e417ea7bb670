"""Checks name the option and the way out."""

from typing import Literal

import pytest

from vssl.errors import VsslError
from vssl.nn.checks import check_at_least, check_choice


def test_at_least_takes_the_bound_itself():
    check_at_least("num_segments", 1, 1)
    with pytest.raises(VsslError, match=r"^num_segments=0 is too small: choose 1 or more$"):
        check_at_least("num_segments", 0, 1)


def test_choice_names_the_nearest_value():
    check_choice("short", "wrap", Literal["wrap", "clamp"])
    with pytest.raises(VsslError, match=r"^short=wrapp: no such value; did you mean 'wrap'\?$"):
        check_choice("short", "wrapp", Literal["wrap", "clamp"])
