"""Training curves of a stage as one small picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

COLUMNS = 3
NOT_DRAWN = ("step", "time", "epoch")


def draw_curves(lines: Sequence[dict[str, float]], title: str, path: Path) -> None:
    """Draw every metric of `metrics.jsonl` over the steps, a panel each, and write a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name not in NOT_DRAWN]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * rows), layout="constrained")
    figure.suptitle(title)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        known = [line for line in lines if name in line]
        axes.plot([line["step"] for line in known], [line[name] for line in known], linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)
