"""PRP: frames by hand, the mask and both losses against the authors' formulas, sizes."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError, VsslError
from vssl.pretext.prp import PRP, PRPSampler, motion_weights

SAMPLER = PRPSampler(16, 4)


@pytest.mark.parametrize(("num_frames", "rates"), [(16, 1), (31, 1), (32, 2), (127, 3), (128, 4), (400, 4)])
def test_rates_that_a_video_is_long_enough_for_are_equally_frequent(num_frames, rates):
    rng = np.random.default_rng(0)
    counts = Counter(SAMPLER.plan(num_frames, rng).targets["rate"] for _ in range(400))
    assert set(counts) == set(range(rates))
    assert min(counts.values()) > 0.7 * 400 / rates


def test_frames_of_both_rows():
    rng, starts = np.random.default_rng(0), set()
    for _ in range(400):
        plan = SAMPLER.plan(130, rng)
        dense, motion = plan.frames_KT
        step, start = 2 ** plan.targets["rate"], dense[0]
        assert dense[::2].tolist() == [start + step * t for t in range(16)]
        between = 0 if step == 1 else step // 2
        assert dense[1::2].tolist() == [start + step * t + between for t in range(16)]
        shown = [start + 16 * piece + place for piece in range(step) for place in (0, 5, 10, 15)]
        assert motion.tolist() == shown + [shown[-1]] * (32 - len(shown))
        starts.add((step, start))
    assert {start for step, start in starts if step == 8} == {0, 1, 2}


def test_pairs_are_clips_of_the_backbones_length_at_different_rates_if_asked_to():
    for distinct in (True, False):
        rates = set()
        for seed in range(60):
            frames_KT = SAMPLER.pair(130, np.random.default_rng(seed), distinct).frames_KT
            assert frames_KT.shape == (2, 16)
            rates.add(tuple(np.diff(frames_KT)[:, 0].tolist()))
        assert all(one != two for one, two in rates) == distinct
        assert {one for one, _ in rates} == {1, 2, 4, 8}
    assert SAMPLER.pair(20, np.random.default_rng(0), True).frames_KT.shape == (2, 16)


def released_mask(frames_C4THW):
    """The mask of one piece of 16 frames, of which these are numbers 0, 5, 10 and 15."""
    squares = (frames_C4THW[:, 1:] - frames_C4THW[:, :-1]) ** 2
    if squares.sum() == 0:
        return None
    pooled = F.avg_pool3d(squares[None], (3, 28, 28), (3, 7, 7))[0]
    assert pooled.shape == (3, 1, 13, 13)
    for channel in pooled:
        low, high = channel.min(), channel.max()
        channel.copy_((channel - low + 1e-6) / (high - low + 1e-6) * 1.2 + 0.8)
    return pooled


@pytest.mark.parametrize("rate", [0, 1, 3])
def test_the_mask_is_that_of_the_released_code(rate):
    torch.manual_seed(0)
    pieces = 2**rate
    rows = torch.rand(2, 3, 32, 112, 112)
    rows[0, :, :4] = rows[0, :, :1]  # a piece without any change
    rows[1, 2, :4] = rows[1, 2, :1]  # a channel without one
    weights = motion_weights(rows, torch.tensor([rate, rate]), SAMPLER)
    assert weights.shape == rows.shape
    for b, piece in ((b, p) for b in range(2) for p in range(pieces)):
        found = weights[b, :, piece * 32 // pieces : (piece + 1) * 32 // pieces]
        mask = released_mask(rows[b, :, 4 * piece : 4 * piece + 4])
        if mask is None:
            assert (found == 1).all()
        else:
            expected = F.interpolate(mask[None], (32 // pieces, 112, 112), mode="trilinear")[0]
            torch.testing.assert_close(found, expected)
    assert (weights[1, 2, : 32 // pieces] == 2).all()


def test_each_sample_has_the_mask_of_its_own_rate():
    rows = torch.rand(2, 3, 32, 32, 32)
    both = motion_weights(rows, torch.tensor([0, 2]), SAMPLER)
    for b, rate in enumerate((0, 2)):
        alone = motion_weights(rows, torch.tensor([rate, rate]), SAMPLER)
        assert torch.equal(both[b], alone[b])


def test_loss_and_gradient_are_those_of_the_released_code():
    torch.manual_seed(0)
    net = PRP(SAMPLER, 2.0, 0.1).objective(Tiny([4, 4, 8, 16])).train()
    clips, rate = torch.rand(4, 2, 3, 32, 32, 32), torch.tensor([0, 1, 2, 3])
    features = net.backbone.feature_map(clips[:, 0, :, ::2])
    drawn = net.decode(features)
    weights = motion_weights(clips[:, 1], rate, SAMPLER)
    per_video = []
    for b in range(4):
        counted = slice(None, None, 2 if rate[b] == 0 else 1)
        squares = weights[b] * (drawn[b] - clips[b, 0]) ** 2
        per_video.append(squares[:, counted].mean())
    logits = net.rate(net.classify(features).mean((2, 3, 4)))
    expected = 2 * sum(per_video) / 4 + 0.1 * F.cross_entropy(logits, rate)
    loss, metrics = net({"clips": clips, "rate": rate})
    torch.testing.assert_close(loss, expected)
    assert metrics["rate_accuracy"] == (logits.argmax(1) == rate).float().mean()
    trained = list(net.parameters())
    ours, theirs = (torch.autograd.grad(one, trained) for one in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_heads_have_the_published_size():
    with torch.device("meta"):
        net = PRP(SAMPLER, 1.0, 0.1).objective(Tiny([512]))
    heads = sum(p.numel() for part in (net.classify, net.rate, net.decode) for p in part.parameters())
    assert heads == 21_598_541


def test_a_backbone_whose_maps_do_not_fit():
    with pytest.raises(VsslError, match=r"^PRP draws \(128, 128, 128\) from the maps of Tiny, not \(32,"):
        PRP(SAMPLER, 1.0, 0.1).check_backbone(Tiny([4, 16]).to("meta"), 32)


def test_frames_of_the_longest_window_have_to_fit_into_a_row():
    assert PRPSampler(16, 4)
    with pytest.raises(OptionError, match=r"^num_rates=5: out of range; choose a number from 1 to 4"):
        PRPSampler(16, 5)


def test_pixels_are_not_negative():
    net = PRP(SAMPLER, 1.0, 0.1).objective(Tiny([4, 4, 8, 16]))
    assert isinstance(net.decode[-1][-1], nn.ReLU)
    assert math.isclose(net.decode(torch.randn(2, 16, 2, 2, 2)).min().item(), 0, abs_tol=1e-9)
