"""How exactly a GPU computes; torch's defaults differ between operations."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 itself; torch lets older ones emulate it, slowly or not at all."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """torch's mixed precision for a forward, with `bfloat16`; else nothing.

    Weights are rounded anew wherever they are used. torch would keep them, and then add up the gradients of
    several uses in 16 bits; torch 2.9 also kept those of a use without gradients for one with them, which got
    none (PyTorch's issue 65766).
    """
    return torch.autocast(device.type, torch.bfloat16, precision == "bfloat16", cache_enabled=False)


@contextmanager
def arithmetic(precision: Precision, deterministic: bool) -> Iterator[None]:
    """While the block runs, compute on GPUs like this.

    Float32 numbers are multiplied as they are, or with `tf32`. Convolutions take the algorithm that proves
    fastest when the block first meets their shapes; `deterministic`: one that gives the same bits each time.
    """
    cudnn: Any = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [place.fp32_precision for place in places]
    searched, was_deterministic = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    for place in places:
        place.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:  # not otherwise: the call imports torch's compiler, for a second
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch refuses its products without
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
        torch.backends.cudnn.benchmark = searched
        if deterministic:
            torch.use_deterministic_algorithms(was_deterministic)
