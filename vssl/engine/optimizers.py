"""Optimisers: plain values from which torch's own are built."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vssl.checks import ABOVE_0, BELOW_1, SHARE, Checked, at_least

Group = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Optimizer(Checked, ABC):
    """What all optimisers share.

    lr: learning rate where the schedule's factor is 1.
    decay_norm_and_bias: whether weight decay applies to all parameters alike. If not, those with at most one
        dimension (scales of norms, biases) have none.
    clip_norm: longest gradient of a step, over all parameters and ranks together; null: any length.
    """

    lr: float = field(metadata=at_least(0))
    weight_decay: float = field(metadata=at_least(0))
    decay_norm_and_bias: bool
    clip_norm: float | None = field(metadata=ABOVE_0)

    def build(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Make torch's optimiser for the parameters that need a gradient."""
        trained = [p for _, p in named_parameters if p.requires_grad]
        others_decay = self.weight_decay if self.decay_norm_and_bias else 0.0
        groups: list[Group] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": others_decay},
        ]
        on_gpu = all(p.is_cuda for p in trained)
        return self._build([group for group in groups if group["params"]], fused=on_gpu, foreach=not on_gpu)

    @abstractmethod
    def _build(self, groups: list[Group], *, fused: bool, foreach: bool) -> torch.optim.Optimizer:
        """Make torch's optimiser for groups of parameters with a weight decay each."""


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent."""

    momentum: float = field(metadata=SHARE)

    def _build(self, groups: list[Group], **kernels: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, **kernels)


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    beta1: float = field(metadata=BELOW_1)
    beta2: float = field(metadata=BELOW_1)
    eps: float = field(metadata=ABOVE_0)

    def _build(self, groups: list[Group], **kernels: bool) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, **kernels)


@dataclass(frozen=True, kw_only=True)
class LARS(SGD):
    """Layer-wise adaptive rate scaling (You et al., 2017) as in SlowFast, see `LayerwiseSGD`.

    trust: length of a step as a share of the parameter's (SlowFast: 0.001).
    """

    trust: float = field(metadata=ABOVE_0)

    def _build(self, groups: list[Group], **kernels: bool) -> torch.optim.Optimizer:
        for group in groups:
            if group["params"][0].ndim > 1:
                group.update(trust=self.trust, scaled_decay=group["weight_decay"], weight_decay=0.0)
        return LayerwiseSGD(groups, lr=self.lr, momentum=self.momentum, **kernels)


class LayerwiseSGD(torch.optim.SGD):
    """SGD that first scales the gradient g of each parameter w of a group with a `trust`: it becomes

        a (g + d w),   a = trust |w| / (|g| + d |w| + 1e-8), or 1 if |w| or |g| is 0,

    where d is the group's `scaled_decay`.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if "trust" in group and parameter.grad is not None:
                    _scale(parameter, parameter.grad, group["trust"], group["scaled_decay"])
        return super().step(closure)


def _scale(weight: Tensor, gradient: Tensor, trust: float, decay: float) -> None:
    """Scale the gradient of one parameter in place. Nothing here waits for the device."""
    weight_norm, gradient_norm = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(gradient)
    scale = trust * weight_norm / (gradient_norm + decay * weight_norm + 1e-8)
    is_zero = (weight_norm == 0) | (gradient_norm == 0)
    gradient.add_(weight, alpha=decay).mul_(scale.masked_fill(is_zero, 1.0))
