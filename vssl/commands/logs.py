"""mode=logs stage=KEY: the end of what a stage logged, and of what its Slurm job printed."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.records import JobRecords
from vssl.stage.store import StageStore

PLANNED = False
LINES = 30


def execute(cfg: DictConfig) -> None:
    """Print the logs of the stage whose key begins with `stage`."""
    store = StageStore(Path(cfg.outputs))
    key = store.key(cfg.stage, JobRecords(Path(cfg.outputs)).keys())
    for path in _logs(store, key):
        print(f"{path}", *path.read_text(errors="replace").splitlines()[-LINES:], "", sep="\n")


def _logs(store: StageStore, key: str) -> list[Path]:
    records = JobRecords(store.root.parent)
    record = records.read(key)
    paths = [*store.root.glob(f"*/{key}/log.txt"), *([records.log(record.id)] if record else [])]
    return [path for path in paths if path.exists()]
