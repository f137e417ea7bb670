"""Batch normalisation where several processes train together."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl import distributed
from vssl.errors import OptionError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncedBatchNorm(nn.Module):
    """Takes the place of a batch norm, with its parameters and buffers: over the samples of all ranks.

    torch's own SyncBatchNorm exists for GPUs only, so that no machine without one could test it.
    """

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        assert norm.running_mean is not None, "without running statistics: not written yet"
        assert norm.momentum is not None, "cumulative running statistics: not written yet"
        self.eps, self.momentum = norm.eps, norm.momentum
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = getattr(self, "weight", None), getattr(self, "bias", None)
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, weight, bias, eps=self.eps)
        # 16 bits cannot even count the pixels.
        values = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        mean_C, variance_C, count = _moments(values)
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C.detach(), self.momentum)
        self.running_var.lerp_((variance_C * count / (count - 1)).detach(), self.momentum)
        shape = [1, -1, *[1] * (input.dim() - 2)]
        scale_C = torch.rsqrt(variance_C + self.eps) * (1 if weight is None else weight)
        output = (values - mean_C.reshape(shape)) * scale_C.reshape(shape)
        return (output if bias is None else output + bias.reshape(shape)).to(input.dtype)


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and (biased) variance [C] of values [B,C,...] over all ranks, and how many values of a channel.

    Each rank's own are exchanged and combined (Chan et al., 1979): E[x^2] - E[x]^2 of float32 would lose the
    variance of values that are far from 0.
    """
    axes = [axis for axis in range(values.dim()) if axis != 1]
    variance_C, mean_C = torch.var_mean(values, axes, correction=0)
    count = values.new_full((1,), values.numel() / values.shape[1])
    rank, world = distributed.rank(), distributed.world_size()
    # A row for each rank; the sum over ranks fills in those of the others.
    own_RX = F.pad(torch.cat([mean_C, variance_C, count])[None], (0, 0, rank, world - rank - 1))
    all_RX: Tensor = _SumOverRanks.apply(own_RX)
    means_RC, variances_RC, counts_R1 = torch.split(all_RX, [len(mean_C), len(mean_C), 1], dim=1)
    shares_R1, total = counts_R1 / counts_R1.sum(), counts_R1.sum()
    mean_C = (shares_R1 * means_RC).sum(dim=0)
    return mean_C, (shares_R1 * (variances_RC + (means_RC - mean_C).square())).sum(dim=0), total


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
    if distributed.world_size() == 1:
        return
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BATCH_NORMS):
                setattr(parent, name, SyncedBatchNorm(child))


def average_statistics(module: nn.Module) -> None:
    """Give the running statistics of every batch norm inside `module` the mean of all ranks' values."""
    if distributed.world_size() == 1:
        return
    norms = [child for child in module.modules() if isinstance(child, BATCH_NORMS) and child.training]
    found = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    buffers = [buffer for buffer in found if buffer is not None]
    if not buffers:
        return
    total = distributed.all_reduce(torch.cat([buffer.flatten() for buffer in buffers]))
    means = torch.split(total / distributed.world_size(), [buffer.numel() for buffer in buffers])
    for buffer, mean in zip(buffers, means, strict=True):
        buffer.copy_(mean)


@torch.no_grad()
def in_shuffled_order(encode: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Encode clips [B,...] so that batch norm does not see them with those of their own rank (MoCo, 3.3).

    The clips of all ranks are shuffled and shared out again; after encoding, the embeddings [B,...] return to
    their rank. B is the same on all ranks. Raises `OptionError` if there is only one.
    """
    if distributed.world_size() == 1:
        remedy = "say false, or dispatch.gpus_per_stage=2"
        raise OptionError("shuffle_bn", True, "needs several processes", remedy)
    batch, mine = len(clips), distributed.rank() * len(clips)
    order = distributed.broadcast_object(torch.randperm(batch * distributed.world_size()))
    order = order.to(clips.device, non_blocking=True)
    shuffled = distributed.all_gather_rows(clips)[order][mine : mine + batch]
    embeddings = distributed.all_gather_rows(encode(shuffled))
    return embeddings[order.argsort()][mine : mine + batch]
