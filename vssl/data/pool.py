"""A function over many tasks, in processes that may hang or die without stopping the others.

Each process has a pipe of its own, so that its death is that of its task. In pools that share a queue (pebble
5.2 was tried) a death that is seen before the task is known to have begun stops the pool.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple

from vssl import stop
from vssl.cores import usable_cores
from vssl.errors import VsslError

Task = tuple[Any, ...]

LOOK_EVERY_S = 0.2
"""How often to look for tasks that take too long."""

_PROCESSES = multiprocessing.get_context("spawn")  # forked ones would hold each other's pipes open


@dataclass(frozen=True)
class Lost:
    """What comes of a task that took too long, raised an exception, or took its process with it."""

    cause: Literal["hangs", "crashes", "no memory"]
    reason: str


class Outcome(NamedTuple):
    """What came of a task: what the function returned, or `Lost`; and the processor's seconds it took."""

    task: Task
    result: Any
    cpu_s: float


def each(
    function: Callable[..., Any], tasks: Iterable[Task], workers: int, timeout_s: float
) -> Iterator[Outcome]:
    """Yield what comes of function(*task) for each task, as it comes.

    workers: number of processes; 0: one per core. A task that takes longer than `timeout_s` seconds is lost:
    its process is killed, a new one takes over. So is one that raises an exception, but for a VsslError:
    with it the function says that there is no going on, and it is raised here. `function` is importable by
    its name. If this process is killed, the others end with their task.
    """
    waiting, workers = iter(tasks), workers or usable_cores()
    idle: list[_Worker] = []
    busy: list[_Worker] = []
    try:
        while True:
            for task in islice(waiting, workers - len(busy)):
                busy.append(_given(task, idle, function))
            if not busy:
                return
            wait([worker.pipe for worker in busy], LOOK_EVERY_S)
            for worker in [worker for worker in busy if worker.is_done(timeout_s)]:
                outcome = worker.take(timeout_s)
                busy.remove(worker)
                if isinstance(outcome.result, Lost):
                    worker.stop()
                else:
                    idle.append(worker)
                yield outcome
    finally:
        for worker in idle + busy:
            worker.stop()


def _given(task: Task, idle: list["_Worker"], function: Callable[..., Any]) -> "_Worker":
    """A process that works on the task: an idle one, unless it was killed in the meantime, or a new one."""
    while idle:
        worker = idle.pop()
        with suppress(OSError):
            worker.give(task)
            return worker
        worker.stop()
    worker = _Worker(function)
    worker.give(task)
    return worker


class _Worker:
    """A process that does one task at a time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            self.pipe, theirs = _PROCESSES.Pipe()
            self.process = _PROCESSES.Process(target=_serve, args=(function, theirs), daemon=True)
            resource_tracker.ensure_running()  # its start, within the next one, would let Ctrl-C through
            with stop.without_ctrl_c():
                self.process.start()
            theirs.close()
            self.pipe.recv()  # its imports do not count as time of a task
        except (OSError, EOFError) as error:
            why = str(error) or "it ended at once"
            raise VsslError(
                f"a process that reads files cannot start ({why}); choose fewer, say runtime.workers=1, or "
                "give them more memory"
            ) from error

    def give(self, task: Task) -> None:
        self.task = task
        self.began = time.monotonic()
        self.pipe.send(task)

    def is_done(self, timeout_s: float) -> bool:
        return self.pipe.poll() or time.monotonic() - self.began > timeout_s

    def take(self, timeout_s: float) -> Outcome:
        """What came of the task; raises a VsslError of the function."""
        if not self.pipe.poll():
            return Outcome(self.task, Lost("hangs", f"took longer than {timeout_s:g} s"), 0.0)
        try:
            result, cpu_s = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Outcome(self.task, _died(self.process.exitcode), 0.0)
        if isinstance(result, VsslError):
            raise result
        return Outcome(self.task, result, cpu_s)

    def stop(self) -> None:
        self.process.kill()  # a decoder that spins in native code does not hear anything gentler
        self.process.join()
        self.pipe.close()


def _died(code: int | None) -> Lost:
    if code == -signal.SIGKILL:
        return Lost("no memory", "its process was killed (SIGKILL), as the system does where memory is short")
    return Lost("crashes", f"its process died (exit code {code})")


def _serve(function: Callable[..., Any], pipe: Connection) -> None:
    # Decoders write what they think of bad files straight to the terminal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with suppress(EOFError, BrokenPipeError):  # the parent has gone
        pipe.send("ready")
        while True:
            task = pipe.recv()
            began = time.process_time()
            result = _outcome(function, task)
            pipe.send((result, time.process_time() - began))


def _outcome(function: Callable[..., Any], task: Task) -> Any:
    try:
        return function(*task)
    except VsslError as error:
        return error
    except MemoryError as error:
        return Lost("no memory", f"not enough memory ({_line(error)})")
    except Exception as error:
        return Lost("crashes", _line(error))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
