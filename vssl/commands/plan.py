"""mode=plan: what a launch would do. Trains nothing, writes nothing, imports neither torch nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.pipeline import Point, describe, merge
from vssl.report.table import PlanRow, plan_table
from vssl.stage.store import StageStore


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print the forest, and how much of it is done."""
    store = StageStore(Path(cfg.outputs))
    forest = merge(point.chain for point in points)
    rows = [
        PlanRow(spec.key, spec.name, describe(spec), "done" if store.result(spec) else "to do", spec.clips)
        for spec in forest
    ]
    plan_table(rows, num_points=len(points), num_asked=sum(len(point.chain) for point in points))
