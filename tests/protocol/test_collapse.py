"""Signs of collapse, on features whose values can be worked out by hand."""

import math

import pytest
import torch

from vssl.protocol.collapse import effective_rank, feature_std, mean_cosine

AXES = torch.eye(4)
BOTH_WAYS = torch.cat([AXES, -AXES])
"""Eight unit vectors with mean 0; each dimension is 1, -1 and six times 0."""


def test_unit_vectors_in_all_directions():
    assert feature_std(3 * BOTH_WAYS) == pytest.approx(math.sqrt(2 / 8) * 2)  # 1: as even as can be
    # of 56 ordered pairs 8 are opposite, all others at right angles
    assert mean_cosine(3 * BOTH_WAYS) == pytest.approx(-8 / 56)
    assert effective_rank(3 * BOTH_WAYS) == pytest.approx(4)


def test_gaussian_noise_has_the_deviation_of_one():
    noise_VD = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0))
    assert feature_std(noise_VD) == pytest.approx(1, abs=0.02)
    assert mean_cosine(noise_VD) == pytest.approx(0, abs=0.01)
    assert 48 < effective_rank(noise_VD) <= 50


def test_three_vectors_by_hand():
    features_VD = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])  # units: .6 .8, 1 0, 0 1
    first = math.sqrt((0.36 + 1 + 0) / 3 - (1.6 / 3) ** 2)
    second = math.sqrt((0.64 + 0 + 1) / 3 - (1.8 / 3) ** 2)
    assert feature_std(features_VD) == pytest.approx((first + second) / 2 * math.sqrt(2), rel=1e-6)
    assert mean_cosine(features_VD) == pytest.approx((0.6 + 0.8 + 0) / 3, rel=1e-6)


def test_rank_counts_directions_by_their_share():
    """Along two axes with singular values 3 and 1 (shares 3/4 and 1/4), far from the origin."""
    features_VD = torch.zeros(4, 5, dtype=torch.float64)
    features_VD[0, 1], features_VD[1, 1] = 3, -3
    features_VD[2, 2], features_VD[3, 2] = 1, -1
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(features_VD + 7) == pytest.approx(math.exp(entropy))
    assert effective_rank(features_VD[:2] + 7) == pytest.approx(1)


def test_collapse_to_one_point_and_rounding_around_it():
    point_VD = torch.rand(1, 8, generator=torch.Generator().manual_seed(0)).expand(6, 8)
    rounded_VD = point_VD * (1 + 1e-8 * torch.randn(6, 8, dtype=torch.float64))
    for features_VD in (point_VD, rounded_VD):
        assert feature_std(features_VD) == pytest.approx(0, abs=1e-6)
        assert mean_cosine(features_VD) == pytest.approx(1)
        assert effective_rank(features_VD) == 0
    assert effective_rank(torch.zeros(6, 8)) == 0


def test_what_is_not_finite_has_no_rank():
    features_VD = BOTH_WAYS.clone()
    features_VD[0, 0] = math.inf
    assert math.isnan(effective_rank(features_VD))
    assert math.isnan(feature_std(features_VD))
