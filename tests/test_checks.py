"""Checks name the option and the way out."""

import pytest

from vssl.checks import check_above_0, check_at_least, check_share
from vssl.errors import VsslError


def test_at_least_takes_the_bound_itself():
    check_at_least("num_segments", 1, 1)
    with pytest.raises(VsslError, match=r"^num_segments=0: too small; choose 1 or more$"):
        check_at_least("num_segments", 0, 1)


def test_above_0():
    check_above_0("temperature", 1e-9)
    with pytest.raises(VsslError, match=r"^temperature=0: too small; choose a number above 0$"):
        check_above_0("temperature", 0)


def test_a_share_may_be_nothing_and_all():
    check_share("momentum", 0)
    check_share("momentum", 1)
    for value in (-0.1, 1.1):
        with pytest.raises(VsslError, match=rf"^momentum={value}: not a share; choose .* from 0 to 1$"):
            check_share("momentum", value)
