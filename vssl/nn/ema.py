"""Momentum update of a teacher (MoCo, BYOL, auxSKD)."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Set every parameter of the teacher to m teacher + (1 - m) student; buffers stay as they are.

    The two modules have the same parameters in the same order.
    """
    teachers, students = list(teacher.parameters()), list(student.parameters())
    get_ema_multi_avg_fn(momentum)(teachers, students, 0)  # type: ignore[no-untyped-call]
