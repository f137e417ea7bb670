"""A report as one HTML page that needs nothing beside it: no network, no other file."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from vssl.report import formats
from vssl.report.model import Report, costs
from vssl.report.plots import GRID, INK, Plot
from vssl.stage.store import to_yaml

_DARK = (
    "<style>svg{{--ink:{ink};--grid:{grid}}}"
    "@media (prefers-color-scheme:dark){{svg{{--ink:#e9e9ee;--grid:#3a3a42}}}}</style>"
)


def to_html(report: Report, pictures: Sequence[Plot]) -> str:
    """The whole page. Everything that is not the page's own is escaped."""
    folder = Path(__file__).parent
    has_published = any(row.published for row in report.rows)
    beside = [*report.intervals, *(["published", "difference"] if has_published else [])]
    return formats.render(
        "page.html",
        **formats.shown(report),
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup((folder / "page.js").read_text(encoding="utf-8")),
        has_published=has_published,
        heads=[head for column in report.columns for head in (column.head, *beside)],
        pictures=pictures,
        cells=lambda row: [(column, row.cell(column)) for column in report.columns],
        about=lambda row: {**formats.others(report, row), **formats.protocol(row)},
        costs=costs,
        source=_source,
        to_yaml=to_yaml,
        formats=formats,
    )


def _source(picture: Plot) -> str:
    """The picture itself as an address; a drawing in colours that suit the reader's ground, light or dark."""
    if picture.svg is None:
        return f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    svg = picture.svg.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    svg = re.sub(r"(<svg[^>]*>)", rf"\1{_DARK.format(ink=INK, grid=GRID)}", svg, count=1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
