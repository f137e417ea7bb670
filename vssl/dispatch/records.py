"""Which Slurm job was submitted for a stage: `outputs/jobs/<key>.slurm.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vssl.dispatch.cluster import Job
from vssl.files import write_atomically

SUFFIX = ".slurm.json"


@dataclass(frozen=True)
class Record:
    """A submitted job: its `id` such as 12_3, and whether `mode=cancel` took it back."""

    id: str
    cancelled: bool = False


class JobRecords:
    """The jobs of all stages of one outputs folder; the last one counts."""

    def __init__(self, outputs: Path) -> None:
        self.folder = outputs / "jobs"

    def keys(self) -> list[str]:
        """All stages that were ever submitted."""
        return [path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}")]

    def read(self, key: str) -> Record | None:
        """What is known of the stage's job; None if it was never submitted."""
        try:
            return Record(**json.loads(self._path(key).read_text()))
        except FileNotFoundError:
            return None

    def write(self, key: str, record: Record) -> None:
        """Remember the job of a stage."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(key), json.dumps(asdict(record)))

    def job(self, key: str, jobs: Mapping[str, Job]) -> Job | None:
        """The stage's job among those that Slurm knows."""
        record = self.read(key)
        return jobs.get(record.id) if record else None

    def log(self, job: str) -> Path:
        """Where Slurm puts what a job prints; `%A_%a` stands for any task of an array."""
        return self.folder / f"slurm-{job}.txt"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"
