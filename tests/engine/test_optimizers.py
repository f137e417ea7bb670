"""Optimisers: formulas restated, and what has weight decay."""

import pytest
import torch
from torch import nn

from conftest import sgd
from vssl.engine.optimizers import LARS, AdamW
from vssl.errors import OptionError

COMMON = {"weight_decay": 0.1, "decay_norm_and_bias": True, "clip_norm": None}


def adamw(**changes):
    return AdamW(**{**COMMON, "lr": 0.01, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, **changes})


def lars(**changes):
    return LARS(**{**COMMON, "lr": 0.5, "momentum": 0.9, "trust": 0.001, **changes})


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), nn.Flatten(), nn.Linear(3, 4)).double()


def trained(optimizer, steps=3):
    """The parameters before, after each of the steps, and the gradients of each."""
    module, seen, gradients = net(), [], []
    built = optimizer.build(module.named_parameters())
    seen.append({name: p.detach().clone() for name, p in module.named_parameters()})
    for seed in range(steps):
        generator = torch.Generator().manual_seed(seed)
        clips = torch.rand(5, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
        built.zero_grad()
        module(clips).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in module.named_parameters()})
        built.step()
        seen.append({name: p.detach().clone() for name, p in module.named_parameters()})
    return seen, gradients


@pytest.mark.parametrize("make", [sgd, adamw, lars])
@pytest.mark.parametrize("everywhere", [True, False])
def test_norms_and_biases_decay_only_if_asked_to(make, everywhere):
    changes = {"lr": 0.5, "weight_decay": 0.1, "decay_norm_and_bias": everywhere}
    decayed, free = (trained(make(**{**changes, **more}), steps=1)[0] for more in ({}, {"weight_decay": 0.0}))
    different = {name for name in free[1] if not torch.equal(free[1][name], decayed[1][name])}
    weights = {"0.weight", "3.weight"}
    # The biases begin at what torch draws, and the bias of the norm at 0, which nothing shrinks.
    assert different == (weights | {"0.bias", "1.weight", "3.bias"} if everywhere else weights)


@pytest.mark.parametrize("everywhere", [True, False])
def test_lars_against_its_formula(everywhere):
    """SlowFast, models/optimizer.py."""
    seen, gradients = trained(lars(decay_norm_and_bias=everywhere))
    velocity = {name: torch.zeros_like(value) for name, value in seen[0].items()}
    for before, after, gradient in zip(seen, seen[1:], gradients, strict=False):
        for name, w in before.items():
            g = gradient[name]
            if w.ndim > 1:
                a = 0.001 * w.norm() / (g.norm() + 0.1 * w.norm() + 1e-8)
                g = a * (g + 0.1 * w)
            elif everywhere:
                g = g + 0.1 * w
            velocity[name] = 0.9 * velocity[name] + g
            torch.testing.assert_close(after[name], w - 0.5 * velocity[name], rtol=1e-12, atol=1e-14)


def test_lars_leaves_gradients_alone_where_a_norm_is_0():
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = lars(momentum=0.0).build([("weight", weight)])
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))


def test_adamw_is_torchs_own():
    [first, *_], [gradient, *_] = trained(adamw(), steps=1)
    expected = nn.Parameter(first["0.weight"].clone())
    expected.grad = gradient["0.weight"]
    torch.optim.AdamW([expected], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1).step()
    found = trained(adamw(), steps=1)[0][1]["0.weight"]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)


def test_parameters_without_gradient_are_left_out():
    module = net()
    module[0].requires_grad_(False)
    built = sgd(lr=0.1).build(module.named_parameters())
    parameters = [p for group in built.param_groups for p in group["params"]]
    assert {id(p) for p in parameters} == {id(p) for p in module.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (sgd, {"lr": -0.1}, "lr=-0.1: too small"),
        (sgd, {"lr": 0.1, "momentum": -0.9}, "momentum=-0.9: not a share"),
        (sgd, {"lr": 0.1, "momentum": 1.1}, "momentum=1.1: not a share"),
        (sgd, {"lr": 0.1, "weight_decay": -1.0}, "weight_decay=-1.0: too small"),
        (sgd, {"lr": 0.1, "clip_norm": 0.0}, "clip_norm=0.0: too small; .* above 0"),
        (adamw, {"beta1": 1.0}, "beta1=1.0: not a share below 1"),
        (adamw, {"beta2": -0.1}, "beta2=-0.1: not a share below 1"),
        (adamw, {"eps": 0.0}, "eps=0.0: too small"),
        (lars, {"trust": 0.0}, "trust=0.0: too small"),
    ],
)
def test_values_that_cannot_be(make, changes, message):
    with pytest.raises(OptionError, match=f"^{message}"):
        make(**changes)
