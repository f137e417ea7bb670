"""Private parts of torch, each with what it is needed for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch._C import _error_if_any_worker_fails

COMPILER = "torch._dynamo.utils"


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import torchvision in the block without torch's compiler, which takes as long as torch itself:
    torchvision has one question to it, and asks that only when regions of interest are pooled."""
    if COMPILER in sys.modules:
        yield
        return
    sys.modules[COMPILER] = stand_in = ModuleType(COMPILER)
    stand_in.__dict__["is_compile_supported"] = _is_compile_supported
    try:
        yield
    finally:
        del sys.modules[COMPILER]


def _is_compile_supported(device: str) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)


def raise_deaths() -> None:
    """Raise `RuntimeError` if a loader process of this one is dead.

    torch does so from its own handler of SIGCHLD alone: at any moment, and not where it is convenient.
    """
    _error_if_any_worker_fails()


def kill_workers(batches: Any) -> None:
    """Kill the processes of a DataLoader's iterator: one that hangs in native code obeys nothing else."""
    for worker in batches._workers:
        worker.kill()


def shut_down_workers(batches: Any) -> None:
    """End the processes of a DataLoader's iterator now, and not when it is collected as garbage: an error
    that somebody still holds would keep them alive, and they outlive the signal of Python's own end."""
    batches._shutdown_workers()
    kill_workers(batches)
