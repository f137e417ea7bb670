"""A report as one HTML page that needs nothing beside it: no network, no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vssl.dispatch.states import State
from vssl.report import formats
from vssl.report.model import Cell, Column, Report, Row, cell, costs
from vssl.report.plots import GRID, INK, Plot
from vssl.stage.store import to_yaml

COSTS = ["wall time", "compute", "clips seen", "peak memory", "energy", "accuracy per hour (one run)"]
_DARK = (
    "<style>svg{{--ink:{ink};--grid:{grid}}}"
    "@media (prefers-color-scheme:dark){{svg{{--ink:#e9e9ee;--grid:#3a3a42}}}}</style>"
)


def to_html(report: Report, pictures: Sequence[Plot]) -> str:
    """The whole page. Everything that is not the page's own is escaped."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        report=report,
        css=Markup((folder / "page.css").read_text()),
        script=Markup((folder / "page.js").read_text()),
        says=formats.says(report),
        warning=formats.rehearsal_words(report),
        how_to_read=formats.how_to_read(report),
        has_published=any(row.published for row in report.rows),
        rows=[_row(report, number, row, pictures) for number, row in enumerate(report.rows, start=1)],
        heads=[column.head for column in report.columns],
        cost_names=COSTS,
        pictures=[_picture(one) for one in pictures if one.row is None],
        missing=formats.missing_words(report),
    )


def _row(report: Report, number: int, row: Row, pictures: Sequence[Plot]) -> dict[str, Any]:
    return {
        "number": number,
        "label": row.label,
        "cells": [_cell(row, column) for column in report.columns],
        "costs": formats.row_costs(report, row),
        "protocol": {**formats.others(report, row), **formats.protocol(row)},
        "stages": [_stage(row, stage) for stage in row.stages],
        "pictures": [_picture(one) for one in pictures if one.row == number - 1],
    }


def _cell(row: Row, column: Column) -> dict[str, Any]:
    one, seeds = cell(row, column), formats.seeds_words(cell(row, column))
    return {
        "head": column.head,
        "ours": one.mean_sd,
        "unit": one.metric.unit,
        "asked": one.asked,
        "done": bool(one.values),
        "seeds": one.seeds,
        "small": f"{one.data}, {seeds}" if one.values else seeds,
        "data": one.data,
        "published": one.words(one.published),
        "difference": one.signed(one.difference),
        "sign": _sign(one),
        "other_data": one.other_data if one.published is not None else "",
    }


def _sign(one: Cell) -> str:
    """Whether ours is the better number."""
    if one.difference is None:
        return ""
    return "better" if one.difference == 0 or (one.difference > 0) == one.metric.larger_is_better else "worse"


def _stage(row: Row, stage: State) -> dict[str, Any]:
    seeds = sorted({run.seed for run in row.runs if stage in run.stages})
    return {
        "name": stage.spec.name,
        "key": stage.spec.key,
        "seeds": ", ".join(map(str, seeds)),
        "state": stage.status,
        "detail": stage.detail,
        "costs": formats.stage_costs(costs([stage])),
        "recipe": to_yaml(stage.spec.to_plain()),
    }


def _picture(picture: Plot) -> dict[str, str]:
    if picture.svg is None:
        source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    else:
        source = f"data:image/svg+xml;base64,{base64.b64encode(_two_toned(picture.svg).encode()).decode()}"
    return {"source": source, "caption": picture.caption, "kind": "wide" if picture.wide else "narrow"}


def _two_toned(svg: str) -> str:
    """The drawing with words and lines that suit the reader's ground, light or dark."""
    svg = svg.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    return re.sub(r"(<svg[^>]*>)", rf"\1{_DARK.format(ink=INK, grid=GRID)}", svg, count=1)
