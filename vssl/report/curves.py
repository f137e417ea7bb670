"""Training curves of a stage as one small picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vssl.result import References

COLUMNS = 3
NOT_DRAWN = ("step", "time", "epoch")
FEW = 5
"""Fewer points than these are marked: one alone makes no line."""


def draw_curves(lines: Sequence[dict[str, float]], title: str, references: References, path: Path) -> None:
    """Draw every metric of `metrics.jsonl` over the steps, a panel each, and write a PNG.

    What to read a metric against is a dashed line.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state
    from matplotlib.ticker import MaxNLocator

    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in NOT_DRAWN]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * rows), layout="constrained")
    figure.suptitle(title)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        known = [line for line in lines if name in line]
        marker = "." if len(known) < FEW else ""
        axes.plot(
            [line["step"] for line in known], [line[name] for line in known], linewidth=1, marker=marker
        )
        draw_references(axes, references.get(name, {}))
        axes.set_title(name, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def draw_references(axes: Axes, values: Mapping[str, float]) -> None:
    """Draw a dashed line for each value, with its name above."""
    axes.margins(y=0.12)
    for name, value in values.items():
        axes.axhline(value, color="grey", linestyle="--", linewidth=0.8)
        axes.annotate(
            f"{name} {value:.4g}",
            (1, value),
            (-2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=7,
        )
    axes.autoscale_view(scalex=False)
