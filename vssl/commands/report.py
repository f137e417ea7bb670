"""mode=report: tables, figures and a page from what the store holds. Imports neither torch nor MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl.dispatch.cluster import Slurm
from vssl.dispatch.states import states
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.pipeline import Point, merge
from vssl.report import formats
from vssl.report.model import Column, Curves, Report, Row, missing
from vssl.report.page import to_html
from vssl.report.plots import draw
from vssl.stage.collect import Collector, all_finished, main_column
from vssl.stage.store import StageStore


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Write the report of the sweep, of the points, or, for a single point, of all that the store holds."""
    store = StageStore(Path(cfg.outputs))
    sweep: Any = OmegaConf.to_container(cfg, resolve=True).get("sweep") or {}  # type: ignore[union-attr]
    report = all_finished(store) if not sweep and len(points) == 1 else of_points(points, sweep, store)
    folder = Path(cfg.outputs) / "report" / report.name
    write(report, folder)
    print(*formats.says(report), sep="\n")
    for line in filter(None, [formats.rehearsal_words(report)]):
        print(line)
    for one in missing(report):
        print(f"missing: {formats.missing_words(one)}")
    print(f"\n{folder / 'index.html'}")


def of_points(points: Sequence[Point], sweep: Mapping[str, Any], store: StageStore) -> Report:
    """The report of a sweep file's points, or of points that have no file.

    Raises `VsslError` where two points that differ would stand in one place of the table.
    """
    _check_places(points)
    found = states(merge(point.chain for point in points), store, Slurm())
    collector = Collector(store, {one.spec.key: (one.status, one.detail) for one in found})
    entries = {entry["label"]: entry for entry in sweep.get("rows") or []}
    columns = {entry["label"]: entry for entry in sweep.get("columns") or []}
    rows = []
    for label in dict.fromkeys(point.label for point in points):
        entry = entries.get(label, {})
        places = {(_column(p, sweep), p.seed): p for p in points if p.label == label}
        runs = [
            collector.run(point.chain, column.label, _data_sets(sweep, entry, columns.get(point.column, {})))
            for (column, _), point in places.items()
        ]
        rows.append(Row(label, runs, entry.get("published") or {}, entry.get("series") or "", entry.get("x")))
    name = sweep.get("name", "sweep")
    return Report(
        name=name,
        title=sweep.get("title", name),
        source=sweep.get("source", ""),
        columns=list(dict.fromkeys(_column(point, sweep) for point in points)),
        rows=rows,
        x_label=sweep.get("x_label", ""),
        curves=Curves(**sweep["curves"]) if sweep.get("curves") else None,
    )


def write(report: Report, folder: Path) -> None:
    """Write every file of the report; figures of an earlier one do not stay."""
    pictures = draw(report)
    shutil.rmtree(folder / "figures", ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    for picture in pictures:
        write_atomically(folder / "figures" / f"{picture.name}.png", picture.png)
        if picture.svg is not None:
            write_atomically(folder / "figures" / f"{picture.name}.svg", picture.svg)
    write_atomically(folder / "table.md", formats.to_markdown(report))
    write_atomically(folder / "table.csv", formats.to_csv(report))
    write_atomically(folder / "table.tex", formats.to_tex(report))
    write_atomically(folder / "index.html", to_html(report, pictures))


def _column(point: Point, sweep: Mapping[str, Any]) -> Column:
    """As the sweep file has it; without one, each kind of result has a column."""
    if sweep:
        return Column(point.column, sweep.get("metric", "video_top1"))
    return main_column(point.chain, point.column)


def _data_sets(*entries: Mapping[str, Any]) -> dict[str, str]:
    """Which `source` and `downstream` the overrides of a sweep, a row and a column choose."""
    overrides = [str(line) for entry in entries for line in entry.get("overrides") or []]
    chosen = dict(line.partition("=")[::2] for line in overrides)
    return {group: chosen[group] for group in ("source", "downstream") if group in chosen}


def _check_places(points: Sequence[Point]) -> None:
    seen: dict[tuple[str, str, int], str] = {}
    for point in points:
        key = point.chain[-1].key
        place = (point.label, point.column, point.seed)
        if seen.setdefault(place, key) != key:
            raise VsslError(
                f"two points that differ are both called {point.label!r} {point.column} seed {point.seed}: "
                "ask for one of them at a time, or give each a label in a sweep file"
            )
