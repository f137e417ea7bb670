"""mode=preview: draw what the stages would train on. Trains nothing."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.checks import make_folder
from vssl.files import write_atomically
from vssl.pipeline import Point, naming_options
from vssl.report.sheet import draw_preview
from vssl.stage.construct import Machine, Stage
from vssl.stage.preview import preview
from vssl.stage.spec import StageSpec, class_name


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Write a sheet for every stage that trains, and print where it is."""
    folder = Path(cfg.outputs) / "preview"
    stages = _checked(points)
    make_folder("outputs", folder)
    for spec, stage in stages.items():
        path = folder / f"{spec.name}-{class_name(spec.recipe.task)}-{spec.key[:8]}.png"
        write_atomically(path, draw_preview(preview(stage, samples=8)))
        print(path)


def _checked(points: Sequence[Point]) -> dict[StageSpec, Stage]:
    """All stages that train, once nothing is wrong with any, whatever machine they are for."""
    stages: dict[StageSpec, Stage] = {}
    for point in points:
        with naming_options(point.cfg):
            for spec in point.chain:
                if spec.kind.trains and spec not in stages:
                    stages[spec] = Stage(spec)
                    stages[spec].check(Machine())
    return stages
