"""Move modules and batches to the device; run a module over a data set."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from vssl.engine.precision import Precision, arithmetic, autocast
from vssl.engine.runtime import Runtime
from vssl.types import Batch

Module = TypeVar("Module", bound=nn.Module)
Augment = Callable[[Batch], Tensor]
"""Makes float clips [B,K,C,T,H,W] of the uint8 clips of a batch, and of the numbers drawn for them."""


def to_device(module: Module, runtime: Runtime) -> Module:
    """Move the module to the device, in the memory layout that the runtime asks for."""
    module.to(runtime.torch_device())
    if runtime.channels_last:
        for parameter in module.parameters():
            if parameter.dim() == 5:  # torch's own way refuses modules that have images beside clips
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module


def deliver(host_batch: Batch, augment: Augment, runtime: Runtime) -> Batch:
    """Move the batch to the device and augment its clips."""
    device = runtime.torch_device()
    batch = {name: value.to(device, non_blocking=True) for name, value in host_batch.items()}
    batch["clips"] = augment(batch)
    if runtime.channels_last:
        clips_NCTHW = batch["clips"].flatten(0, 1).contiguous(memory_format=torch.channels_last_3d)
        batch["clips"] = clips_NCTHW.view(batch["clips"].shape)
    return batch


@torch.inference_mode()
def predict(
    compute: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    augment: Augment,
    runtime: Runtime,
    precision: Precision,
    advance: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Apply `compute` to the clips of each batch; return all results, in order and as float32 on the CPU, and
    the labels.

    `advance` gets the number of clips after each batch. Results stay on the device until the end: fetching
    those of each batch would make the device wait for the host.
    """
    found, labels = [], []
    with arithmetic(precision, runtime.deterministic), autocast(runtime.torch_device(), precision):
        for host_batch in batches:
            clips_BKCTHW = deliver(host_batch, augment, runtime)["clips"]
            found.append(compute(clips_BKCTHW).float())
            labels.append(host_batch["label"])
            advance(clips_BKCTHW.shape[0] * clips_BKCTHW.shape[1])
    return torch.cat(found).cpu(), torch.cat(labels)
