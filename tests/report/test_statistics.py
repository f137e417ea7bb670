"""Intervals and tests against values worked by hand, formulas restated, and simulation."""

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from vssl.report.statistics import (
    Interval,
    detectable,
    holm,
    interval_of_mean,
    interval_of_share,
    interval_of_test_set,
    paired_p,
)

# mean 3, deviations -2 -1 0 1 2: variance 10 / 4, standard error sqrt(2.5 / 5) = 0.7071.
FIVE = [1.0, 2.0, 3.0, 4.0, 5.0]
T_4 = 2.776  # t(0.975; 4), from a printed table


def test_the_interval_of_a_mean():
    low, high = interval_of_mean(FIVE)
    assert (low, high) == pytest.approx((3 - T_4 * math.sqrt(0.5), 3 + T_4 * math.sqrt(0.5)), abs=1e-3)


@pytest.mark.parametrize("values", [[], [2.7], [2.7, 2.7], [0.0, 0.0, 0.0], [100 * 0.3, 100 * (0.1 + 0.2)]])
def test_values_that_do_not_differ_say_nothing_of_others(values):
    assert interval_of_mean(values) is None
    assert paired_p(values) is None
    assert detectable(values) is None


def test_the_paired_test_with_two_pairs_is_an_arctangent():
    """On one degree of freedom t is Cauchy's: p = 1 - 2 arctan(t) / pi. Here mean 3 and standard error 1."""
    for pair in ([2.0, 4.0], [-2.0, -4.0]):
        assert paired_p(pair) == pytest.approx(1 - 2 * math.atan(3) / math.pi)


def test_the_paired_test_on_four_degrees_of_freedom():
    """The density of t is 3/8 (1 + x^2 / 4)^(-5/2), added up over both tails."""
    t = 3 / math.sqrt(0.5)
    x_N = (np.arange(10_000) + 0.5) * t / 10_000
    inside = 2 * t * np.mean(0.375 * (1 + x_N**2 / 4) ** -2.5)
    assert paired_p(FIVE) == pytest.approx(1 - inside, abs=1e-7)


def test_p_and_interval_agree():
    """p is below 0.05 where the interval leaves out 0, and not elsewhere."""
    shifts = np.linspace(-4, 4, 81)
    shifted = [[value - 3 + shift for value in FIVE] for shift in shifts]
    assert [paired_p(one) < 0.05 for one in shifted] == [0 not in interval_of_mean(one) for one in shifted]


@pytest.mark.parametrize(("pairs", "level"), [(5, 0.05), (5, 0.05 / 8), (3, 0.05), (20, 0.01)])
def test_what_is_detectable_is_found_in_four_cases_of_five(pairs, level):
    rng = np.random.default_rng(1)
    drawn_RP = rng.standard_normal((20_000, pairs))
    unit = drawn_RP[0]
    spread = unit.std(ddof=1)
    shifted_RP = drawn_RP * spread + detectable(unit.tolist(), level)
    t_R = shifted_RP.mean(axis=1) / (shifted_RP.std(axis=1, ddof=1) / math.sqrt(pairs))
    null_R = drawn_RP.mean(axis=1) / (drawn_RP.std(axis=1, ddof=1) / math.sqrt(pairs))
    # Critical values of a printed table.
    exact = {(5, 0.05): 2.7764, (5, 0.05 / 8): 5.2611, (3, 0.05): 4.3027, (20, 0.01): 2.8609}[pairs, level]
    assert (np.abs(null_R) > exact).mean() == pytest.approx(level, abs=0.005)
    assert (t_R > exact).mean() == pytest.approx(0.8, abs=0.01)


def test_five_pairs_see_1_68_standard_deviations():
    """Cohen's d for 80 % power of a paired test with five pairs, as printed by programs for it."""
    assert detectable(FIVE) == pytest.approx(1.682 * math.sqrt(2.5), abs=1e-3)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm's step-down, by hand
        ([0.5, 0.6], [1.0, 1.0]),
    ],
)
def test_holm(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_the_bootstrap_of_three_videos_has_all_27_draws():
    """The mean of 0, 0 and 1 is 0 in 8 of 27 draws, 1/3 in 12, 2/3 in 6, and 1 in 1 (3.7 %, above 2.5 %)."""
    means = sorted(sum(draw) / 3 for draw in product([0, 0, 1], repeat=3))
    assert [means.count(k / 3) for k in range(4)] == [8, 12, 6, 1]
    assert interval_of_test_set(np.array([0.0, 0.0, 1.0])) == (0.0, 1.0)


def test_the_bootstrap_of_many_videos_is_near_the_normal_interval():
    values_V = np.repeat([0.0, 0.2, 1.0], [200, 300, 500])
    reach = 1.96 * values_V.std() / math.sqrt(1000)
    assert interval_of_test_set(values_V) == pytest.approx(
        (values_V.mean() - reach, values_V.mean() + reach), abs=0.002
    )
    assert interval_of_test_set(np.random.default_rng(0).permutation(values_V)) == interval_of_test_set(
        values_V
    )


def test_the_bootstrap_of_a_mean_over_classes_draws_each_class_by_itself():
    """Two classes, one of four videos and one of a single: half of their binomial, and half that stays."""
    values_V, classes_V = np.array([1.0, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 3])
    # Of four draws 1 or fewer are right in 5.1 % of all cases, none in 0.4 %, and all in 32 %.
    assert interval_of_test_set(values_V, classes_V) == ((0.25 + 1) / 2, (1 + 1) / 2)
    same_V = np.repeat([0, 1], 50)
    right_V = np.tile([0.0, 1.0], 50)
    reach = 1.96 * 0.5 / math.sqrt(100)
    found = interval_of_test_set(right_V, same_V)
    assert found == pytest.approx((0.5 - reach, 0.5 + reach), abs=0.01)


@pytest.mark.parametrize("classes_V", [None, np.array([0, 0, 0, 1, 1, 1, 2])])
def test_equal_videos_say_nothing_of_others(classes_V):
    for value in (0.0, 2 / 3, 1.0):
        assert interval_of_test_set(np.full(7, value), classes_V) is None


@pytest.mark.parametrize(("share", "total"), [(0.763, 3783), (0.5, 10), (0.0, 20), (1.0, 20)])
def test_both_ends_of_a_share_solve_wilsons_equation(share, total):
    z = NormalDist().inv_cdf(0.975)
    for end in interval_of_share(share, total):
        assert (share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / total, abs=1e-12)


def test_a_published_number_on_ucf101_is_open_by_more_than_a_point():
    low, high = interval_of_share(0.763, 3783)
    assert (100 * low, 100 * high) == pytest.approx((74.92, 77.63), abs=0.01)


def test_intervals_meet_where_they_share_a_number():
    assert Interval(0, 1).meets(Interval(1, 2))
    assert Interval(0, 3).meets(Interval(1, 2))
    assert not Interval(0, 1).meets(Interval(1.1, 2))
    assert not Interval(1.1, 2).meets(Interval(0, 1))
