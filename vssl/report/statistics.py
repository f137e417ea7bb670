"""What a few seeds and some test videos can tell: intervals, a paired test, and the least that it sees.

Numbers in, numbers out; all intervals are two-sided and of 95 %. Student's t takes the seeds as a sample of
all seeds and their results as normal, which a few of them cannot show to be wrong; a test without that
assumption cannot reach p < 0.05 with five pairs (2 / 2^5 = 0.06). scipy is imported late: it takes as long as
all else that a report of few stages does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""Share of true nulls that a test rejects; an interval leaves this share out."""

POWER = 0.8
"""How often a test finds a difference that it is said to see (Cohen 1988, section 2.4: the convention)."""

RESAMPLES = 10_000
"""Of the bootstrap (Efron & Tibshirani 1993, section 14.3, ask for 1,000 and more)."""


class Interval(NamedTuple):
    """Where a number lies, with both ends."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def meets(self, other: Interval) -> bool:
        """Whether both have a number in common."""
        return self.low <= other.high and other.low <= self.high


def standard_error(values: Sequence[float]) -> float | None:
    """Sample standard deviation by sqrt(n): of the mean. None for fewer than two values, and for values that
    do not differ, but for the last digits: they say nothing of how far others lie."""
    if len(values) < 2 or (found := stdev(values)) <= 1e-9 * max(map(abs, values)):
        return None
    return found / math.sqrt(len(values))


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """mean ± t(0.975; n - 1) s / sqrt(n) (Student 1908); None without a standard error."""
    from scipy import special

    if (error := standard_error(values)) is None:
        return None
    reach = float(special.stdtrit(len(values) - 1, 1 - LEVEL / 2)) * error
    return Interval(mean(values) - reach, mean(values) + reach)


def paired_p(differences: Sequence[float]) -> float | None:
    """p value of the paired t test, two-sided: t = mean(d) sqrt(n) / s on n - 1 degrees of freedom; None
    without a standard error."""
    from scipy import special

    if (error := standard_error(differences)) is None:
        return None
    return float(2 * special.stdtr(len(differences) - 1, -abs(mean(differences)) / error))


def detectable(differences: Sequence[float], level: float = LEVEL) -> float | None:
    """The least difference that the paired t test finds in `POWER` of all cases, with as many pairs and the
    standard deviation of these: P(T > t(1 - level / 2)) = POWER, T noncentral t (Cohen 1988, section 2.3; a
    finding with the wrong sign does not count). None without a standard error."""
    from scipy import special

    if (error := standard_error(differences)) is None:
        return None
    freedom = len(differences) - 1
    critical = special.stdtrit(freedom, 1 - level / 2)
    return float(special.nctdtrinc(freedom, 1 - POWER, critical)) * error


def holm(p_values: Sequence[float]) -> list[float]:
    """p values that are fit to be compared with one level, in the same order: the k-th smallest of m times
    m - k + 1, never less than one before it (Holm 1979)."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def interval_of_test_set(
    values_V: NDArray[np.float64], classes_V: NDArray[np.int64] | None = None
) -> Interval | None:
    """Percentile bootstrap of the mean over test videos, drawn with replacement (Efron & Tibshirani 1993,
    section 13.3), always with the same random numbers; None if videos do not differ (none is right, or each).

    With classes it is that of the mean over classes: as many videos are drawn of each class as it has.
    Videos are taken as independent. Those of one group or subject are not: then it is too narrow.
    A draw of videos is drawn as how often each distinct value comes up, which is the same and takes no time.
    """
    rng = np.random.default_rng(0)
    label_V = np.zeros(len(values_V), np.int64) if classes_V is None else classes_V
    parts = [values_V[label_V == label] for label in np.unique(label_V)]
    means_R = np.mean([_resampled(part_V, rng) for part_V in parts], axis=0)
    if np.ptp(means_R) == 0:
        return None
    low, high = np.quantile(means_R, [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(low), float(high))


def _resampled(values_V: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means [RESAMPLES] of as many values, drawn with replacement."""
    distinct_N, counts_N = np.unique(values_V, return_counts=True)
    total = len(values_V)
    drawn_RN = rng.multinomial(total, counts_N / total, size=RESAMPLES)
    return np.asarray(drawn_RN @ distinct_N / total)


def interval_of_share(share: float, total: int) -> Interval:
    """What a share of `total` videos, measured once, leaves open (Wilson 1927): all p for which
    |share - p| <= z sqrt(p (1 - p) / total)."""
    from scipy import special

    z = float(special.ndtri(1 - LEVEL / 2))
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    reach = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return Interval(centre - reach, centre + reach)
