"""BYOL between clips: the loss against its formula, and that the target gets no gradient."""

import pytest
import torch
from torch.nn import functional as F

from objectives import (
    assert_follows,
    assert_same_loss_and_gradient,
    depends_on_length,
    objective_of,
    random_clips,
)
from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError
from vssl.pretext.byol import BYOL
from vssl.pretext.windows import Windows


def task(clips=2, **changes):
    settings = {
        "sampler": Windows(4, clips, 2, "independent", "loop"),
        "embedding_dim": 5,
        "head_hidden": 7,
        "momentum": 0.9,
        "momentum_end": 1.0,
        "key_init": "random",
    }
    return BYOL(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(clips=2, size=4):
    return random_clips(size, clips, 4)


@pytest.mark.parametrize("clips", [2, 3])
def test_loss_and_gradient_are_those_of_the_published_code_but_for_a_constant(clips):
    """There: the sum over clips of -mean cos / 0.5, where the mean is over the other clips; here 2 more
    each."""
    net, data = objective(clips=clips), batch(clips)
    predicted = [net.predictor(net.head(net.backbone(data["clips"][:, k]))) for k in range(clips)]
    with torch.no_grad():
        targets = [net.target.network(data["clips"][:, k]) for k in range(clips)]
    published = 0
    for own in range(clips):
        others = [other for other in range(clips) if other != own]
        cosines = [F.cosine_similarity(predicted[own], targets[other]).mean() for other in others]
        published = published - sum(cosines) / len(cosines) / 0.5
    assert_same_loss_and_gradient(net, net(data).loss, published + 2 * clips)
    assert all(not p.requires_grad for p in net.target.parameters())


def test_metrics_tell_collapse_from_health():
    net, data = objective(), batch()
    healthy = net(data).metrics
    assert healthy["spread"] > 0
    with torch.no_grad():
        net.predictor[-1].weight.zero_()
        net.target.network[1][-1].weight.zero_()
        net.target.network[1][-1].bias.copy_(net.predictor[-1].bias)
    collapsed = net(data).metrics
    assert collapsed["cosine"] == pytest.approx(1)
    assert collapsed["spread"] == pytest.approx(0, abs=1e-9)
    assert collapsed["pair_accuracy"] == 0


@pytest.mark.parametrize(("share", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_the_momentum_rises_along_a_cosine(share, momentum):
    net = objective()
    assert_follows(net, net.target, share, momentum)


def test_heads_have_the_published_size():
    net = task(head_hidden=4096, embedding_dim=256).objective(Tiny([2048]))
    assert sum(p.numel() for p in net.head.parameters()) == 2048 * 4096 + 4096 * 3 + 4096 * 256 + 256
    assert sum(p.numel() for p in net.predictor.parameters()) == 256 * 4096 + 4096 * 3 + 4096 * 256 + 256


@pytest.mark.parametrize(("end", "depends"), [(1.0, True), (0.9, False)])
def test_what_depends_on_the_length_and_what_cannot_be(end, depends):
    assert depends_on_length(objective(momentum_end=end)) == depends
    with pytest.raises(OptionError, match=r"^sampler\.num_clips=1: there is no other clip"):
        task(clips=1)
