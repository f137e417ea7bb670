"""Stopping on request: a signal asks, training saves its state first.

SIGTERM is what schedulers and people send; SIGUSR2 is what Slurm sends ahead of a time limit or a preemption;
SIGHUP comes when a terminal is closed or a connection lost.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked this process to stop. Nothing failed, so this is no `Exception`, as Ctrl-C is none."""

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(f"stopped by {signum.name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that a signal ended."""
        return 128 + self.signum


class _Request:
    """What was asked of this process; signals belong to a process, so there is one."""

    signum: signal.Signals | None = None
    deferred = False


def listen() -> None:
    """From now on, raise `Stopped` on `SIGNALS`. Handlers that others have installed stay,
    and so does what `nohup` ignores."""
    for signum in SIGNALS:
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _on_signal)


def end_at_once() -> None:
    """From now on, a signal ends this process without a word: all is said, and Python may take its time."""
    for signum in (signal.SIGINT, *SIGNALS):
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)


def requested() -> bool:
    """Whether a signal has asked to stop."""
    return _Request.signum is not None


def ask() -> None:
    """Stop as if a signal had come; another process of the same stage has had one."""
    _Request.signum = _Request.signum or signal.SIGTERM


@contextmanager
def deferred() -> Iterator[None]:
    """Hold `Stopped` back until the end of the block, which looks at `requested` where it can be left."""
    _Request.deferred = True
    try:
        yield
    finally:
        _Request.deferred = False
    if _Request.signum is not None:
        raise Stopped(_Request.signum)


@contextmanager
def undivided() -> Iterator[list[int]]:
    """Have what asks to stop, Ctrl-C too, wait for the end of the block; yields the signals that have come.

    So a process that is started in it is known and can be stopped. Signals are handled, not blocked, as that
    process would inherit what is blocked. Handlers that others have installed stay, as in `listen`. If the
    block ends with an error, the signal is raised in its place.
    """
    came: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    waiting = True

    def wait(signum: int, frame: FrameType | None) -> None:
        if waiting:
            came.append(signum)
        else:  # between the end of the block and the return of its own handler
            handlers[signum](signum, frame)

    try:
        for signum in (signal.SIGINT, *SIGNALS):
            if (handler := signal.getsignal(signum)) in (signal.default_int_handler, _on_signal):
                handlers[signum] = handler
                signal.signal(signum, wait)
        yield came
    finally:
        waiting = False
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block never get Ctrl-C, which reaches this one too: ignored later, it
    would find Python at its start, with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    _Request.signum = signal.Signals(signum)
    if not _Request.deferred:
        raise Stopped(_Request.signum)
