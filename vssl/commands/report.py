"""mode=report: tables, figures and a page from what the store holds. Imports neither torch nor MLflow."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vssl.checks import naming_place
from vssl.dispatch.cluster import Slurm
from vssl.dispatch.states import states
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.pipeline import Point, merge, plain
from vssl.report import cka, formats
from vssl.report.collect import all_finished, of_points
from vssl.report.model import Report
from vssl.report.page import to_html
from vssl.report.plots import draw
from vssl.stage.store import StageStore


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Write the report of the sweep, of the points, or, for a single point, of all that the store holds."""
    store = StageStore(Path(cfg.outputs))
    sweep = sweep_of(cfg)
    if not sweep and len(points) == 1:
        report = all_finished(store)
    else:
        _check_places(points)
        report = of_points(points, sweep, states(merge(point.chain for point in points), store, Slurm()))
    folder = Path(cfg.export.out or Path(cfg.outputs) / "report") / report.name
    with naming_place("export.out", folder):  # the store may be somebody else's
        write(report, folder)
    print(*formats.says(report), sep="\n")
    if warning := formats.rehearsal_words(report):
        print(warning)
    for words in formats.missing_words(report):
        print(f"missing: {words}")
    for words in formats.not_run_words(report.rows):
        print(f"not run: {words}")
    print(f"\n{folder / 'index.html'}")


def sweep_of(cfg: DictConfig) -> dict[str, Any]:
    """What the sweep file says of its table; nothing without one."""
    return plain(cfg.get("sweep")) or {}


def write(report: Report, folder: Path) -> None:
    """Write every file of the report; figures of an earlier one do not stay."""
    alike = cka.similarities(report)
    pictures = draw(report, alike)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    for picture in pictures:
        write_atomically(folder / "figures" / f"{picture.name}.png", picture.png)
        if picture.svg is not None:
            write_atomically(folder / "figures" / f"{picture.name}.svg", picture.svg)
    write_atomically(folder / "table.md", formats.to_markdown(report))
    write_atomically(folder / "table.csv", formats.to_csv(report))
    write_atomically(folder / "comparisons.csv", formats.comparisons_to_csv(report))
    write_atomically(folder / "table.tex", formats.to_tex(report))
    write_atomically(folder / "cka.csv", cka.to_csv(alike))
    write_atomically(folder / "index.html", to_html(report, pictures))


def _check_places(points: Sequence[Point]) -> None:
    """Raise `VsslError` where two points that differ would stand in one place of the table."""
    seen: dict[tuple[str, str, int], str] = {}
    for point in points:
        key = point.chain[-1].key
        place = (point.label, point.column, point.seed)
        if seen.setdefault(place, key) != key:
            raise VsslError(
                f"two points that differ are both called {point.label!r} {point.column} seed {point.seed}; "
                "ask for one of them at a time, or give each a label in a sweep file"
            )
