"""mode=logs stage=KEY: the end of what a stage logged, and of what its Slurm job printed."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.records import JobRecords
from vssl.errors import VsslError
from vssl.stage.store import StageStore

PLANNED = False
LINES = 30


def execute(cfg: DictConfig) -> None:
    """Print the logs of the stage whose key begins with `stage`."""
    if cfg.stage is None:
        raise VsslError(
            "mode=logs: which stage? give the beginning of its key: stage=KEY (mode=status shows them)"
        )
    store = StageStore(Path(cfg.outputs))
    key = _only(store, str(cfg.stage))
    for path in _logs(store, key):
        print(f"{path}", *path.read_text(errors="replace").splitlines()[-LINES:], "", sep="\n")


def _only(store: StageStore, start: str) -> str:
    """The key that begins with `start`."""
    folders, jobs = store.root.glob(f"*/{start}*"), JobRecords(store.root.parent).keys()
    keys = {path.name for path in folders} | {key for key in jobs if key.startswith(start)}
    if len(keys) != 1:
        found = f"{len(keys)} stages begin like this" if keys else f"no such stage in {store.root}"
        raise VsslError(f"stage={start}: {found}")
    return keys.pop()


def _logs(store: StageStore, key: str) -> list[Path]:
    records = JobRecords(store.root.parent)
    record = records.read(key)
    paths = [*store.root.glob(f"*/{key}/log.txt"), *([records.log(record.id)] if record else [])]
    return [path for path in paths if path.exists()]
