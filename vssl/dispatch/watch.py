"""Everything that is told how a stage goes: the metrics file, the tracker, the eye, and `mode=status`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from vssl.files import write_atomically
from vssl.report.curves import draw_curves
from vssl.report.progress import Progress
from vssl.stage.callback import NeighbourSheet, Preview
from vssl.stage.spec import StageSpec
from vssl.tracking.metrics import MetricsLog, StageFolder, Tracker, read

MIRROR_EVERY_S = 10.0
NOTE_EVERY_S = 5.0


class StageLogger:
    """Callback of one stage: writes `metrics.jsonl`, mirrors it to the tracker, shows progress.

    `progress.json` says how far the stage is: the last `step` with metrics, clips `done` of `total`, clips
    per second (`rate`), and the `time` of that.
    """

    def __init__(self, spec: StageSpec, folder: Path, tracker: Tracker, tags: Mapping[str, str]) -> None:
        self.stage = StageFolder(spec.name, spec.key, folder, tags)
        self.tracker = tracker
        self.title = str(spec)
        self.progress = Progress(self.title, 0)
        self.mirrored = self.noted = time.monotonic()
        self.step: int | None = None

    def begin(self, step: int, share: float, clips: int) -> None:
        """Open the metrics file, dropping what a killed run logged past its last checkpoint."""
        self.metrics = MetricsLog(self.stage.folder, resume_step=step)
        self.progress.total = clips  # the plan does not know which videos are left out
        self.progress.start(round(share * clips))
        self.step = step
        self._note()
        self.tracker.mirror(self.stage, "running")

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
            self.tracker.mirror(self.stage, "running")
            self.mirrored = time.monotonic()

    def show(self, what: Preview | NeighbourSheet) -> None:
        """Draw a picture into the stage's folder."""

    def close(self, status: Literal["finished", "failed", "interrupted"]) -> None:
        """End the bar; then, unless interrupted, draw the curves and hand everything to the tracker."""
        self.progress.close()
        if status == "interrupted":
            if self.step is not None:
                self._note()
            return
        lines = read(self.stage.folder)
        if status == "finished" and len(lines) > 1:
            with suppress(OSError):  # a full disk must not turn a finished stage into a failed one
                references = json.loads((self.stage.folder / "result.json").read_text()).get("references", {})
                draw_curves(lines, self.title, references, self.stage.folder / "curves.png")
        self.tracker.mirror(self.stage, status)

    def _note(self) -> None:
        bar = self.progress
        clips = {"done": bar.done, "total": bar.total, "rate": bar.rate}
        with suppress(OSError):  # for the eye only
            write_atomically(
                self.stage.folder / "progress.json",
                json.dumps({"step": self.step, **clips, "time": time.time()}),
            )
        self.noted = time.monotonic()
