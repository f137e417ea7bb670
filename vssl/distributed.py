"""The processes that train one stage together, numbered by rank. A process on its own is rank 0 of 1.

All functions here are called by all ranks in the same order. Tensors are exchanged where they lie (gloo on a
CPU, NCCL on GPUs, gloo on a GPU that several share), everything else through gloo.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from vssl.errors import VsslError
from vssl.rendezvous import meet

MANY = 8
"""Ranks of which `_add_few` makes no ring."""

Value = TypeVar("Value")


@contextmanager
def init_distributed(timeout_s: float) -> Iterator[None]:
    """Be one of WORLD_SIZE processes (see `vssl.rendezvous`) during the block; alone if that is 1 or unset.

    A rank that waits longer than `timeout_s` for the others raises `VsslError`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    _exchange(lambda: _join(timedelta(seconds=timeout_s)))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    _Patient.group = dist.new_group(backend="gloo", timeout=timedelta(days=365))
    barrier()  # a rank that ended at once would cut off one that is still connecting
    yield
    # Not after an error: that would wait for ranks that may be gone.
    dist.destroy_process_group()
    _Patient.group = None  # whose threads would live on, and may abort the process at its end


def _join(timeout: timedelta) -> None:
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = meet(timeout)
    backend = "cpu:gloo,cuda:nccl" if _gpus_differ(store, rank, count) else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)


def _gpus_differ(store: Store, rank: int, count: int) -> bool:
    """Whether each rank has a GPU that no other has; NCCL refuses those that share one.

    Their numbers do not say it: a scheduler may show each process its own GPU alone, as number 0.
    """
    store.set(f"gpu of {rank}", _gpu())
    gpus = {store.get(f"gpu of {other}") for other in range(count)}
    return len(gpus) == count and b"" not in gpus


def _gpu() -> str:
    """What no other GPU is called; nothing without one."""
    if not torch.cuda.is_available():
        return ""
    number = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    return str(torch.cuda.get_device_properties(number).uuid)


def rank() -> int:
    """Number of this process; rank 0 writes the files."""
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes train this stage."""
    return dist.get_world_size() if _together() else 1


def local_rank() -> int:
    """Number of this process among those on this machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if _together() else 0


def local_world_size() -> int:
    """How many of the processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if _together() else 1


def all_reduce(tensor: Tensor) -> Tensor:
    """Add up a tensor of the same shape on all ranks, in place; no gradient."""
    if _together():
        _exchange(lambda: dist.all_reduce(tensor))
    return tensor


def start_all_reduce(tensor: Tensor) -> Callable[[], Tensor]:
    """The same without waiting: returns what waits for the sum and returns it."""
    sums: list[Any] = []
    _exchange(lambda: sums.append(dist.all_reduce(tensor, async_op=True)))

    def wait() -> Tensor:
        _exchange(sums[0].wait)
        return tensor

    return wait


def any_rank(*flags: bool) -> list[bool]:
    """Of each flag, whether it is set on any rank."""
    if not _together():
        return list(flags)
    return [count > 0 for count in _add_few(torch.tensor(flags, dtype=torch.int32))]


def broadcast_object(value: Value) -> Value:
    """Rank 0's value, everywhere."""
    box = [value]
    if _together():
        _exchange(lambda: dist.broadcast_object_list(box, src=0))
    return box[0]


def all_gather_object(value: Value) -> list[Value]:
    """The values of all ranks, in order."""
    values: list[Any] = [value] * world_size()
    if _together():
        _exchange(lambda: dist.all_gather_object(values, value))
    return values


@torch.no_grad()
def all_gather_rows(rows: Tensor) -> Tensor:
    """The rows [n,...] of all ranks, one rank after the other; n may differ. No gradient."""
    if not _together():
        return rows
    counts = torch.zeros(world_size(), dtype=torch.int64)
    counts[rank()] = len(rows)
    numbers = _add_few(counts)
    padded = rows.new_zeros(max(numbers), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in numbers]
    _exchange(lambda: dist.all_gather(parts, padded))
    return torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)])


def barrier() -> None:
    """Go on when all ranks have come this far."""
    any_rank(False)


def wait_for_rank_0() -> None:
    """The same, however long rank 0 works alone; its end is noticed at once."""
    if _together():
        _exchange(lambda: dist.barrier(_Patient.group))


def _add_few(numbers: Tensor) -> list[int]:
    """Sums over all ranks of a few numbers [n] in the host's memory, of which each step takes several.

    Many ranks add up through rank 0, in 1 + log2(ranks) messages one after the other: gloo's all_reduce is a
    ring of 2 (ranks - 1). For few the ring is faster, as it is one exchange instead of two.
    """
    ranks = dist.get_world_size()
    if ranks < MANY:
        sums = all_reduce(numbers)
    else:
        of_all = [torch.empty_like(numbers) for _ in range(ranks)] if rank() == 0 else []
        _exchange(lambda: dist.gather(numbers, of_all))
        sums = torch.stack(of_all).sum(0, dtype=numbers.dtype) if of_all else numbers
        _exchange(lambda: dist.broadcast(sums, src=0))
    found: list[int] = sums.tolist()
    return found


class _Patient:
    """All ranks once more: how long they wait for one another belongs to a group."""

    group: Any = None


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _exchange(exchange: Callable[[], object]) -> None:
    """Run one exchange; a rank that is gone, or that does not come, raises `VsslError` on the others."""
    try:
        exchange()
    except (torch.OutOfMemoryError, torch.AcceleratorError):  # this rank's own
        raise
    except RuntimeError as error:  # all that torch.distributed raises; it has no narrower class on a CPU
        said, _, cause = str(error).strip().partition("\nLast error:\n")  # as NCCL says what it was
        first = (cause or said).splitlines()[0]
        reason = re.sub(r"^\[\S+\] ", "", first).partition(". This is typically")[0]  # gloo's own words
        raise LostRank(
            f"another process of this stage is gone or does not answer ({reason}); "
            "log.txt has its own error, if it could leave one"
        ) from error


class LostRank(VsslError):
    """Another process has ended; what it died of says more than this."""
