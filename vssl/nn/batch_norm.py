"""Batch normalisation where several processes train together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vssl import distributed
from vssl.errors import VsslError


class SyncedBatchNorm(_BatchNorm):
    """Batch norm over the samples of all ranks; in eval mode, or alone, the usual one.

    torch's own SyncBatchNorm exists for GPUs only, so that no machine without one could test it.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two on."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        # 16 bits cannot even count the pixels.
        values = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums: Tensor = _SumOverRanks.apply(torch.cat([values.sum(axes), values.square().sum(axes), count]))
        number = sums[-1]
        mean_C, square_C = sums[:-1].reshape(2, -1) / number
        variance_C = (square_C - mean_C.square()).clamp(min=0)
        self._remember(mean_C.detach(), variance_C.detach() * number.detach() / (number.detach() - 1))
        shape = [1, -1, *[1] * (input.dim() - 2)]
        scale_C = torch.rsqrt(variance_C + self.eps)
        if self.affine:
            scale_C = scale_C * self.weight
        output: Tensor = (values - mean_C.reshape(shape)) * scale_C.reshape(shape)
        return (output + self.bias.reshape(shape) if self.affine else output).to(input.dtype)

    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(variance_C, self.momentum)


class _SumOverRanks(torch.autograd.Function):
    """Sum over all ranks, forward and backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return distributed.all_reduce(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return distributed.all_reduce(gradients[0].clone())


def synchronise(module: nn.Module) -> None:
    """Make every batch norm inside `module` one over all ranks; names in its state dict stay."""
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.__class__ = SyncedBatchNorm


def average_statistics(module: nn.Module) -> None:
    """Give the running statistics of every batch norm inside `module` the mean of all ranks' values."""
    if distributed.world_size() == 1:
        return
    buffers = [
        buffer
        for child in module.modules()
        if isinstance(child, _BatchNorm) and child.training
        for buffer in (child.running_mean, child.running_var)
        if buffer is not None
    ]
    if not buffers:
        return
    means = (
        distributed.all_reduce(torch.cat([buffer.flatten() for buffer in buffers])) / distributed.world_size()
    )
    for buffer, mean in zip(buffers, torch.split(means, [buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean)


@torch.no_grad()
def in_shuffled_order(encode: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Encode clips [B,...] so that batch norm sees each among others than its own rank's (MoCo, 3.3).

    The clips of all ranks are shuffled, dealt out again, encoded, and their embeddings [B,...] sent back. B
    is the same on all ranks. Raises `VsslError` if there is one rank only.
    """
    if distributed.world_size() == 1:
        raise VsslError(
            "shuffle_bn=true takes several processes (dispatch.gpus_per_stage=2); else say shuffle_bn=false"
        )
    batch, mine = len(clips), distributed.rank() * len(clips)
    order = distributed.broadcast_object(torch.randperm(batch * distributed.world_size())).to(
        clips.device, non_blocking=True
    )
    shuffled = distributed.all_gather_rows(clips)[order][mine : mine + batch]
    embeddings = distributed.all_gather_rows(encode(shuffled))
    return embeddings[order.argsort()][mine : mine + batch]
