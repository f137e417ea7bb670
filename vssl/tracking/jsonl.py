"""No tracker: the metrics.jsonl that every stage writes is enough."""

from __future__ import annotations

from dataclasses import dataclass

from vssl.tracking.metrics import FILE_NAME, Launch, StageFolder, Status


@dataclass(frozen=True)
class JsonlTracker:
    """Mirrors nothing; see `vssl.tracking.metrics.Tracker` for the methods."""

    def begin(self, launch: Launch) -> None:
        """Do nothing."""

    def mirror(self, stage: StageFolder, status: Status) -> None:
        """Do nothing."""

    def reuse(self, stage: StageFolder) -> None:
        """Do nothing."""

    def sync(self, stage: StageFolder, status: Status) -> None:
        """Do nothing."""

    def end(self, ok: bool) -> None:
        """Do nothing."""

    def where(self) -> str:
        """Name the file."""
        return f"{FILE_NAME} in the folder of each stage"
