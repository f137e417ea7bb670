"""Private parts of torch, each with what it is needed for."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch._C import _error_if_any_worker_fails
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from vssl import stop

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


def compiler_in_parts(part_bytes: int) -> Any:
    """A backend of `torch.compile` that splits a network into several graphs, each with so many bytes of
    trained parameters. In backward each gives its gradients when it ends; a single one gives all at the end.

    torch does the same for DistributedDataParallel, and for nothing else.
    """
    from torch._dynamo.backends.distributed import DDPOptimizer
    from torch._dynamo.backends.registry import lookup_backend

    return DDPOptimizer(part_bytes, lookup_backend("inductor"), part_bytes).compile_fn


def iterator(loader: DataLoader[Any]) -> Any:
    """A DataLoader's iterator, with its processes. If one of them cannot be started, torch leaves those that
    were, which outlive signals: the end of this process would wait for them for ever."""
    batches = _MultiProcessingDataLoaderIter.__new__(_MultiProcessingDataLoaderIter)
    try:
        batches.__init__(loader)  # type: ignore[misc]  # it is known, whatever becomes of it
    except BaseException:
        kill_workers(batches)
        batches._shutdown = True  # or it complains when it is collected
        raise
    return batches


@contextmanager
def watched(start: Callable[[], Any]) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Start a DataLoader's iterator, and watch the processes and the thread behind it while the block runs;
    then end them.

    Yields the iterator, and a function that raises `RuntimeError` if a process is dead, or what the thread
    that pins batches has died of. torch raises the former from its own handler of SIGCHLD alone: at any
    moment, and not where it is convenient. With a timeout it never looks whether the thread lives, and waits
    until the time is out; here the main thread gets a SIGCHLD of that, too.
    """
    deaths: list[BaseException] = []
    usual = threading.excepthook
    batches: Any = None

    def note(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is None or not _pins(ended.thread, batches):
            usual(ended)
            return
        deaths.append(ended.exc_value)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGCHLD)

    def raise_deaths() -> None:
        try:
            _error_if_any_worker_fails()
        except RuntimeError as error:  # which torch tells once, to whoever may catch it
            deaths.insert(0, error)  # the thread may have died of that of a process
        if deaths:
            raise deaths[0]

    try:
        threading.excepthook = note
        with stop.undivided():
            batches = start()
        yield batches, raise_deaths
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a handler that raises may have stayed
        if batches is not None:
            _shut_down(batches)
        if threading.excepthook is note:
            threading.excepthook = usual


def _pins(thread: threading.Thread | None, batches: Any) -> bool:
    """Whether a thread pins the batches of this iterator, or of one that is just being made."""
    if batches is None:
        return thread is not None and "_pin_memory_loop" in thread.name
    return thread is not None and thread is getattr(batches, "_pin_memory_thread", None)


def kill_workers(batches: Any) -> None:
    """Kill the processes of a DataLoader's iterator: one that hangs in native code obeys nothing else."""
    for worker in getattr(batches, "_workers", ()):
        worker.kill()


def _shut_down(batches: Any) -> None:
    """End the processes of a DataLoader's iterator now, and not when it is collected as garbage: an error
    that somebody still holds would keep them alive, and they outlive the signal of Python's own end."""
    try:
        batches._shutdown_workers()
    finally:  # another Ctrl-C
        kill_workers(batches)
