"""ASCNet-style: which clips are compared, the losses against their formulas, the order of events."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import PROGRESS
from objectives import assert_follows, depends_on_length, objective_of, random_clips
from vssl.errors import OptionError
from vssl.pretext.ascnet_style import ASCNetStyle, most_alike
from vssl.pretext.rspnet import RSPNetSampler


def task(**changes):
    settings = {
        "sampler": RSPNetSampler(4, 2, 2, "loop"),
        "embedding_dim": 5,
        "projection_hidden": 9,
        "predictor_hidden": 7,
        "queue_size": 10,
        "momentum": 0.9,
        "momentum_end": 1.0,
        "appearance_weight": 1.0,
        "speed_weight": 1.0,
        "key_init": "random",
    }
    return ASCNetStyle(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(seed=0, size=4):
    return random_clips(size, 2, 8, seed=seed)


def played(data, seed):
    """Natural and fast clips, from windows that a coin has swapped."""
    torch.manual_seed(seed)
    first = (torch.rand(len(data["clips"])) < 0.5).tolist()
    natural = [video[0 if coin else 1][:, :4] for video, coin in zip(data["clips"], first, strict=True)]
    fast = [video[1 if coin else 0][:, ::2] for video, coin in zip(data["clips"], first, strict=True)]
    return torch.stack(natural), torch.stack(fast)


def d(one, other):
    return (2 - 2 * (F.normalize(one) * F.normalize(other)).sum(1)).mean()


def losses(net, data, seed):
    natural, fast = played(data, seed)
    both = torch.cat([natural, fast])  # which batch norm sees together
    features = net.backbone(both)
    looks = net.appearance(net.heads.appearance(features)).chunk(2)
    speeds = net.speed(net.heads.speed(features)).chunk(2)
    with torch.no_grad():
        backbone, heads = net.target.network
        target_looks = heads.appearance(backbone(both)).chunk(2)
    appearance = (d(looks[0], target_looks[1]) + d(looks[1], target_looks[0])) / 2
    speed = 0
    for n, memory in enumerate((net.natural.keys, net.fast.keys)):
        partners = []
        for look in target_looks[n]:
            cosines = [F.cosine_similarity(look, key[:5], dim=0).item() for key in memory]
            partners.append(memory[cosines.index(max(cosines)), 5:])
        speed = speed + d(speeds[n], torch.stack(partners)) / 2
    return appearance, speed


@pytest.mark.parametrize(("weight_A", "weight_S"), [(1.0, 1.0), (0.5, 3.0)])
def test_loss_and_gradient_are_those_of_the_formulas(weight_A, weight_S):
    net, data = objective(appearance_weight=weight_A, speed_weight=weight_S), batch()
    appearance, speed = losses(net, data, seed=3)
    torch.manual_seed(3)
    loss, metrics = net(data)
    torch.testing.assert_close(metrics["appearance_loss"], appearance.detach())
    torch.testing.assert_close(metrics["speed_loss"], speed.detach())
    trained = [p for p in net.parameters() if p.requires_grad]
    expected = weight_A * appearance + weight_S * speed
    ours, theirs = (torch.autograd.grad(one, trained, materialize_grads=True) for one in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_the_partner_is_the_most_alike_in_appearance():
    looks, speeds = torch.eye(3), torch.arange(6.0).view(3, 2)
    wanted = torch.tensor([[0.1, 0.2, 5.0], [1.0, 0.9, 0.0]])
    assert most_alike(wanted, looks * torch.tensor([[1.0], [2.0], [0.1]]), speeds).tolist() == [
        [4, 5],
        [0, 1],
    ]


def test_accuracies_worked_by_hand():
    """Predictions are what the heads say. Memories hold another appearance and, by speed, opposite speeds."""
    net = objective()
    net.appearance = net.speed = nn.Identity()
    net.target.network = Constant(torch.eye(5)[0])
    net.heads = Constant(torch.eye(5)[0])
    net.natural.keys.copy_(torch.cat([torch.eye(5)[1], torch.eye(5)[0]]).expand(10, -1))
    net.fast.keys.copy_(torch.cat([torch.eye(5)[1], torch.eye(5)[2]]).expand(10, -1))
    metrics = net(batch()).metrics
    assert metrics["appearance_accuracy"] == 0  # all videos look alike
    assert metrics["appearance_loss"] == 0
    assert metrics["speed_accuracy"] == 0.5  # all speeds look natural
    assert metrics["speed_loss"] == 1  # 0 for natural clips, 2 for fast ones
    assert metrics["spread"] == 0


class Constant(nn.Module):
    def __init__(self, vector):
        super().__init__()
        self.vector = nn.Parameter(torch.cat([vector, vector]).double(), requires_grad=True)

    def forward(self, features):
        return self.vector.expand(len(features), -1)


def test_keys_of_both_speeds_join_their_memory_after_the_step():
    net, data = objective(), batch()
    with torch.no_grad():
        parts = net.target(torch.cat(played(data, 3))).chunk(2, dim=1)
        keys = torch.cat([F.normalize(part) for part in parts], dim=1).chunk(2)
    torch.manual_seed(3)
    net(data)
    assert net.natural.pointer == net.fast.pointer == 0
    net.after_step(PROGRESS)
    torch.testing.assert_close(net.natural.keys[:4], keys[0])
    torch.testing.assert_close(net.fast.keys[:4], keys[1])


@pytest.mark.parametrize(("share", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_the_target_follows_ever_more_slowly(share, momentum):
    net = objective()
    assert_follows(net, net.target, share, momentum)


@pytest.mark.parametrize(("end", "depends"), [(1.0, True), (0.9, False)])
def test_only_a_momentum_that_changes_depends_on_the_length(end, depends):
    assert depends_on_length(objective(momentum_end=end)) == depends


def test_a_memory_that_is_too_small():
    with pytest.raises(OptionError, match=r"^queue_size=10: cannot hold the keys of a batch of 12"):
        task().check(batch_size=12, drop_last=True)
