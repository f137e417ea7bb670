"""A function over many tasks, in processes that may hang or die without stopping the others.

Each process has a pipe of its own, so that its death is that of its task. In pools that share a queue (pebble
5.2 was tried) a death that is seen before the task is known to have begun stops the pool.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Task = tuple[Any, ...]

LOOK_EVERY_S = 0.2
"""How often to look for tasks that take too long."""

_PROCESSES = multiprocessing.get_context("spawn")  # forked ones would hold each other's pipes open


@dataclass(frozen=True)
class Lost:
    """What comes of a task whose process took too long and was killed, or died by itself."""

    in_time: bool
    reason: str


def each(
    function: Callable[..., Any], tasks: Iterable[Task], workers: int, timeout_s: float
) -> Iterator[tuple[Task, Any]]:
    """Yield (task, function(*task)) as they come, from `workers` processes; (task, Lost) where one is lost.

    A task that takes longer than `timeout_s` seconds is lost: its process is killed, a new one takes over.
    An exception of the function is raised here. `function` has to be importable by its name. If this
    process is killed, the others end with their task.
    """
    waiting = iter(tasks)
    staff: list[_Worker] = []
    try:
        for task in waiting:
            if len(staff) < workers:
                staff.append(_Worker(function, timeout_s))
                staff[-1].give(task)
            else:
                done = _first_done(staff)
                yield done.task, done.take()
                done.give(task)
        while staff:
            done = _first_done(staff)
            yield done.task, done.take()
            staff.remove(done)
            done.stop()
    finally:
        for worker in staff:
            worker.stop()


def _first_done(staff: list[_Worker]) -> _Worker:
    """The first worker whose task has an outcome."""
    while True:
        wait([worker.pipe for worker in staff], LOOK_EVERY_S)
        for worker in staff:
            if worker.is_done():
                return worker


class _Worker:
    """A process that does one task at a time."""

    def __init__(self, function: Callable[..., Any], timeout_s: float) -> None:
        self.function, self.timeout_s = function, timeout_s
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_serve, args=(self.function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()  # its imports do not count as time of a task

    def give(self, task: Task) -> None:
        self.task = task
        self.began = time.monotonic()
        self.pipe.send(task)

    def is_done(self) -> bool:
        return self.pipe.poll() or time.monotonic() - self.began > self.timeout_s

    def take(self) -> Any:
        """The outcome of the task; a process that has none is replaced."""
        if not self.pipe.poll():
            return self._replaced(False, f"took longer than {self.timeout_s:g} s")
        try:
            result = self.pipe.recv()
        except EOFError:
            self.process.join()
            return self._replaced(True, f"its process died (exit code {self.process.exitcode})")
        if isinstance(result, Exception):
            raise result
        return result

    def _replaced(self, in_time: bool, reason: str) -> Lost:
        self.stop()
        self._start()
        return Lost(in_time, reason)

    def stop(self) -> None:
        self.process.kill()  # a decoder that spins in native code does not hear anything gentler
        self.process.join()
        self.pipe.close()


def _serve(function: Callable[..., Any], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Decoders write what they think of bad files straight to the terminal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with suppress(EOFError, BrokenPipeError):  # the parent has gone
        pipe.send("ready")
        while True:
            task = pipe.recv()
            try:
                result = function(*task)
            except Exception as error:  # raised by the parent
                result = error
            pipe.send(result)
