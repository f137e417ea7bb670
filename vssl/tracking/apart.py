"""A tracker in a process of its own: training never waits for it, and what it dies of ends nothing else.

A library that hangs while it is imported, a server that does not answer, a database whose driver tries again
for minutes: all of it happens there. `python -m vssl.tracking.apart` reads a tracker, and what to call on it,
from its standard input, and tells after each call what is not logged so far, and why.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from vssl import stop
from vssl.errors import first_line
from vssl.modules import python_path
from vssl.tracking.metrics import Launch, StageFolder, Status, Tracker

_log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Seconds that the end of a launch waits for the next sign of life: importing MLflow can take some."""
LITTLE_PATIENCE_S = 5.0
"""The same once something has gone wrong, or when the process has been asked to stop."""


class Apart(Tracker):
    """Passes all calls on to a tracker in another process; `end` and `leave` wait for it, within reason."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._process: subprocess.Popen[bytes] | None = None
        self._unsent, self._unread = bytearray(), b""
        self._waiting: list[tuple[str, str]] = []
        self._missing: list[str] = []
        self._warned = False

    def begin(self, launch: Launch) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vssl.tracking.apart"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libraries have a lot to say of what is told here in one line
                start_new_session=True,  # Ctrl-C is for the launch, which then tells how it ended
                env={**os.environ, "PYTHONPATH": python_path()},
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._calls, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
            os.set_blocking(self._calls, False)
            self._unsent += pickle.dumps(self.tracker)
        except Exception as error:
            self._warn(first_line(error))
        self._call("this launch", "begin", launch)

    def claim(self, folder: Path) -> None:
        self._call("this launch", "claim", folder)

    def mirror(self, stage: StageFolder, status: Status) -> None:
        self._hear()
        if status != "running" or not self._waiting:  # what is behind catches up later
            self._call(str(stage), "mirror", stage, status)

    def reuse(self, stage: StageFolder) -> None:
        self._call(str(stage), "reuse", stage)

    def end(self, ok: bool) -> None:
        self._call("this launch", "end", ok)
        self.leave()

    def leave(self) -> None:
        """Wait until all is logged, as long as there is hope; one line says what is not."""
        self._call("", "leave")
        heard = time.monotonic()
        while self._process and self._waiting:
            self._send()
            if self._hear():
                heard = time.monotonic()
            elif self._process.poll() is not None:
                self._warn(f"its process has ended with exit status {self._process.returncode}")
                break
            elif time.monotonic() - heard > self._patience():
                self._warn("no answer")
                break
            select.select([self._answers], [], [], 0.1)
        if self._process:
            self._process.kill()
            self._process.communicate()
        left = list(dict.fromkeys([*self._missing, *(name for name, _ in self._waiting if name)]))
        if left:
            _log.warning("tracking: not logged: %s; mode=sync brings it later", ", ".join(left))
        self._process, self._waiting, self._missing = None, [], []

    def where(self) -> str:
        return self.tracker.where()

    def _patience(self) -> float:
        return LITTLE_PATIENCE_S if self._warned or stop.requested() else PATIENCE_S

    @stop.undivided()  # or a signal would leave half a call, and answers that belong to none
    def _call(self, name: str, method: str, *arguments: object) -> None:
        self._waiting.append((name, method))
        self._unsent += pickle.dumps((method, arguments))
        self._send()
        self._hear()

    def _send(self) -> None:
        """Send what the pipe takes without waiting."""
        with suppress(OSError):  # it is full, or its reader has died, which the end of the launch says
            while self._process and self._unsent:
                del self._unsent[: os.write(self._calls, self._unsent)]

    @stop.undivided()
    def _hear(self) -> bool:
        """Read what the other process has told; whether there was anything."""
        heard = False
        while self._process and select.select([self._answers], [], [], 0)[0]:
            part = os.read(self._answers, 1 << 16)
            if not part:
                break
            heard = True
            *lines, self._unread = (self._unread + part).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return heard

    def _take(self, told: dict[str, Any]) -> None:
        self._waiting.pop(0)
        self._missing = told["missing"]
        for line in told["warnings"]:
            self._warn(line)

    def _warn(self, line: str) -> None:
        if not self._warned:
            own = line.startswith("tracking: ")  # what the tracker has said itself
            _log.warning(
                "%s", line if own else f"tracking: {line}; training goes on, metrics.jsonl is complete"
            )
        self._warned = True


class _Heard(logging.Handler):
    """Keeps the warnings of the tracker for the launch to pass on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def serve(calls: IO[bytes], tell: Callable[[dict[str, Any]], None]) -> None:
    """Make the calls that are read, one after the other, until there are no more."""
    heard = _Heard()
    logging.getLogger("vssl").addHandler(heard)
    tracker: Tracker = pickle.load(calls)
    while True:
        try:
            method, arguments = pickle.load(calls)
        except EOFError:
            return
        try:
            getattr(tracker, method)(*arguments)
        except Exception as error:
            heard.lines.append(first_line(error))
        tell({"missing": tracker.missing(), "warnings": heard.lines})
        heard.lines.clear()


def main() -> None:
    """Serve a launch, and end soon after it, whatever the tracker is doing then."""
    for signum in stop.SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # the launch tells how it ended
    out, launch = os.fdopen(os.dup(1), "w"), os.getppid()
    os.dup2(2, 1)  # what a library prints is no answer

    def follow() -> None:
        while os.getppid() == launch:
            time.sleep(1.0)
        time.sleep(LITTLE_PATIENCE_S)
        os._exit(1)

    def tell(told: dict[str, Any]) -> None:
        print(json.dumps(told), file=out, flush=True)

    threading.Thread(target=follow, daemon=True).start()
    serve(sys.stdin.buffer, tell)
    os._exit(0)


if __name__ == "__main__":
    main()
