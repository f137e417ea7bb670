"""mode=status: how each stage stands. Trains nothing, writes nothing, imports neither torch nor MLflow."""

import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.cluster import Slurm
from vssl.dispatch.states import states
from vssl.pipeline import Point, merge
from vssl.report.table import status_table
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

EVERY_S = 2.0


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print a line for every stage, and totals."""
    forest = merge(point.chain for point in points)
    status_table(states(forest, StageStore(Path(cfg.outputs)), Slurm()))


def watch(forest: Sequence[StageSpec], store: StageStore) -> None:
    """Wait until no stage runs or waits in a queue."""
    while any(one.status in ("running", "queued") for one in states(forest, store, Slurm())):
        time.sleep(EVERY_S)
