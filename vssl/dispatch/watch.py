"""Everything that is told how a stage goes: the metrics file, the tracker, and the eye."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from vssl.report.curves import draw_curves
from vssl.report.progress import Progress
from vssl.stage.spec import StageSpec
from vssl.tracking.metrics import MetricsLog, StageFolder, Tracker, read

MIRROR_EVERY_S = 10.0


class StageWatch:
    """Observer of one stage: writes `metrics.jsonl`, mirrors it to the tracker, shows progress."""

    def __init__(self, spec: StageSpec, folder: Path, tracker: Tracker, tags: Mapping[str, str]) -> None:
        self.stage = StageFolder(spec.name, spec.key, folder, tags)
        self.tracker = tracker
        self.title = str(spec)
        self.progress = Progress(self.title, spec.clips)
        self.total = spec.clips
        self.mirrored = time.monotonic()

    def begin(self, step: int, share: float) -> None:
        """Open the metrics file, dropping what a killed run logged past its last checkpoint."""
        self.metrics = MetricsLog(self.stage.folder, resume_step=step)
        self.progress.start(round(share * self.total))
        self.tracker.mirror(self.stage, "running")

    def advance(self, clips: int, **shown: float) -> None:
        """Move the progress bar."""
        self.progress.advance(clips, **shown)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a line of metrics; pass it on to the tracker every few seconds."""
        self.metrics.log(metrics, step)
        if time.monotonic() - self.mirrored > MIRROR_EVERY_S:
            self.tracker.mirror(self.stage, "running")
            self.mirrored = time.monotonic()

    def close(self, status: Literal["finished", "failed"]) -> None:
        """End the bar, draw the curves, and hand everything to the tracker."""
        self.progress.close()
        lines = read(self.stage.folder)
        if status == "finished" and len(lines) > 1:
            with suppress(OSError):  # a full disk must not turn a finished stage into a failed one
                draw_curves(lines, self.title, self.stage.folder / "curves.png")
        self.tracker.mirror(self.stage, status)
