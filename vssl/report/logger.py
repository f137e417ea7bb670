"""Keeps the record of a stage while it runs: metrics, tracker, progress, pictures."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress

from vssl.files import write_atomically
from vssl.report.course import Course, Far
from vssl.report.plots import draw_curves
from vssl.report.progress import Progress
from vssl.report.sheet import draw_neighbours, draw_preview
from vssl.stage.callback import NeighbourSheet, Preview, Status
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.tracking.metrics import MetricsLog, Tracker
from vssl.tracking.metrics import Status as Tracked

MIRROR_EVERY_S = 10.0
NOTE_EVERY_S = 5.0


class StageLogger:
    """Callback of one stage: writes `metrics.jsonl`, mirrors it to the tracker, shows progress, draws.

    `progress.json` says how far the stage is: the last `step` with metrics, clips `done` of `total`, clips
    per second (`rate`), and the `time` of that. `tags`: of the process that runs it.
    """

    def __init__(
        self,
        spec: StageSpec,
        store: StageStore,
        tracker: Tracker,
        tags: Mapping[str, str],
        course: Course | None = None,
    ) -> None:
        self.spec, self.store, self.tracker, self.tags = spec, store, tracker, tags
        self.folder = store.folder(spec)
        self.progress = Progress(str(spec), 0, far=self._far if course else None)
        self.course = course
        self.far: tuple[float, Far] | None = None
        self.mirrored = self.noted = time.monotonic()
        self.step: int | None = None

    def begin(self, step: int, share: float, clips: int) -> None:
        """Open the metrics file, dropping what a killed run logged past its last checkpoint."""
        self.metrics = MetricsLog(self.folder, resume_step=step)
        self.progress.total = clips
        self.progress.start(round(share * clips))
        self.step = step
        self._note()
        self._mirror("running")

    def advance(self, clips: int, **shown: float) -> None:
        """Move the progress bar."""
        self.progress.advance(clips, **shown)
        if time.monotonic() - self.noted > NOTE_EVERY_S:
            self._note()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a line of metrics; pass it on to the tracker every few seconds."""
        self.metrics.log(metrics, step)
        self.step = step
        if time.monotonic() - self.mirrored > MIRROR_EVERY_S:
            self._mirror("running")

    def show(self, what: Preview | NeighbourSheet) -> None:
        """Draw it into the stage's folder."""
        if isinstance(what, Preview):
            write_atomically(self.folder / "preview.png", draw_preview(what))
        else:
            write_atomically(self.folder / "retrieval.png", draw_neighbours(what))

    def close(self, status: Status) -> None:
        """End the bar; draw the curves, unless interrupted, and hand everything to the tracker."""
        self.far = None  # a stage more may be done
        self.progress.close()
        if status == "interrupted":
            if self.step is not None:
                self._note()
            self._mirror("killed")
            return
        stage = self.store.stage(self.spec)
        if stage.result and len(stage.lines) > 1:
            with suppress(OSError):  # a full disk must not turn a finished stage into a failed one
                path = self.folder / "curves.png"
                draw_curves(stage.lines, str(self.spec), stage.result.references, path)
        self._mirror(status)

    def _far(self) -> Far:
        """How far the forest is, as of the last note."""
        assert self.course is not None
        if self.far is None or self.far[0] != self.noted:
            self.far = self.noted, self.course.far()
        return self.far[1]

    def _mirror(self, status: Tracked) -> None:
        self.tracker.mirror(self.store.stage(self.spec).tracked(self.tags), status)
        self.mirrored = time.monotonic()

    def _note(self) -> None:
        bar = self.progress
        clips = {"done": bar.done, "total": bar.total, "rate": bar.rate}
        with suppress(OSError):  # for the eye only
            write_atomically(
                self.folder / "progress.json",
                json.dumps({"step": self.step, **clips, "time": time.time()}),
            )
        self.noted = time.monotonic()
