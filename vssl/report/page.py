"""A report as one HTML page that needs nothing beside it: no network, no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vssl.report import formats
from vssl.report.model import Column, Report, Row, Stage, cell, missing
from vssl.report.plots import GRID, INK, Picture

COSTS = ["wall time", "compute", "clips seen", "peak memory", "energy", "accuracy per hour (one run)"]
_DARK = (
    "<style>svg{{--ink:{ink};--grid:{grid}}}"
    "@media (prefers-color-scheme:dark){{svg{{--ink:#e9e9ee;--grid:#3a3a42}}}}</style>"
)


def to_html(report: Report, pictures: Sequence[Picture]) -> str:
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
        heads=[_head(column) for column in report.columns],
        cost_names=COSTS,
        pictures=[_picture(one) for one in pictures if one.row is None],
        missing=[formats.missing_words(one) for one in missing(report)],
    )


def _head(column: Column) -> str:
    return " ".join(filter(None, [column.label, formats.metric_words(column.metric)]))


def _row(report: Report, number: int, row: Row, pictures: Sequence[Picture]) -> dict[str, Any]:
    return {
        "number": number,
        "label": row.label,
        "cells": [_cell(row, column) for column in report.columns],
        "costs": formats.costs(report, row),
        "protocol": formats.protocol(row),
        "stages": [_stage(row, stage) for stage in row.stages],
        "pictures": [_picture(one) for one in pictures if one.row == number - 1],
    }


def _cell(row: Row, column: Column) -> dict[str, Any]:
    one = cell(row, column)
    return {
        "head": _head(column),
        "ours": formats.mean_sd(one),
        "asked": one.asked,
        "done": bool(one.values),
        "seeds": formats.seeds(one),
        "small": f"{one.data}, {formats.seeds_words(one)}" if one.values else formats.seeds_words(one),
        "data": one.data,
        "published": formats.number(one.published),
        "difference": formats.signed(one.difference),
        "sign": "" if one.difference is None else "up" if one.difference >= 0 else "down",
        "other_data": one.other_data if one.published is not None else "",
    }


def _stage(row: Row, stage: Stage) -> dict[str, Any]:
    seeds = sorted({run.seed for run in row.runs if stage in run.stages})
    return {
        "name": stage.name,
        "key": stage.key,
        "seeds": ", ".join(map(str, seeds)),
        "state": stage.state,
        "detail": stage.detail,
        "costs": formats.stage_costs(stage),
        "recipe": stage.recipe,
    }


def _picture(picture: Picture) -> dict[str, str]:
    if picture.svg is None:
        source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    else:
        source = f"data:image/svg+xml;base64,{base64.b64encode(_two_toned(picture.svg).encode()).decode()}"
    return {"source": source, "caption": picture.caption, "kind": "wide" if picture.wide else "narrow"}


def _two_toned(svg: str) -> str:
    """The drawing with words and lines that suit the reader's ground, light or dark."""
    svg = svg.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    return re.sub(r"(<svg[^>]*>)", rf"\1{_DARK.format(ink=INK, grid=GRID)}", svg, count=1)
