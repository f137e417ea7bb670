"""VCP: frames of every option by hand, pixels of the two spatial ones, and the loss."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError, VsslError
from vssl.pretext.vcp import OPTIONS, ORDERS, VCP, VCPSampler

SAMPLER = VCPSampler(num_clips=3, num_frames=16, gap=8, remote=16)


def plans(num_frames, count=600):
    rng = np.random.default_rng(0)
    return [SAMPLER.plan(num_frames, rng) for _ in range(count)]


@pytest.mark.parametrize(("num_frames", "options"), [(64, 4), (95, 4), (127, 5), (300, 5)])
def test_options_that_are_possible_are_equally_frequent(num_frames, options):
    counts = Counter(plan.targets["option"] for plan in plans(num_frames))
    assert set(counts) == set(range(options))
    assert min(counts.values()) > 0.7 * 600 / options


def test_a_remote_clip_takes_room_on_one_side():
    """Of 100 frames: the tuple may begin at 0 to 36, and a clip fits from 32 on before it, to 4 behind it."""
    remote = {plan.frames_KT[0, 0] for plan in plans(100, 3000) if plan.targets["option"] == 4}
    assert remote == {*range(5), *range(32, 37)}


def test_frames_of_every_option():
    seen = set()
    for plan in plans(160):
        first, middle, last = plan.frames_KT
        start, option = first[0], OPTIONS[plan.targets["option"]]
        own = np.arange(start + 24, start + 40)
        assert first.tolist() == list(range(start, start + 16))
        assert last.tolist() == list(range(start + 48, start + 64))
        if option in ("same", "rotated", "blocks"):
            assert middle.tolist() == own.tolist()
        elif option == "chunks":
            assert sorted(middle) == own.tolist()
            moved = [n for n in range(4) if middle[4 * n] != own[4 * n]]
            assert len(moved) == 2
            for n in range(4):
                assert (np.diff(middle[4 * n : 4 * n + 4]) == 1).all()
        else:
            assert (np.diff(middle) == 1).all()
            assert middle[-1] + 16 < start or middle[0] >= start + 64 + 16
        seen.add(option)
    assert seen == set(OPTIONS)


def test_pairs_are_two_clips_of_a_tuple_as_those_of_vcop():
    frames_KT = SAMPLER.pair(100, np.random.default_rng(0), True).frames_KT
    assert frames_KT.shape == (2, 16)
    assert abs(frames_KT[0, 0] - frames_KT[1, 0]) in (24, 48)


def expected_middle(clip_CTHW, option, angle, order):
    if OPTIONS[option] == "rotated":
        return clip_CTHW.rot90(angle + 1, (2, 3))
    if OPTIONS[option] == "blocks":
        half = clip_CTHW.shape[-1] // 2
        places = [(0, 0), (0, half), (half, 0), (half, half)]
        out = torch.empty_like(clip_CTHW)
        for (top, left), number in zip(places, ORDERS[order], strict=True):
            above, beside = places[number]
            block = clip_CTHW[:, :, above : above + half, beside : beside + half]
            out[:, :, top : top + half, left : left + half] = block
        return out
    return clip_CTHW


def test_pixels_and_loss():
    torch.manual_seed(0)
    net = VCP(SAMPLER).objective(Tiny([4, 6])).double().train()
    clips = torch.rand(10, 3, 3, 4, 8, 8, dtype=torch.float64)
    option, angle = torch.arange(10) % 5, torch.arange(10) % 3
    order = torch.arange(10) * 2 + 3
    numbers = zip(option.tolist(), angle.tolist(), order.tolist(), strict=True)
    middle = torch.stack([expected_middle(clips[b, 1], *drawn) for b, drawn in enumerate(numbers)])
    features = [net.backbone(clip) for clip in (clips[:, 0], middle, clips[:, 2])]
    logits = net.head(torch.cat(features, dim=1))
    loss, metrics = net({"clips": clips, "option": option, "angle": angle, "order": order})
    torch.testing.assert_close(loss, F.cross_entropy(logits, option))
    assert metrics["option_accuracy"] == (logits.argmax(1) == option).float().mean()


def test_orders_are_all_but_the_right_one():
    assert len(set(ORDERS)) == 23
    assert (0, 1, 2, 3) not in ORDERS


def test_what_cannot_be():
    settings = {"num_clips": 3, "num_frames": 16, "gap": 8, "remote": 16}
    with pytest.raises(OptionError, match=r"^num_clips=4: one in the middle and one on each side; say 3"):
        VCPSampler(**{**settings, "num_clips": 4})
    with pytest.raises(OptionError, match=r"^num_frames=18: cannot be cut into 4 equal parts; choose a "):
        VCPSampler(**{**settings, "num_frames": 18})
    with pytest.raises(VsslError, match=r"^VCP cannot cut frames of 7 pixels into equal blocks; choose an"):
        VCP(SAMPLER).check_backbone(Tiny([4, 6]).to("meta"), 7)
