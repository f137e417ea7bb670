"""mode=status: how each stage stands. Trains nothing, writes nothing, imports neither torch nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.cluster import Slurm
from vssl.dispatch.states import State, states
from vssl.pipeline import Point, merge
from vssl.report.table import StatusRow, status_table
from vssl.stage.store import StageStore


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print a line for every stage, and totals."""
    forest = merge(point.chain for point in points)
    found = states(forest, StageStore(Path(cfg.outputs)), Slurm())
    status_table([_row(state) for state in found], sum(state.gpu_hours for state in found))


def _row(state: State) -> StatusRow:
    spec, log = state.spec, str(state.log) if state.log else None
    return StatusRow(spec.name, spec.key, spec.recipe.words, state.status, state.job, state.detail, log)
