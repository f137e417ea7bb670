"""How exactly a GPU multiplies float32 numbers; torch's defaults differ between operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """torch's mixed precision for a forward, with `bfloat16`; else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Multiply float32 numbers on GPUs as they are, or with `tf32`, while the block runs."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
