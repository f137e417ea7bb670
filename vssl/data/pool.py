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
    """Yield (task, function(*task)) as they come; (task, Lost) where one is lost.

    workers: number of processes; 0: one per core. A task that takes longer than `timeout_s` seconds is lost:
    its process is killed, a new one takes over. An exception of the function is raised here. `function` is
    importable by its name. If this process is killed, the others end with their task.
    """
    waiting, workers = iter(tasks), workers or len(os.sched_getaffinity(0))
    idle: list[_Worker] = []
    busy: list[_Worker] = []
    try:
        while True:
            for task in islice(waiting, workers - len(busy)):
                busy.append(idle.pop() if idle else _Worker(function))
                busy[-1].give(task)
            if not busy:
                return
            wait([worker.pipe for worker in busy], LOOK_EVERY_S)
            for worker in [worker for worker in busy if worker.is_done(timeout_s)]:
                outcome = worker.take(timeout_s)
                busy.remove(worker)
                if isinstance(outcome, Lost):
                    worker.stop()
                else:
                    idle.append(worker)
                yield worker.task, outcome
    finally:
        for worker in idle + busy:
            worker.stop()


class _Worker:
    """A process that does one task at a time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.pipe, theirs = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()  # its imports do not count as time of a task

    def give(self, task: Task) -> None:
        self.task = task
        self.began = time.monotonic()
        self.pipe.send(task)

    def is_done(self, timeout_s: float) -> bool:
        return self.pipe.poll() or time.monotonic() - self.began > timeout_s

    def take(self, timeout_s: float) -> Any:
        """The outcome of the task, which raises what the function raised."""
        if not self.pipe.poll():
            return Lost(False, f"took longer than {timeout_s:g} s")
        try:
            result = self.pipe.recv()
        except EOFError:
            self.process.join()
            return Lost(True, f"its process died (exit code {self.process.exitcode})")
        if isinstance(result, Exception):
            raise result
        return result

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
