"""Momentum update of a teacher (MoCo, BYOL, auxSKD)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Set every parameter of the teacher to m teacher + (1 - m) student; buffers stay as they are.

    The two modules have the same parameters in the same order.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
