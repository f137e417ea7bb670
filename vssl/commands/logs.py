"""mode=logs stage=KEY: the end of what a stage logged, and of what its Slurm job printed."""

from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.records import JobRecords
from vssl.stage.store import StageStore

PLANNED = False
LINES = 30


def execute(cfg: DictConfig) -> None:
    """Print the logs of the stage whose key begins with `stage`."""
    store, records = StageStore(Path(cfg.outputs)), JobRecords(Path(cfg.outputs))
    key = store.key(cfg.stage, records.keys())
    record = records.read(key)
    for path in [*store.root.glob(f"*/{key}/log.txt"), *([records.log(record.id)] if record else [])]:
        if path.exists():
            print(path, *path.read_text("utf-8", "replace").splitlines()[-LINES:], "", sep="\n")
