"""TF32 without tensor cores: what fewer bits alone do to a step."""

from contextlib import nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from gpu.conftest import IS_GPU

aten = torch.ops.aten
PRODUCTS = {
    aten.convolution.default,
    aten.convolution_backward.default,
    *(op.default for op in (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)),
}


class Rounded(TorchDispatchMode):
    """Products of factors that have been rounded to the ten bits of a TF32 mantissa, summed in float32."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*(tree_map(to_tf32, args) if func in PRODUCTS else args), **(kwargs or {}))


def to_tf32(value):
    """The nearest TF32 number, a half rounded away from zero, of every number of a float32 tensor."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        return value
    return ((value.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def rounding(precision):
    """What a precision does on a GPU, on a CPU as well: there TF32 is no more than float32, and oneDNN leaves
    gradients of kernels longer than a map unset in bfloat16 (seen in torch 2.15)."""
    if IS_GPU:
        return nullcontext()
    return Rounded() if precision == "tf32" else torch.backends.mkldnn.flags(enabled=False)
