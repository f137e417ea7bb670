"""mode=preview: draw what the stages would train on. Trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.files import write_atomically
from vssl.pipeline import Point, merge
from vssl.report.sheet import draw_preview
from vssl.stage.construct import Stage
from vssl.stage.preview import preview
from vssl.stage.spec import StageSpec, class_name


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Write a sheet for every stage that trains, and print where it is."""
    folder = Path(cfg.outputs) / "preview"
    for spec in merge(point.chain for point in points):
        if spec.kind.trains:
            print(_write(spec, folder))


def _write(spec: StageSpec, folder: Path) -> Path:
    path = folder / f"{spec.name}-{class_name(spec.recipe.task)}-{spec.key[:8]}.png"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, draw_preview(preview(Stage(spec), samples=8)))
    return path
