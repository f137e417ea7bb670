"""mode=sync: bring the tracker up to date with the stage folders: after an outage, or from nodes that cannot
reach it (they run with tracking=jsonl).

All stages under `outputs/stages` are mirrored, whatever launch they came from. What the tracker has is
not sent again.
"""

from pathlib import Path

from omegaconf import DictConfig

from vssl.pipeline import plain
from vssl.stage.build import build
from vssl.stage.store import StageStore, is_claimed
from vssl.tracking.metrics import Tracker

PLANNED = False


def execute(cfg: DictConfig) -> None:
    """Mirror every stage but those that run now, which mirror themselves. A tracker that cannot be reached
    raises `VsslError`."""
    tracker: Tracker = build(plain(cfg.tracking), "tracking")
    store = StageStore(Path(cfg.outputs))
    stages = list(store.all())
    for stage in stages:
        if stage.result is not None:
            tracker.sync(stage.tracked({}), "finished")
        elif not is_claimed(stage.folder):
            failed = (stage.folder / "failed.json").exists()
            tracker.sync(stage.tracked({}), "failed" if failed else "killed")
    tracker.close_left(Path(cfg.outputs) / "launches")
    print(f"{len(stages)} stages in {store.root}\ntracking: {tracker.where()}")
