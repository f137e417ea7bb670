"""SpeedNet: clips worked by hand, in long and in short videos, and the loss against its formula."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from vssl.auxiliary.auxskd import PairSampler
from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.pretext.speednet import SpeedNet, SpeedNetSampler


def sampler(num_frames=4, speedup=2, out_of_bounds="loop"):
    return SpeedNetSampler(num_frames, speedup, out_of_bounds)


def clips(one, num_frames, draws=400):
    """All clips that are drawn, for each target."""
    rng = np.random.default_rng(0)
    found = defaultdict(set)
    for _ in range(draws):
        plan = one.plan(num_frames, rng)
        [clip] = plan.frames_KT.tolist()
        found[plan.targets["speed"]].add(tuple(clip))
    return dict(found)


def test_clips_of_16_frames():
    found = clips(sampler(16), 300, draws=5)
    for clip in found[0]:
        assert clip == tuple(range(clip[0], clip[0] + 16))
    for clip in found[1]:
        assert clip == tuple(range(clip[0], clip[0] + 31, 2))


def test_a_window_that_fits_exactly():
    """Four frames at double speed take seven; the natural clip may lie anywhere in them."""
    assert clips(sampler(), 7) == {
        0: {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)},
        1: {(0, 2, 4, 6)},
    }


def test_a_longer_video():
    assert clips(sampler(), 9) == {
        0: {(k, k + 1, k + 2, k + 3) for k in range(6)},
        1: {(0, 2, 4, 6), (1, 3, 5, 7), (2, 4, 6, 8)},
    }


@pytest.mark.parametrize(
    ("num_frames", "out_of_bounds", "natural", "fast"),
    [
        (6, "loop", {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}, {(0, 2, 4, 0)}),
        (6, "repeat_last", {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}, {(0, 2, 4, 5)}),
        (4, "loop", {(0, 1, 2, 3)}, {(0, 2, 0, 2)}),
        (3, "loop", {(0, 1, 2, 0)}, {(0, 2, 1, 0)}),
        (3, "repeat_last", {(0, 1, 2, 2)}, {(0, 2, 2, 2)}),
        (1, "loop", {(0, 0, 0, 0)}, {(0, 0, 0, 0)}),
        (1, "repeat_last", {(0, 0, 0, 0)}, {(0, 0, 0, 0)}),
    ],
)
def test_short_videos(num_frames, out_of_bounds, natural, fast):
    assert clips(sampler(out_of_bounds=out_of_bounds), num_frames) == {0: natural, 1: fast}


def test_another_speed():
    assert clips(sampler(3, speedup=3), 7)[1] == {(0, 3, 6)}


def test_the_two_speeds_are_as_frequent_and_lie_in_the_same_places():
    rng = np.random.default_rng(0)
    plans = [sampler().plan(30, rng) for _ in range(4000)]
    fast = np.array([plan.targets["speed"] for plan in plans], bool)
    assert fast.mean() == pytest.approx(0.5, abs=0.03)
    middles = np.array([plan.frames_KT.mean() for plan in plans])
    assert middles[fast].mean() == pytest.approx(middles[~fast].mean(), abs=0.7)


def test_a_distinct_pair_holds_both_speeds():
    for seed in range(20):
        pair = PairSampler(sampler(), distinct=True).plan(300, np.random.default_rng(seed))
        assert sorted(np.diff(pair.frames_KT)[:, 0].tolist()) == [1, 2]


def test_plan_and_target_agree_in_type():
    plan = sampler().plan(300, np.random.default_rng(0))
    assert plan.frames_KT.dtype == np.int64
    assert plan.frames_KT.shape == (1, 4)
    assert sampler().classes == {"speed": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_frames": 1}, "num_frames=1: too small"), ({"speedup": 1}, "speedup=1: too small")],
)
def test_what_cannot_be_told_apart(changes, message):
    with pytest.raises(VsslError, match=message):
        sampler(**changes)


def objective():
    torch.manual_seed(0)
    return SpeedNet(sampler()).objective(Tiny([4, 6])).double()


def batch(speeds):
    size = (len(speeds), 1, 3, 8, 8, 8)
    clips = torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return {"clips": clips, "speed": torch.tensor(speeds)}


def test_loss_and_gradient_follow_the_formula():
    """-(y ln p + (1 - y) ln(1 - p)) with p = 1 / (1 + exp(-logit)), mean over the batch."""
    net, data = objective(), batch((1, 0, 0, 1, 1))
    logits = (net.backbone(data["clips"][:, 0]) @ net.head.weight.T + net.head.bias).flatten()
    faster = 1 / (1 + (-logits).exp())
    expected = -torch.where(data["speed"] == 1, faster, 1 - faster).log().mean()
    loss = net(data).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(value, list(net.parameters())) for value in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("bias", "accuracy"), [(1.0, 3 / 4), (-1.0, 1 / 4)])
def test_accuracy_counts_the_right_answers(bias, accuracy):
    net = objective()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.fill_(bias)
    assert net(batch((1, 1, 0, 1))).metrics["speed_accuracy"] == pytest.approx(accuracy)


def test_training_starts_at_chance_with_one_logit():
    net = objective()
    assert sum(p.numel() for p in net.head.parameters()) == 6 + 1
    assert net(batch((0, 1) * 5)).loss.item() == pytest.approx(math.log(2), abs=0.1)
