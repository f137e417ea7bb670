"""Numbers as people read them."""

import pytest

from vssl.words import count, duration, number


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.3123, "2.31"), (1e-5, "1e-05"), (0.01, "0.01"), (31.26, "31.3"), (312.4, "312"), (12345.6, "12346")],
)
def test_numbers_have_three_digits_or_all_before_the_point(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (6, "0:06"), (65, "1:05"), (3599.6, "1:00:00"), (90061, "25:01:01")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_amounts():
    assert [count(amount, "run") for amount in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
