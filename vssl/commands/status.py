"""mode=status: how each stage stands. Trains nothing, writes nothing, imports neither torch nor MLflow."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.cluster import Slurm
from vssl.dispatch.states import states
from vssl.pipeline import Point, merge
from vssl.report.table import status_table
from vssl.stage.store import StageStore


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print a line for every stage, and totals."""
    forest = merge(point.chain for point in points)
    status_table(states(forest, StageStore(Path(cfg.outputs)), Slurm()))
