"""Shuffle & Learn and OPN: their classes against tables made by hand, the linear head against its formula."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.pretext.order import OPN, OPNSampler, ShuffleLearn, ShuffleLearnSampler

IN_ORDER = {"012": 1, "210": 1, "021": 0, "102": 0, "120": 0, "201": 0}
CLASS_UP_TO_REVERSAL = {
    "0123 3210": 0, "0132 2310": 1, "0213 3120": 2, "0231 1320": 3,
    "0312 2130": 4, "0321 1230": 5, "1023 3201": 6, "1032 2301": 7,
    "1203 3021": 8, "1302 2031": 9, "2013 3102": 10, "2103 3012": 11,
}  # fmt: skip


def drawn(sampler, count):
    """The orders shown and their targets, from a video that the tuple of one-frame clips fills."""
    rng = np.random.default_rng(0)
    plans = [sampler.plan(sampler.num_clips, rng) for _ in range(count)]
    return Counter(("".join(map(str, p.frames_KT[:, 0])), p.targets["order"]) for p in plans)


def test_shuffle_and_learn_verifies_the_order():
    counts = drawn(ShuffleLearnSampler(3, 1, 0), 2000)
    assert dict(counts) == {(order, IN_ORDER[order]): counts[order, IN_ORDER[order]] for order in IN_ORDER}
    for (_, target), count in counts.items():
        assert count == pytest.approx(2000 / (4 if target else 8), rel=0.2)


def test_opn_counts_an_order_and_its_reverse_as_one():
    counts = drawn(OPNSampler(4, 1, 0), 4800)
    expected = {(order, target) for both, target in CLASS_UP_TO_REVERSAL.items() for order in both.split()}
    assert set(counts) == expected
    assert len(expected) == 24
    for count in counts.values():
        assert count == pytest.approx(200, rel=0.3)


def test_numbers_of_classes():
    assert ShuffleLearnSampler(3, 16, 8).classes == {"order": 2}
    assert OPNSampler(4, 16, 8).classes == {"order": 12}


def test_the_frames_of_a_tuple_that_fits_exactly():
    """Four clips of two frames with one frame between them, in 11 frames."""
    one = OPNSampler(4, 2, 1)
    assert one.min_frames == 11
    assert OPNSampler(4, 16, 8).min_frames == 88
    frames_KT = one.plan(11, np.random.default_rng(0)).frames_KT
    assert sorted(frames_KT.tolist()) == [[0, 1], [3, 4], [6, 7], [9, 10]]


@pytest.mark.parametrize("kind", [ShuffleLearnSampler, OPNSampler])
def test_two_clips_are_always_in_order(kind):
    with pytest.raises(VsslError, match=r"num_clips=2: out of range; choose a number from 3 to 8$"):
        kind(2, 16, 8)


def batch(num_clips, orders):
    size = (len(orders), num_clips, 3, 8, 8, 8)
    clips = torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return {"clips": clips, "order": torch.tensor(orders)}


def shuffle_learn(widths=(4, 6)):
    torch.manual_seed(0)
    return ShuffleLearn(ShuffleLearnSampler(3, 8, 2)).objective(Tiny(list(widths))).double()


def test_shuffle_and_learn_has_one_linear_layer_on_all_features():
    net, data = shuffle_learn(), batch(3, (0, 1, 1, 0))
    layer = net.head[1]
    features = torch.cat([net.backbone(data["clips"][:, k]) for k in range(3)], dim=1)
    exponentials = (features @ layer.weight.T + layer.bias).exp()
    expected = -(exponentials[range(4), data["order"]] / exponentials.sum(dim=1)).log().mean()
    loss = net(data).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(value, list(net.parameters())) for value in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_sizes_of_the_heads():
    """Linear 3x512 -> 2; and per pair of four clips Linear 1024 -> 512, then 6x512 -> 12."""
    opn = OPN(OPNSampler(4, 16, 8), 512, 0.5).objective(Tiny([512])).head
    assert sum(p.numel() for p in shuffle_learn([512]).head.parameters()) == 3_074
    assert sum(p.numel() for p in opn.parameters()) == 524_800 + 36_876


def test_training_starts_at_chance():
    opn = OPN(OPNSampler(4, 8, 2), 512, 0.5).objective(Tiny([8, 16])).double()
    assert opn(batch(4, range(12))).loss.item() == pytest.approx(math.log(12), abs=0.1)
    assert shuffle_learn()(batch(3, (0, 1) * 6)).loss.item() == pytest.approx(math.log(2), abs=0.1)
