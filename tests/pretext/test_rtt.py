"""RTT: the frames of each transformation by hand, and the loss against its formula."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vssl.backbone.tiny import Tiny
from vssl.pretext.rtt import RTT, RTTSampler

SAMPLER = RTTSampler(16, 4)


def plans(num_frames, count=500, sampler=SAMPLER):
    rng = np.random.default_rng(0)
    return [sampler.plan(num_frames, rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("num_frames", "speeds"), [(16, 1), (31, 1), (32, 2), (63, 2), (64, 3), (128, 4), (900, 4)]
)
def test_speeds_that_a_video_is_long_enough_for_are_equally_frequent(num_frames, speeds):
    counts = Counter(plan.targets["speed"] for plan in plans(num_frames))
    assert set(counts) == set(range(speeds))
    assert min(counts.values()) > 0.7 * 500 / speeds


@pytest.mark.parametrize("num_frames", [16, 40, 128, 130])
def test_the_first_clip_plays_at_the_speed(num_frames):
    starts = set()
    for plan in plans(num_frames):
        step = 2 ** plan.targets["speed"]
        assert (np.diff(plan.frames_KT[0]) == step).all()
        starts.add((step, plan.frames_KT[0, 0]))
    expected = {(s, n) for s in {s for s, _ in starts} for n in range(num_frames - 16 * s + 1)}
    assert starts <= expected
    assert {n for s, n in starts if s == max(s for s, _ in starts)} == {
        n for s, n in expected if s == max(s for s, _ in expected)
    }


@pytest.mark.parametrize("num_frames", [16, 40, 130])
def test_the_second_clip_goes_there_and_back_within_its_window(num_frames):
    turns = set()
    for plan in plans(num_frames):
        step, frames = 2 ** plan.targets["speed"], plan.frames_KT[1]
        steps = np.diff(frames)
        [turn] = np.flatnonzero(np.abs(steps) != step).tolist() or [None]
        first_back = np.flatnonzero(steps < 0)[0]
        assert (steps[: first_back - 1] == step).all()
        assert (steps[first_back:][1:] == -step).all()
        turns.add(int(first_back))
        assert frames.max() - frames.min() < 15 * step
        assert turn is None or 0 <= steps[turn] < step
    assert len(turns) > 5


def test_frames_there_and_back_by_hand():
    """At half the length: of 6 frames there and, one step later, 6 back, 8 in a row from the third on."""

    class Draws:
        def __init__(self, *values):
            self.values = list(values)

        def integers(self, *limits):
            return self.values.pop(0)

    frames = RTTSampler(8, 4)._back_and_forth(100, 2, Draws(1, 2, 50))
    assert frames.tolist() == [54, 56, 58, 60, 61, 59, 57, 55]
    frames = RTTSampler(8, 4)._back_and_forth(100, 1, Draws(0, 0, 0))
    assert frames.tolist() == [0, 1, 2, 3, 4, 5, 5, 4]


@pytest.mark.parametrize("num_frames", [16, 40])
def test_the_third_clip_is_successive_frames_in_any_order(num_frames):
    orders = set()
    for plan in plans(num_frames):
        frames = plan.frames_KT[2]
        assert sorted(frames) == list(range(min(frames), min(frames) + 16))
        orders.add(tuple(frames - min(frames)))
    assert len(orders) == 500


@pytest.mark.parametrize(("num_frames", "longest"), [(16, None), (63, None), (64, 4), (128, 8), (300, 8)])
def test_the_fourth_clip_is_warped(num_frames, longest):
    steps = np.concatenate([np.diff(plan.frames_KT[3]) for plan in plans(num_frames)])
    assert steps.min() >= 1
    if longest:
        assert set(steps) == set(range(1, longest + 1))
    reached = {frame for plan in plans(num_frames) for frame in plan.frames_KT[3]}
    assert max(reached) <= num_frames - 1


def test_the_loss_is_that_of_the_transformation_and_of_the_speed_of_the_first_two():
    torch.manual_seed(0)
    net = RTT(RTTSampler(4, 3)).objective(Tiny([4, 6])).double().train()
    clips = torch.rand(5, 4, 3, 4, 8, 8, dtype=torch.float64)
    speed = torch.tensor([0, 1, 2, 1, 0])
    logits = net.head(net.backbone(clips.view(20, 3, 4, 8, 8))).view(5, 4, 7)
    kinds = sum(F.cross_entropy(logits[:, k, :4], torch.full((5,), k)) for k in range(4)) / 4
    speeds = sum(F.cross_entropy(logits[:, k, 4:], speed) for k in range(2)) / 2
    loss, metrics = net({"clips": clips, "speed": speed})
    torch.testing.assert_close(loss, kinds + speeds)
    right = [(logits[:, k, :4].argmax(1) == k).double().mean() for k in range(4)]
    assert metrics["transformation_accuracy"] == pytest.approx(float(sum(right) / 4))
    right = [(logits[:, k, 4:].argmax(1) == speed).double().mean() for k in range(2)]
    assert metrics["speed_accuracy"] == pytest.approx(float(sum(right) / 2))


def test_the_pair_of_auxskd_is_two_of_the_four():
    for seed in range(30):
        pair = SAMPLER.pair(130, np.random.default_rng(seed), True)
        rng = np.random.default_rng(seed)
        one, two = rng.choice(4, size=2, replace=False)
        assert pair.frames_KT.tolist() == SAMPLER.plan(130, rng).frames_KT[[one, two]].tolist()
        assert one != two
