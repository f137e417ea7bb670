"""What stages run in, opened by a launch and by each of its workers."""

import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssl import distributed
from vssl.report.course import Course
from vssl.report.logger import StageLogger
from vssl.report.progress import LINE_EVERY_S
from vssl.stage.build import build
from vssl.stage.context import Context
from vssl.stage.provenance import UNKNOWN, git_commit
from vssl.stage.store import StageStore
from vssl.tracking.apart import Apart
from vssl.tracking.metrics import Launch, Tracker

log = logging.getLogger("vssl")


def open_context(plain: Mapping[str, Any], course: Course | None = None) -> tuple[Context, Tracker]:
    """What stages run in, and the tracker of the launch, which is begun or joined.

    `plain` holds `outputs`, `launch` (fields of a `Launch`), and the nodes `runtime`, `tracking`, `monitor`.
    `course`: of the forest that this process runs; it is shown while stages run.
    """
    store = StageStore(Path(plain["outputs"]))
    mirror: Tracker = build(plain["tracking"], "tracking")
    tracker = mirror if type(mirror) is Tracker else Apart(mirror)
    if git_commit() == UNKNOWN:
        log.warning("git does not know this code: results name no commit; its digest is all they have")
    tags = {"git_commit": git_commit(), "host": socket.gethostname()}
    context = Context(
        store=store,
        runtime=build(plain["runtime"], "runtime"),
        make_callback=lambda spec: StageLogger(spec, store, tracker, tags, course),
        say=print,
        look=_Lines(course) if course else lambda: None,
        plain=plain,
        monitoring=build(plain["monitor"], "monitor"),
    )
    if distributed.rank() == 0:  # last: after a mistake in the config, nobody would end the launch
        tracker.begin(Launch(**plain["launch"]))
    return context, tracker


class _Lines:
    """Says how far a forest is every few seconds, if that is news."""

    def __init__(self, course: Course) -> None:
        self.course, self.said, self.last = course, "", time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last > LINE_EVERY_S:
            self.last = time.monotonic()
            if (words := self.course.far().words) != self.said:
                self.said = words
                print("all:", words, flush=True)
