"""MoCo between clips: the loss against its formula, whose keys are whose, the queue, the momentum."""

import pytest
import torch
from torch.nn import functional as F

from conftest import PROGRESS
from objectives import (
    assert_follows,
    assert_same_loss_and_gradient,
    depends_on_length,
    objective_of,
    random_clips,
)
from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError
from vssl.pretext.moco import MoCo
from vssl.pretext.windows import Windows


def task(clips=2, **changes):
    settings = {
        "sampler": Windows(4, clips, 2, "independent", "loop"),
        "embedding_dim": 5,
        "head_layers": 3,
        "head_hidden": 7,
        "queue_size": 12,
        "temperature": 0.1,
        "momentum": 0.9,
        "momentum_end": 1.0,
        "key_init": "random",
        "shuffle_bn": False,
    }
    return MoCo(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(clips=2, size=4):
    return random_clips(size, clips, 4)


def head(layers, features):
    first, second, third = layers[0], layers[2], layers[4]
    return F.normalize(third(second(first(features).relu()).relu()))


@pytest.mark.parametrize("clips", [2, 3])
def test_loss_and_gradient_are_the_sum_over_queries_of_the_mean_over_keys(clips):
    net, data = objective(clips=clips), batch(clips)
    queries = [head(net.head.layer, net.backbone(data["clips"][:, k])) for k in range(clips)]
    with torch.no_grad():
        backbone, key_head = net.key_encoder.network
        keys = [head(key_head.layer, backbone(data["clips"][:, k])) for k in range(clips)]
    expected, hits = 0, []
    for own in range(clips):
        for other in set(range(clips)) - {own}:
            positive = (queries[own] * keys[other]).sum(1, keepdim=True)
            logits = torch.cat([positive, queries[own] @ net.queue.keys.T], dim=1) / 0.1
            expected = expected + F.cross_entropy(logits, torch.zeros(4, dtype=torch.long)) / (clips - 1)
            hits.append((logits.argmax(1) == 0).double())
    loss, metrics = net(data)
    assert_same_loss_and_gradient(net, loss, expected)
    assert metrics["key_accuracy"] == pytest.approx(torch.cat(hits).mean().item())


def test_keys_of_all_clips_join_the_queue():
    net, data = objective(clips=3), batch(3)
    with torch.no_grad():
        keys = torch.cat([net.key_encoder(data["clips"][:, k]) for k in range(3)])
    net(data)
    assert net.queue.pointer == 0
    net.after_step(PROGRESS)
    torch.testing.assert_close(net.queue.keys, keys)


@pytest.mark.parametrize(("share", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_the_momentum_rises_along_a_cosine(share, momentum):
    net = objective()
    assert_follows(net, net.key_encoder, share, momentum)


def test_the_head_has_the_published_size():
    net = task(head_hidden=2048, embedding_dim=128).objective(Tiny([2048]))
    sizes = [2048 * 2048 + 2048] * 2 + [2048 * 128 + 128]
    assert sum(p.numel() for p in net.head.parameters()) == sum(sizes)


def test_one_layer_is_linear():
    assert [name for name, _ in task(head_layers=1).objective(Tiny([6])).head.layer.named_parameters()] == [
        "0.weight",
        "0.bias",
    ]


@pytest.mark.parametrize(("end", "depends"), [(1.0, True), (0.9, False)])
def test_only_a_momentum_that_changes_depends_on_the_length(end, depends):
    assert depends_on_length(objective(momentum_end=end)) == depends


def test_what_cannot_be():
    with pytest.raises(
        OptionError, match=r"^sampler\.num_clips=1: there is no other clip .*; choose 2 or more"
    ):
        task(clips=1)
    with pytest.raises(OptionError, match=r"^queue_size=12: cannot hold the keys of a batch of 15"):
        task(clips=3).check(batch_size=5, drop_last=True)
