"""CEP: frames by hand, the three losses against the authors' formulas, the order of events."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import PROGRESS
from objectives import objective_of, random_clips
from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError
from vssl.pretext.cep import CEP, CEPSampler, predictions, some_frames


def task(**changes):
    settings = {
        "sampler": CEPSampler(4, "loop"),
        "embedding_dim": 5,
        "predictor_hidden": 7,
        "queue_size": 10,
        "momentum": 0.9,
        "temperature": 0.07,
        "appearance_weight": 1.0,
        "prediction_weight": 1.0,
        "cycle_weight": 0.1,
        "key_init": "random",
    }
    return CEP(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(seed=0, size=4):
    return random_clips(size, 2, 12, seed=seed)


@pytest.mark.parametrize(("num_frames", "starts"), [(50, {0, 1, 2}), (48, {0}), (20, {0})])
def test_the_window_is_three_clips_in_a_row_and_both_rows_are_the_same(num_frames, starts):
    plans = [CEPSampler(16, "loop").plan(num_frames, np.random.default_rng(n)) for n in range(40)]
    assert {plan.frames_KT[0, 0] for plan in plans} == starts
    for plan in plans:
        first = plan.frames_KT[0, 0]
        expected = [(first + t) % num_frames for t in range(48)]
        assert plan.frames_KT.tolist() == [expected, expected]
        assert plan.targets == {}


def test_the_pair_of_auxskd_is_two_clips_of_the_backbones_length():
    pairs = [CEPSampler(16, "loop").pair(40, np.random.default_rng(n), True).frames_KT for n in range(50)]
    assert {pair.shape for pair in pairs} == {(2, 16)}
    assert len({(pair[0, 0], pair[1, 0]) for pair in pairs}) > 30


def test_a_third_of_the_frames_in_order_the_same_for_the_batch():
    frames = torch.arange(12.0).view(1, 1, 12, 1, 1).expand(2, 3, 12, 2, 2)
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        chosen = some_frames(frames)
        assert chosen.shape == (2, 3, 4, 2, 2)
        numbers = chosen[0, 0, :, 0, 0].tolist()
        assert numbers == sorted(set(numbers))
        assert (chosen == chosen[:1, :1, :, :1, :1]).all()
        drawn.add(tuple(numbers))
    assert len(drawn) > 10


def released_losses(net, data, seed):
    """Appearance, CL and CC with the terms written out, as the released code sums them."""
    q, k = data["clips"].unbind(1)
    torch.manual_seed(seed)
    frames = torch.randperm(12)[:4].sort().values
    backbone, heads = net.backbone, net.heads
    past, current, future = q[:, :, :4], q[:, :, 4:8], q[:, :, 8:]
    features = [backbone(clip) for clip in (past, current, future)]
    a_p, a_c, a_f = (F.normalize(heads.appearance.layer(one)) for one in features)
    c_p, c_c, c_f = (F.normalize(heads.cycle.layer(one)) for one in features)
    with torch.no_grad():
        key_backbone, key_heads = net.key_encoder.network
        k_a = F.normalize(key_heads.appearance.layer(key_backbone(k[:, :, frames])))
        k_p, k_c, k_f = (
            F.normalize(key_heads.cycle.layer(key_backbone(clip))) for clip in (past, current, future)
        )
    queue = net.queue.keys.T
    positives = torch.stack([(one * k_a).sum(1) for one in (a_p, a_c, a_f)], dim=1)
    logits = torch.cat([positives, a_p @ queue, a_c @ queue, a_f @ queue], dim=1) / net.task.temperature
    appearance = -logits.log_softmax(dim=1)[:, :3].sum(dim=1).mean()

    def d(u, v):
        return (2 - 2 * (F.normalize(u) * F.normalize(v)).sum(1)).mean()

    fwd, bwd = net.forwards, net.backwards
    link = d(bwd(c_c), k_p) + d(bwd(bwd(c_f)), k_p) + d(fwd(c_p), k_c) + d(bwd(c_f), k_c)
    link = link + d(fwd(c_c), k_f) + d(fwd(fwd(c_p)), k_f)
    cycle = d(bwd(fwd(c_p)), k_p) + d(bwd(bwd(fwd(fwd(c_p)))), k_p) + d(bwd(fwd(c_c)), k_c)
    cycle = cycle + d(fwd(bwd(c_c)), k_c) + d(fwd(bwd(c_f)), k_f) + d(fwd(fwd(bwd(bwd(c_f)))), k_f)
    return appearance, link / 6, cycle / 6


@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.1), (0.5, 0.0, 2.0)])
def test_loss_and_gradient_are_those_of_the_released_code(weights):
    names = ("appearance_weight", "prediction_weight", "cycle_weight")
    net, data = objective(**dict(zip(names, weights, strict=True))), batch()
    expected = released_losses(net, data, seed=3)
    torch.manual_seed(3)
    loss, metrics = net(data)
    found = [metrics[f"{name}_loss"] for name in ("appearance", "prediction", "cycle")]
    torch.testing.assert_close(found, [one.detach() for one in expected])
    whole = sum(weight * one for weight, one in zip(weights, expected, strict=True))
    trained = [p for p in net.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(one, trained, materialize_grads=True) for one in (loss, whole))
    torch.testing.assert_close(ours, theirs)


def test_predictions_worked_by_hand():
    """Time is a quarter turn: one that knows it is always right, one that stays is right after a cycle
    only."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    past = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    thirds = [past, past @ turn, past @ turn @ turn]
    along, around = predictions(thirds, thirds, lambda x: x @ turn, lambda x: x @ turn.T)
    assert (float(along), float(around)) == (0, 0)
    along, around = predictions(thirds, thirds, nn.Identity(), nn.Identity())
    # Quarter turns are 2 away, half turns 4: two of the six predictions go two steps.
    assert float(along) == pytest.approx((4 * 2 + 2 * 4) / 6)
    assert float(around) == 0


def test_sizes_are_the_published_ones():
    net = task(embedding_dim=2048, predictor_hidden=4096).objective(Tiny([512]))
    assert sum(p.numel() for p in net.forwards.parameters()) == 16_791_552
    heads = 2 * (512 * 512 + 512 + 512 * 2048 + 2048) + 2 * 512
    assert sum(p.numel() for p in net.heads.parameters()) == heads


def test_keys_of_appearance_join_the_queue_after_the_step_and_the_key_encoder_follows():
    net, data = objective(), batch()
    before = copy.deepcopy(net.key_encoder.network.state_dict())
    torch.manual_seed(3)
    with torch.no_grad():
        keys = net.key_encoder(some_frames(data["clips"][:, 1]))[:, :5]
    torch.manual_seed(3)
    net(data).loss.backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    assert net.queue.pointer == 0
    net.after_step(PROGRESS)
    torch.testing.assert_close(net.queue.keys[:4], keys)
    for name, value in dict(nn.Sequential(net.backbone, net.heads).named_parameters()).items():
        found = net.key_encoder.network.state_dict()[name]
        torch.testing.assert_close(found, 0.9 * before[name] + 0.1 * value)


def test_a_queue_that_is_too_small():
    with pytest.raises(OptionError, match=r"^queue_size=10: cannot hold the keys of a batch of 12"):
        task().check(batch_size=12, drop_last=True)
