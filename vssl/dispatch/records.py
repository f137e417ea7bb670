"""What lies in `outputs/jobs`: stages as files for processes of their own (`<key>.json`), and which Slurm job
was submitted for a stage (`<key>.slurm.json`)."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vssl.files import write_atomically
from vssl.stage.spec import StageSpec

SUFFIX = ".slurm.json"
START = "vssl: start"
"""What a job prints before anything else, each time that it starts."""
_ENDED = re.compile(r"^srun: error: (.*: tasks? .*)$", re.MULTILINE)


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

    def log(self, job: str) -> Path:
        """Where Slurm puts what a job prints; `%A_%a` stands for any task of an array."""
        return self.folder / f"slurm-{job}.txt"

    def death(self, job: str) -> str | None:
        """Which process of a job was the first to end badly after its last start, if a signal ended it or it
        ran out of memory: what srun has to say of those that could not say it themselves."""
        try:
            said = self.log(job).read_text(errors="replace").rpartition(START)[2]
        except FileNotFoundError:
            return None
        first = _ENDED.search(said)
        return first[1] if first and "Exited with exit code" not in first[1] else None

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"


def write_job(spec: StageSpec, plain: Mapping[str, Any]) -> Path:
    """Write what a worker needs to run the stage; return the file."""
    path = Path(plain["outputs"]) / "jobs" / f"{spec.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    chain = [
        {"spec": one.to_plain(), "paths": dict(one.paths), "options": dict(one.options)} for one in spec.chain
    ]
    write_atomically(path, json.dumps({"chain": chain, "context": plain}), private=True)
    return path


def read_job(path: Path) -> tuple[StageSpec, dict[str, Any]]:
    """The stage of a job file, and the plain data of its context."""
    job = json.loads(path.read_text())
    spec: StageSpec | None = None
    for one in job["chain"]:
        spec = StageSpec.from_plain(one["spec"], spec, paths=one["paths"], options=one["options"])
        assert spec.key == one["spec"]["key"], f"{path}: the stage has another key here: {spec.key}"
    assert spec is not None, "a chain has at least one stage"
    return spec, job["context"]


def worker_command(path: Path | str) -> list[str]:
    """The command that runs a job file."""
    return [sys.executable, "-m", "vssl.worker", str(path)]
