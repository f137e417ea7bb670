"""VCOP: tuples and labels worked by hand, the head and the loss against the formula."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.pretext.vcop import VCOP, VCOPSampler

CLASS_OF_ORDER = {"012": 0, "021": 1, "102": 2, "120": 3, "201": 4, "210": 5}


def sampler(**changes):
    return VCOPSampler(**{"num_clips": 3, "num_frames": 16, "gap": 8, **changes})


def plans(one, num_frames, count):
    rng = np.random.default_rng(0)
    return [one.plan(num_frames, rng) for _ in range(count)]


def test_the_published_tuple_needs_64_frames():
    assert sampler().min_frames == 64
    assert sampler(num_clips=4, num_frames=5, gap=2).min_frames == 26
    assert sampler(gap=0).min_frames == 48


def test_a_tuple_that_fits_exactly():
    """Without a choice of the start, the target alone says what is shown, by the table of the classes."""
    clips = [list(range(16)), list(range(24, 40)), list(range(48, 64))]
    orders = {target: order for order, target in CLASS_OF_ORDER.items()}
    for plan in plans(sampler(), 64, 100):
        order = orders[plan.targets["order"]]
        assert plan.frames_KT.tolist() == [clips[int(rank)] for rank in order]
        assert plan.frames_KT.dtype == np.int64


def test_small_tuples_by_hand():
    """Two clips of two frames, one frame between them, in a video with room for two starts."""
    seen = {
        (plan.targets["order"], str(plan.frames_KT.tolist()))
        for plan in plans(sampler(num_clips=2, num_frames=2, gap=1), 6, 100)
    }
    assert seen == {
        (0, "[[0, 1], [3, 4]]"),
        (0, "[[1, 2], [4, 5]]"),
        (1, "[[3, 4], [0, 1]]"),
        (1, "[[4, 5], [1, 2]]"),
    }


def test_starts_and_orders_are_uniform():
    drawn = plans(sampler(), 70, 2100)
    starts = Counter(int(plan.frames_KT.min()) for plan in drawn)
    assert sorted(starts) == list(range(7))
    assert min(starts.values()) > 0.8 * 2100 / 7
    orders = Counter(plan.targets["order"] for plan in drawn)
    assert sorted(orders) == list(range(6))
    assert min(orders.values()) > 0.8 * 2100 / 6


@pytest.mark.parametrize("num_clips", [2, 3, 4, 5])
def test_any_number_of_clips_has_all_its_orders_as_classes(num_clips):
    one = sampler(num_clips=num_clips, num_frames=1, gap=0)
    assert one.classes == {"order": math.factorial(num_clips)}
    lexicographic = sorted(permutations(range(num_clips)))
    for plan in plans(one, num_clips, 50):
        assert tuple(plan.frames_KT[:, 0]) == lexicographic[plan.targets["order"]]


def test_a_pair_is_two_clips_of_one_tuple_in_either_order():
    clips = [list(range(16)), list(range(24, 40)), list(range(48, 64))]
    pairs = set()
    for seed in range(100):
        for distinct in (True, False):
            plan = sampler().pair(64, np.random.default_rng(seed), distinct)
            assert plan.targets == {}
            pairs.add(tuple(clips.index(clip) for clip in plan.frames_KT.tolist()))
    assert pairs == set(permutations(range(3), 2))


def test_pairs_lie_anywhere_in_the_video():
    starts = {
        sampler().pair(66, np.random.default_rng(seed), True).frames_KT[0, 0] % 24 for seed in range(50)
    }
    assert starts == {0, 1, 2}


@pytest.mark.parametrize("change", ["num_clips=1", "num_frames=0", "gap=-1"])
def test_what_cannot_be_sampled(change):
    name, value = change.split("=")
    with pytest.raises(VsslError, match=f"^{change}: (too small|out of range)"):
        sampler(**{name: int(value)})


def objective(num_clips=3, widths=(4, 6), pair_dim=5, dropout=0.0):
    torch.manual_seed(0)
    task = VCOP(sampler(num_clips=num_clips), pair_dim, dropout)
    return task.objective(Tiny(list(widths))).double()


def batch(num_clips=3, orders=(0, 5, 2, 3, 1)):
    size = (len(orders), num_clips, 3, 16, 8, 8)
    clips = torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return {"clips": clips, "order": torch.tensor(orders)}


def scores(net, features, pairs):
    """relu(W [f_i, f_j] + b) of each pair, all of them side by side into the last layer."""
    first, last = net.head.pair, net.head.order
    hidden = [
        (torch.cat([features[i], features[j]], dim=1) @ first.weight.T + first.bias).clamp(min=0)
        for i, j in pairs
    ]
    return torch.cat(hidden, dim=1) @ last.weight.T + last.bias


@pytest.mark.parametrize(
    ("num_clips", "pairs"),
    [(2, [(0, 1)]), (3, [(0, 1), (0, 2), (1, 2)]), (4, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])],
)
def test_loss_and_gradient_follow_the_formula(num_clips, pairs):
    net, data = objective(num_clips), batch(num_clips, orders=(0, 1, 1, 0))
    features = [net.backbone(data["clips"][:, k]) for k in range(num_clips)]
    exponentials = scores(net, features, pairs).exp()
    shares = exponentials[range(4), data["order"]] / exponentials.sum(dim=1)
    expected = -shares.log().mean()
    loss = net(data).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(value, list(net.parameters())) for value in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_accuracy_counts_the_right_answers():
    net = objective()
    with torch.no_grad():
        net.head.order.weight.zero_()
        net.head.order.bias.copy_(torch.eye(6)[3])
    assert net(batch(orders=(3, 3, 0, 1, 3))).metrics["order_accuracy"] == pytest.approx(3 / 5)


def test_every_position_is_normalised_by_itself():
    """Other clips at the third position leave the features of the first two alone, and BatchNorm counts 3."""
    net, data = objective(), batch()
    seen = []
    net.backbone.register_forward_hook(lambda module, args, output: seen.append(output))
    net(data)
    data["clips"][:, 2] *= 100
    net(data)
    assert len(seen) == 6
    torch.testing.assert_close(seen[:2], seen[3:5], rtol=0, atol=0)
    assert net.backbone.layers[0][1].num_batches_tracked == 6


def test_the_head_has_the_published_size():
    head = objective(widths=(512,), pair_dim=512, dropout=0.5).head
    assert sum(p.numel() for p in head.parameters()) == 534_022


def test_dropout_falls_on_the_features_of_the_pairs_in_training_only():
    net, data = objective(pair_dim=200, dropout=0.5), batch()
    inputs = []
    net.head.order.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    torch.manual_seed(7)
    net(data)
    torch.manual_seed(7)
    net(data)
    net.eval()(data)
    torch.testing.assert_close(inputs[0], inputs[1], rtol=0, atol=0)
    dropped, zero_anyway = ((one == 0).double().mean().item() for one in (inputs[0], inputs[2]))
    assert dropped == pytest.approx(0.5 + zero_anyway / 2, abs=0.05)


def test_training_starts_at_chance():
    net = objective(widths=(8, 16), pair_dim=512, dropout=0.5)
    assert net(batch(orders=range(6))).loss.item() == pytest.approx(math.log(6), abs=0.1)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_that_is_no_share(dropout):
    with pytest.raises(VsslError, match=f"dropout={dropout}"):
        VCOP(sampler(), 512, dropout)


def test_a_pair_needs_features():
    with pytest.raises(VsslError, match="pair_dim=0"):
        VCOP(sampler(), 0, 0.5)
