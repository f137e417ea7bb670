"""The figures of a report: curves, training curves, confusion, accuracy against cost. PNG and SVG of each.

Also the training curves of one stage."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from textwrap import TextWrapper, fill
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vssl.dispatch.states import State
from vssl.report import cka
from vssl.report.comparison import Comparison
from vssl.report.model import Cell, Column, Curves, Report, Row, Run, distinct
from vssl.report.predictions import arrays
from vssl.report.statistics import Interval
from vssl.result import Metric, References

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

T = TypeVar("T")

INK, GRID = "#1c1c1f", "#d9d9de"
"""Colours of words and lines; a page on dark ground puts others in their place."""

COLOURS = ("#3f7fe0", "#e0702f", "#2f9e77", "#b45fc2", "#c99a1f", "#d8507a", "#4aa3b5", "#8b8f99")
WIDTH = 4.6
"""Inches of a figure that stands beside another one."""

NOT_DRAWN = ("step", "time", "epoch")
FEW = 5
"""Fewer points than these are marked: one alone makes no line."""

MOST_POINTS = 200
"""Points of a training curve; longer ones are drawn as means of neighbours."""

MOST_TICKS = 8
"""Up to how many places of a curve are named at its axis, all of them and no others."""

NAMED_CLASSES, COUNTED_CLASSES = 30, 12
"""Up to how many classes a confusion matrix has their names, and numbers in its cells."""

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "text.parse_math": False,  # labels are words, whatever stands in them
    "svg.hashsalt": "vssl",  # the same report is the same file
}


@dataclass(frozen=True)
class Plot:
    """A figure: name of its files, what it shows, the row it belongs to, if to one, and its two forms.

    `svg` is None of a picture that is no drawing. `wide`: too wide for half a page, or for a phone.
    """

    name: str
    caption: str
    row: int | None
    png: bytes
    svg: str | None
    wide: bool


def draw(report: Report, alike: cka.Similarities | None = None) -> list[Plot]:
    """Every figure that the report has numbers for: those of the whole report first.

    alike: how alike the features of its rows are.
    """
    import matplotlib as mpl  # late: a second, and nobody else needs it

    with mpl.rc_context(_STYLE):
        of_rows = (plot for i, row in enumerate(report.rows) for plot in _of_row(report, i, row))
        return [*_of_report(report, alike), *of_rows]


def _of_report(report: Report, alike: cka.Similarities | None) -> Iterator[Plot]:
    if rows := [row for row in report.rows if any(row.cell(column).values for column in report.columns)]:
        others = "published numbers are left out: these are other videos" if report.rehearsal else ""
        beside = "hollow diamonds: published, with what the size of their test set leaves open"
        published = any(row.cell(column).comparable is not None for row in rows for column in report.columns)
        caption = (
            "What each row reaches: mean over the seeds. Thick: 95 % interval over seeds; thin: over test"
        )
        words = others or (beside if published else "")
        yield _picture(_reached(report, rows), "results", f"{caption} videos{words and '; '}{words}.")
    placed = [row.cell(column) for row in report.rows if row.x is not None for column in report.columns]
    if any(one.values or one.comparable is not None for one in placed):
        others = "Published points are left out: these are other videos."
        beside = others if report.rehearsal else "Hollow diamonds: published."
        caption = f"Mean over the seeds; bars are one sample standard deviation. {beside}"
        yield _picture(_curve(report), "curve", caption)
    if drawn := [one for one in report.comparisons if one.over_seeds or one.over_videos]:
        caption = (
            "Rows minus their baselines. Thick: 95 % interval over seeds; thin, below: over test videos. "
            "Full where distinguishable, hollow where not."
        )
        yield _picture(_differences(drawn), "differences", caption)
    reached = {column: _candidates(report.rows, column) for column in report.columns}
    if chosen := {column: of_rows for column, of_rows in reached.items() if of_rows}:
        caption = "Candidates on held-out training videos, mean over the seeds; rings where chosen."
        yield _picture(_choices(chosen), "choices", caption)
    if report.curves and _named(report.runs, report.curves):
        caption = f"Training curves of the {report.curves.stage} stage; a line for each run."
        yield _picture(_sweep_curves(report, report.curves), "training", caption)
    points = {column: _cost_points(report, column) for column in report.columns}
    if any(points.values()):
        caption = "Results against the cost of one run, from its first stage to its last."
        yield _picture(_accuracy_against_cost(report, points), "cost", caption)
    if alike:
        yield _picture(cka.draw(alike, _shade()), "cka", cka.CAPTION)


def _of_row(report: Report, index: int, row: Row) -> Iterator[Plot]:
    number = f"{index + 1:02}"
    if stages := _trained(row.stages):
        caption = "Training curves of each stage, a line for each run."
        yield _picture(_training(stages), f"training-{number}", caption, index)
    confusions = {column: _confusion(row.runs_of(column)) for column in report.columns}
    if drawn := {column: confusion for column, confusion in confusions.items() if confusion is not None}:
        caption = "Confusion: share of each true class that was taken for each class, mean over the seeds."
        yield _picture(_confusions(row, drawn), f"confusion-{number}", caption, index)
    sheets = [(run, run.test.stage.folder / "retrieval.png") for run in row.runs if run.test.result]
    for place, (run, path) in enumerate([(run, path) for run, path in sheets if path.exists()], start=1):
        caption = f"Queries and their nearest neighbours, seed {run.seed} {run.column.name}".rstrip()
        yield Plot(f"retrieval-{number}-{place}", f"{caption}.", index, path.read_bytes(), None, True)


def _panels(
    parts: Iterable[T], columns: int, width: float, height: float
) -> tuple[Figure, list[tuple[Axes, T]]]:
    """A figure, and a panel of it (in inches) for each part; without pyplot: no window system, no state."""
    from matplotlib.figure import Figure

    parts = list(parts)
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, [(figure.add_subplot(rows, columns, i), part) for i, part in enumerate(parts, start=1)]


def _picture(figure: Figure, name: str, caption: str, row: int | None = None) -> Plot:
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=150, facecolor="white")
    figure.set_layout_engine("none")  # it stands where it shall; half of the time goes into finding that out
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    wide = bool(figure.get_figwidth() > 1.3 * WIDTH)
    return Plot(name, caption, row, png.getvalue(), svg.getvalue(), wide)


def _reached(report: Report, rows: Sequence[Row]) -> Figure:
    """A panel for each column, a line for each row: what it reached, and what was published."""
    short = TextWrapper(width=28, max_lines=2, placeholder=" ...").fill
    labels = [short(row.label) for row in rows]
    figure, panels = _panels(report.columns, len(report.columns), 3.6, 0.0)
    figure.set_size_inches(2.7 * len(panels) + 1.9, 0.9 + 0.36 * len(rows))
    for place, (axes, column) in enumerate(panels):
        for height, row in enumerate(rows):
            _one_result(axes, row.cell(column), height)
        axes.set_yticks(range(len(rows)), labels if place == 0 else [""] * len(rows), fontsize=8)
        axes.set(ylim=(len(rows) - 0.5, -0.5), title=_title(column, rows))
        axes.set_xlabel(_axis(column.metric))
    return figure


def _one_result(axes: Axes, cell: Cell, height: float) -> None:
    """A mean and its intervals, and below it the published number with that of its test set."""
    _interval(axes, cell.over_videos, height, COLOURS[0], 1.0)
    _interval(axes, cell.over_seeds, height, COLOURS[0], 3.5)
    if cell.mean is not None:
        axes.plot([cell.mean], [height], "o", color=COLOURS[0], markersize=6)
    if cell.comparable is not None:
        if ends := cell.published_over_videos:
            axes.plot(ends, [height + 0.28] * 2, color=COLOURS[1], linewidth=1.0)
        axes.plot(
            [cell.comparable], [height + 0.28], "D", color=COLOURS[1], markerfacecolor="none", markersize=5
        )


def _interval(axes: Axes, ends: Interval | None, height: float, colour: str, width: float) -> None:
    if ends:
        axes.plot(ends, [height, height], color=colour, linewidth=width, solid_capstyle="butt")


def _curve(report: Report) -> Figure:
    """Ours with error bars, and published points, over `x`; a colour for each series."""
    placed = [row for row in report.rows if row.x is not None]
    series = dict.fromkeys(row.series for row in placed)
    places: dict[Any, None] = dict.fromkeys(row.x for row in placed)
    figure, panels = _panels(report.columns, len(report.columns), WIDTH, 3.3)
    for axes, column in panels:
        for name, colour in zip(series, cycle(COLOURS), strict=False):
            _one_curve(axes, [row for row in placed if row.series == name], column, name or "ours", colour)
        if len(places) <= MOST_TICKS:
            axes.set_xticks(list(places), map(str, places))
        axes.set(xlabel=report.x_label, ylabel=_axis(column.metric), title=_title(column, report.rows))
        axes.legend(fontsize=8)
    return figure


def _one_curve(axes: Axes, rows: Sequence[Row], column: Column, name: str, colour: str) -> None:
    cells = [(row.x, row.cell(column)) for row in rows]
    ours = [(x, one.mean, one.sd or 0.0) for x, one in cells if one.mean is not None]
    published = [(x, one.comparable) for x, one in cells if one.comparable is not None]
    if ours:
        x, mean, sd = zip(*ours, strict=True)
        axes.errorbar(
            x, mean, yerr=sd, color=colour, marker="o", markersize=4, capsize=3, linewidth=1.4, label=name
        )
    if published:
        x, value = zip(*published, strict=True)
        style: dict[str, Any] = {"linestyle": ":", "marker": "D", "markersize": 5, "markerfacecolor": "none"}
        axes.plot(x, value, color=colour, label=f"{name}, published", linewidth=1, **style)


def _candidates(rows: Sequence[Row], column: Column) -> dict[str, tuple[Sequence[str], Any, Any]]:
    """By row: the candidates, and by seed what they reached (NaN: diverged) and which was chosen."""
    found: dict[str, tuple[Sequence[str], Any, Any]] = {}
    for row in rows:
        choices = [run.choice for run in row.runs_of(column) if run.choice]
        if choices and len({choice.candidates for choice in choices}) == 1:
            reached_SC = np.array([choice.reached for choice in choices], float)
            chosen_SC = np.array([choice.chosen for choice in choices])
            found[row.label] = choices[0].candidates, reached_SC, chosen_SC
    return found


def _choices(chosen: Mapping[Column, Mapping[str, tuple[Sequence[str], Any, Any]]]) -> Figure:
    """A panel for each column, a line for each row."""
    figure, panels = _panels(chosen.items(), len(chosen), 3.3, 2.8)
    for axes, (column, of_rows) in panels:
        for (label, (words, reached_SC, chosen_SC)), colour in zip(
            of_rows.items(), cycle(COLOURS), strict=False
        ):
            mean_C = reached_SC.mean(axis=0)  # no point where a candidate diverged with any seed
            axes.plot(words, mean_C, color=colour, marker=".", linewidth=1.2, label=label)
            often_C = 160 * chosen_SC.mean(axis=0)
            axes.scatter(words, mean_C, s=often_C, facecolors="none", edgecolors=colour)
        axes.set(title=column.name, ylabel="held-out videos (%)")
    panels[0][0].legend(fontsize=7)
    return figure


def _differences(comparisons: Sequence[Comparison]) -> Figure:
    """A panel for each column; a line for each comparison, its intervals around the mean difference."""
    columns = dict.fromkeys(one.column for one in comparisons)
    alike = [[one for one in comparisons if one.column == column] for column in columns]
    figure, panels = _panels(alike, 1, WIDTH, 0.0)
    lines = sum(_compared(one).count("\n") + 2 for one in comparisons)
    figure.set_figheight(0.8 * len(alike) + 0.12 * lines)
    for (axes, found), colour in zip(panels, cycle(COLOURS), strict=False):
        for place, one in enumerate(found):
            _interval(axes, one.over_seeds, place, colour, 3.0)
            _interval(axes, one.over_videos, place + 0.22, colour, 1.0)
            face = colour if one.is_distinguishable else "white"
            axes.plot([one.mean or 0.0], [place], "o", color=colour, markerfacecolor=face, markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(found)), map(_compared, found), fontsize=7)
        axes.set(ylim=(len(found) - 0.5, -0.5), title=found[0].column.name)
        axes.set_xlabel("points" if found[0].metric.percent else found[0].metric.label)
    return figure


def _compared(one: Comparison) -> str:
    """What is compared, in a few short lines."""
    short = TextWrapper(width=32, max_lines=2, placeholder=" ...").fill
    return f"{short(one.row.label)}\n{short(f'minus {one.baseline}')}"


def _named(runs: Sequence[Run], curves: Curves) -> list[State]:
    return [stage for stage in _trained(distinct(runs)) if stage.spec.name == curves.stage]


def _trained(stages: Sequence[State]) -> list[State]:
    trained = [stage for stage in stages if stage.spec.kind.trains and stage.stage.lines]
    return [stage for stage in trained if not stage.spec.recipe.is_candidate]


def _sweep_curves(report: Report, curves: Curves) -> Figure:
    """A panel for each metric; a colour for each series, or for each row where there are no series."""
    names = dict.fromkeys(row.series or row.label for row in report.rows)
    figure, panels = _panels(curves.metrics, len(curves.metrics), 3.3, 2.8)
    for axes, metric in panels:
        for name, colour in zip(names, cycle(COLOURS), strict=False):
            runs = [run for row in report.rows if (row.series or row.label) == name for run in row.runs]
            _lines(axes, _named(runs, curves), metric, colour, name)
        _references(axes, _named(report.runs, curves), metric)
        axes.set_title(metric.replace("_", " "))
    panels[0][0].legend(fontsize=7)
    return figure


def _training(stages: Sequence[State]) -> Figure:
    """A panel for each name of stages and each metric that they logged, in order of first appearance."""
    found = dict.fromkeys((s.spec.name, name) for s in stages for line in s.stage.lines for name in line)
    drawn = [(name, metric) for name, metric in found if metric not in (*NOT_DRAWN, "lr")]
    figure, panels = _panels(drawn, 4, 2.75, 2.1)
    for axes, (name, metric) in panels:
        alike = [stage for stage in stages if stage.spec.name == name]
        _lines(axes, alike, metric, COLOURS[0], "")
        _references(axes, alike, metric)
        axes.set_title(f"{name}: {metric.replace('_', ' ')}")
    return figure


def draw_curves(lines: Sequence[dict[str, float]], title: str, references: References, path: Path) -> None:
    """Draw every metric of a stage's `metrics.jsonl` over the steps, a panel each, and write a PNG.

    What to read a metric against is a dashed line.
    """
    from matplotlib.ticker import MaxNLocator

    names = dict.fromkeys(name for line in lines for name in line if name not in NOT_DRAWN)
    figure, panels = _panels(names, 3, 4, 2.6)
    figure.suptitle(title)
    for axes, name in panels:
        steps, values = zip(*((line["step"], line[name]) for line in lines if name in line), strict=True)
        axes.plot(steps, values, linewidth=1, marker="." if len(steps) < FEW else "")
        draw_references(axes, references.get(name, {}))
        axes.set_title(name, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    _fix_margins(figure)
    figure.savefig(path, dpi=80)


def _fix_margins(figure: Figure) -> None:
    """Margins in inches, instead of finding out how much the labels need: half of the time of drawing."""
    width, height = figure.get_size_inches()
    figure.set_layout_engine(None)
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.15 / width,
        bottom=0.5 / height,
        top=1 - 0.6 / height,
        wspace=0.25,
        hspace=0.5,
    )


def draw_references(axes: Axes, values: Mapping[str, float]) -> None:
    """Draw a dashed line for each value, with its name above."""
    axes.margins(y=0.12)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    for name, value in values.items():
        axes.axhline(value, color="grey", linestyle="--", linewidth=0.8)
        axes.annotate(f"{name} {value:.4g}", (1, value), (-2, 2), ha="right", fontsize=7, **place)
    axes.autoscale_view(scalex=False)


def _lines(axes: Axes, stages: Sequence[State], metric: str, colour: str, label: str) -> None:
    """One line for each stage, over the epochs done, or steps where the lines do not say the epoch."""
    for number, stage in enumerate(stages):
        logged = stage.stage.lines
        known = [line for line in logged if metric in line and not math.isnan(line[metric])]
        if known:
            last, x = logged[-1], "epoch" if "epoch" in known[0] else "step"
            per_step = last["epoch"] / last["step"] if x == "epoch" and last["step"] else 1.0
            places, values = [per_step * step for step in _thin(known, "step")], _thin(known, metric)
            marker = "." if len(values) < FEW else ""
            name = label if number == 0 else None
            axes.plot(places, values, color=colour, marker=marker, linewidth=1, alpha=0.75, label=name)
            axes.set_xlabel(x, fontsize=8)
            axes.locator_params(axis="x", integer=True)


def _references(axes: Axes, stages: Sequence[State], metric: str) -> None:
    """What to read the metric against, where all stages have the same."""
    found = [stage.result.references.get(metric, {}) if stage.result else {} for stage in stages]
    if found and all(values == found[0] for values in found):
        draw_references(axes, found[0])


def _thin(lines: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """Means of neighbouring lines, few enough to draw."""
    size = -(-len(lines) // MOST_POINTS)
    return [float(np.mean([line[name] for line in lines[i : i + size]])) for i in range(0, len(lines), size)]


def _confusion(runs: Sequence[Run]) -> tuple[NDArray[np.float64], list[str]] | None:
    """Share of each true class (row) that was taken for each class, the mean over the runs that have
    predictions of the same classes, and the names of these; else None."""
    found = [one for run in runs if run.test.result and (one := _predicted(run.test.stage.folder))]
    if len({matrix_NN.shape for matrix_NN, _ in found}) != 1:
        return None
    return np.mean([matrix_NN for matrix_NN, _ in found], axis=0), found[0][1]


def _predicted(folder: Path) -> tuple[NDArray[np.float64], list[str]] | None:
    """The same of one test; a class without any video has a row of zeros."""
    if (found := arrays(folder, "scores_VN", "labels_V", "class_names")) is None:
        return None
    scores_VN, labels_V, names = found
    counts_NN = np.zeros((scores_VN.shape[1],) * 2)
    np.add.at(counts_NN, (labels_V, scores_VN.argmax(axis=1)), 1)
    return counts_NN / np.maximum(1, counts_NN.sum(axis=1, keepdims=True)), names.tolist()


def _shade() -> Colormap:
    """Colours of shares. Nothing is transparent: it is the ground of the page, be it light or dark."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    ends = [(*to_rgb(COLOURS[0]), opacity) for opacity in (0.0, 1.0)]
    return LinearSegmentedColormap.from_list("shade", ends)


def _confusions(row: Row, confusions: Mapping[Column, tuple[NDArray[np.float64], list[str]]]) -> Figure:
    shade = _shade()
    figure, panels = _panels(confusions.items(), len(confusions), WIDTH, 4.2)
    for axes, (column, (matrix_NN, names)) in panels:
        axes.imshow(matrix_NN, cmap=shade, vmin=0, vmax=1, interpolation="nearest")
        axes.grid(visible=False)
        _name_classes(axes, matrix_NN, names)
        axes.set(xlabel="taken for", ylabel="true class", title=_title(column, [row]))
    return figure


def _name_classes(axes: Axes, matrix_NN: Any, names: Sequence[str]) -> None:
    count = len(matrix_NN)
    if names and count <= NAMED_CLASSES:
        axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_yticks(range(count), names, fontsize=7)
    if count <= COUNTED_CLASSES:
        for (i, j), share in np.ndenumerate(matrix_NN):
            if share >= 0.005:
                colour = "white" if share > 0.6 else INK
                axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)


def _cost_points(report: Report, column: Column) -> list[tuple[int, float, float, float, str]]:
    """Number of the row, hours, mean, deviation and unit, for all rows whose cost is known."""
    cells = [(number, row.cell(column)) for number, row in enumerate(report.rows, start=1)]
    return [
        (number, one.hours[0], one.mean, one.sd or 0.0, one.hours[1])
        for number, one in cells
        if one.hours and one.mean is not None
    ]


def _accuracy_against_cost(
    report: Report, points: Mapping[Column, Sequence[tuple[int, float, float, float, str]]]
) -> Figure:
    """A panel for each column; rows are numbered, and named below the panels."""
    names: dict[str, Any] = {}
    figure, panels = _panels(points.items(), 1, WIDTH, 2.7)
    lines = sum(-(-len(row.label) // 60) for row in report.rows)
    figure.set_figheight(2.7 * len(points) + 0.16 * lines + 0.2)
    for axes, (column, found) in panels:
        for number, taken, mean, sd, unit in found:
            colour, marker = COLOURS[(number - 1) % len(COLOURS)], "o" if unit == "GPU hour" else "s"
            label = f"({number}) {report.rows[number - 1].label}"
            axes.errorbar(taken, mean, sd, color=colour, marker=marker, markersize=5, capsize=3, label=label)
            axes.annotate(str(number), (taken, mean), (5, 4), textcoords="offset points", fontsize=8)
        units = " or ".join(sorted({unit for *_, unit in found}))
        axes.set(xlabel=f"{units}s of one run", ylabel=_axis(column.metric))
        axes.set_title(_title(column, report.rows))
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        names |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ordered = sorted(names, key=lambda name: int(name[1:].partition(")")[0]))
    handles, words = [names[name] for name in ordered], [fill(name, 64) for name in ordered]
    figure.legend(handles, words, loc="outside lower left", fontsize=7.5, handletextpad=0.4)
    return figure


def _axis(metric: Metric) -> str:
    return f"{metric.label} (%)" if metric.percent else metric.label


def _title(column: Column, rows: Sequence[Row]) -> str:
    """The column, and what was measured instead of the published: a figure is shown without the page, too."""
    runs = [run for row in rows if row.published for run in row.runs_of(column)]
    other = dict.fromkeys(run.other_data for run in runs if run.other_data)
    return f"{column.name} ({'; '.join(other)})" if other else column.name
