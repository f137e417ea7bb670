"""A report as Markdown, CSV and LaTeX, from templates. Shares are in percent everywhere."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vssl.report import comparison
from vssl.report.comparison import INTERVALS, SEEDS, VIDEOS, Comparison
from vssl.report.model import QUICK, Cell, Column, Report, Row, costs, declared, distinct, in_words
from vssl.report.statistics import Interval
from vssl.result import Cost
from vssl.words import MINUS, NONE, count, duration, number

COSTS = ["wall time", "compute", "clips seen", "peak memory", "energy"]
"""What `row_costs` gives of a row, ahead of its rates."""

_MD = str.maketrans({mark: "\\" + mark for mark in "\\|<*_`$["})
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{mark: "\\" + mark for mark in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        NONE: "--",
        MINUS: "$-$",
        "±": r"$\pm$",
        "≥": r"$\geq$",
    }
)


def to_markdown(report: Report) -> str:
    """The table, how to read it, and for every row its protocol and its stages."""
    return render("table.md", _MD, about=_about, **shown(report))


def to_tex(report: Report) -> str:
    """A `table` for `booktabs`; the protocol and the stages of every row stand above it as comments."""
    return render("table.tex", _TEX, about=_about, **shown(report))


def shown(report: Report) -> dict[str, Any]:
    """What every form of the report shows."""
    header, rows = grid(report)
    compared, comparisons = comparison.grid(report.comparisons)
    return {
        "report": report,
        "header": header,
        "rows": rows,
        "compared": compared,
        "comparisons": comparisons,
        "how_compared": comparison.how_to_read(report.comparisons),
        "says": says(report),
        "warning": rehearsal_words(report),
        "how_to_read": how_to_read(report),
        "missing": missing_words(report),
    }


def render(template: str, escapes: Mapping[int, str] | None = None, **values: Any) -> str:
    """Fill a template of this folder. What is put in is escaped: by a table of letters, or as HTML."""

    def finalize(value: Any) -> Any:
        return value if escapes is None or isinstance(value, Markup) else str(value).translate(escapes)

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=escapes is None,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def to_csv(report: Report) -> str:
    """One line for each row, numbers in full: metric of the column, other metrics, costs, protocol, keys."""
    return _csv([_record(report, row) for row in report.rows])


def comparisons_to_csv(report: Report) -> str:
    """One line for each comparison of a row with a baseline, numbers in full."""
    return _csv([_comparison_record(one) for one in report.comparisons])


def _csv(records: Sequence[Mapping[str, object]]) -> str:
    names = dict.fromkeys(name for record in records for name in record)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def grid(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table as text."""
    between = ["published", "difference"] if any(row.published for row in report.rows) else []
    heads = [[column.head, *report.intervals, "seeds", *between, "test data"] for column in report.columns]
    rows = []
    for row in report.rows:
        cells = [row.label]
        for one in map(row.cell, report.columns):
            beside = [one.published_words, one.signed(one.difference)] if between else []
            cells += [one.mean_sd, *one.ends(report.intervals), one.seeds, *beside, one.data or NONE]
        rows.append(cells + row_costs(report, row))
    return ["method", *chain(*heads), *COSTS, "% per hour"], rows


def row_costs(report: Report, row: Row) -> list[str]:
    """The cost of a row's distinct stages as text, in the order of the table's last columns."""
    found = costs(row.stages)
    return [*stage_costs(found), _energy_text(found), _rates(report, row)]


def stage_costs(found: Sequence[Cost]) -> list[str]:
    """Wall time, compute, clips and peak memory of some stages, as in the table."""
    if not found:
        return [NONE] * 4
    return [
        duration(sum(cost.seconds for cost in found)),
        compute_text(found),
        f"{sum(cost.clips for cost in found):,}",
        f"{max(cost.peak_memory_bytes for cost in found) / 2**30:.2f} GiB",
    ]


def compute_text(found: Sequence[Cost]) -> str:
    """GPU hours, and CPU hours where a stage had no GPU."""
    gpu, cpu = sum(cost.gpu_hours for cost in found), sum(cost.cpu_hours for cost in found)
    parts = [f"{_hours(value)} {unit}" for value, unit in ((gpu, "GPU h"), (cpu, "CPU h")) if value]
    return " + ".join(parts) or "0 GPU h"


def _hours(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _energy_text(found: Sequence[Cost]) -> str:
    """With "≥" and the number of stages that had no meter, where some had none."""
    known = [cost.energy_joules for cost in found if cost.energy_joules is not None]
    if not known:
        return "unknown" if found else NONE
    text, unknown = f"{sum(known) / 3.6e6:.3g} kWh", len(found) - len(known)
    return f"≥ {text} ({unknown} of {len(found)} unknown)" if unknown else text


def says(report: Report) -> list[str]:
    """What the table says, in a few sentences."""
    best = [_best(report, column) for column in report.columns]
    compared = comparison.in_a_sentence(report.comparisons)
    done = sum(bool(run.test.result) for run in report.runs)
    stages = distinct(report.runs)
    own = costs(stages, own=True)
    cost = f", {compute_text(own)} in all" if own else ""
    of_stages = f"{len(own)} of {count(len(stages), 'stage')}"
    counts = f"{done} of {count(len(report.runs), 'run')} done: {of_stages}{cost}."
    return [*filter(None, [*best, compared]), *_against_published(report), counts]


def how_to_read(report: Report) -> str:
    """What the numbers are."""
    words = in_words({column.metric.name: column.metric for column in report.columns}.values())
    source = f" Published: {report.source}." if report.source else ""
    intervals = "".join(f" {name}: {INTERVALS[name]}" for name in report.intervals)
    cells = [row.cell(column) for row in report.rows for column in report.columns]
    if any(one.published_over_videos for one in cells):
        source += " Behind it, what the size of its test set alone leaves open (Wilson, 95 %)."
    return (
        f"{words[:1].upper()}{words[1:]}: mean ± sample standard deviation over the seeds.{intervals}"
        f"{source} Costs are sums over the distinct stages of a row, all seeds together, each stage once; "
        "accuracy per hour is for one run. An hour on a CPU is an hour of wall time."
    )


def rehearsal_words(report: Report) -> str:
    """The warning that stands above numbers that mean nothing, or from other videos; "" if none is needed."""
    quick = QUICK if report.is_quick else ""
    other = (
        f"Not as published: {report.rehearsal}. "
        "These numbers cannot be held against the published ones, so no difference is given."
    )
    return " ".join(filter(None, [quick, report.rehearsal and other]))


def protocol(row: Row) -> dict[str, str]:
    """The protocol of a row in words, its seeds last."""
    if row.not_run:
        return {"not run": row.not_run}
    return {**row.facts, "seeds": ", ".join(map(str, row.seeds))}


def _about(report: Report, row: Row) -> dict[str, str]:
    """All that is said of a row beside its numbers."""
    keys = {f"{name} keys": ", ".join(found) for name, found in keys_by_name(row).items()}
    return {**others(report, row), **protocol(row), **keys}


def others(report: Report, row: Row) -> dict[str, str]:
    """The metrics of a row that have no column, for each column in which it has any."""
    found = {}
    for column in report.columns:
        cells = [row.cell(column, metric) for metric in declared(row.runs_of(column))]
        shown = [one for one in cells if one.metric.name != column.metric.name and one.values]
        words = ", ".join(f"{one.metric.label} {one.mean_sd}{one.metric.unit}" for one in shown)
        found[f"{column.name} other metrics".strip()] = words
    return {name: words for name, words in found.items() if words}


def keys_by_name(row: Row) -> dict[str, list[str]]:
    """The keys of the distinct stages of a row."""
    names = dict.fromkeys(stage.spec.name for stage in row.stages)
    return {name: [stage.spec.key for stage in row.stages if stage.spec.name == name] for name in names}


def missing_words(report: Report) -> list[str]:
    """Of each run without a result: which it is, which of its stages is not done, and how that stands."""
    return [
        f"{', '.join(filter(None, [row.label, run.column.name, f'seed {run.seed}']))}: "
        f"{stage.spec.name} {stage.spec.key} {': '.join(filter(None, [stage.status, stage.detail]))}"
        for row in report.rows
        for run in row.runs
        if (stage := run.waits_for)
    ]


def not_run_words(rows: Sequence[Row]) -> list[str]:
    """Why each row that is there for its published numbers alone cannot run."""
    return [f"{row.label}: {row.not_run}" for row in rows if row.not_run]


def _best(report: Report, column: Column) -> str:
    cells = [(row.label, row.cell(column)) for row in report.rows]
    reached = [(one.mean, label, one) for label, one in cells if one.mean is not None]
    if len(reached) < 2:
        return ""
    choose = max if column.metric.larger_is_better else min
    best, label, one = choose(reached, key=lambda found: found[0])
    ties = sum(value == best for value, _, _ in reached) - 1
    also = f" and {count(ties, 'other row')}" if ties else ""
    measured = f"{count(len(one.values), 'seed')}; {one.data}"
    extreme = "Highest" if column.metric.larger_is_better else "Lowest"
    return f"{extreme} {column.head}: {label}{also}, {one.mean_sd}{column.metric.unit} ({measured})."


def _against_published(report: Report) -> list[str]:
    """A sentence for all metrics in percent together, and one for each other metric."""
    cells = [row.cell(column) for row in report.rows for column in report.columns]
    found: dict[str, list[tuple[float, Cell]]] = {}
    for one in cells:
        if one.difference is not None:
            unit = "points" if one.metric.percent else f"in {one.metric.label}"
            found.setdefault(unit, []).append((one.difference, one))
    return [_differences(unit, [value for value, _ in some], some[0][1]) for unit, some in found.items()]


def _differences(unit: str, values: Sequence[float], one: Cell) -> str:
    span = f"{one.signed(min(values))} to {one.signed(max(values))}"
    words = span if len(values) > 1 else one.signed(values[0])
    average = f"over {count(len(values), 'number')}, {one.signed(mean(values))} on average"
    return f"Ours minus published: {words} {unit} {average}."


def _rates(report: Report, row: Row) -> str:
    """Accuracy per hour with the unit of the hour, for each column that has one."""
    rates = [(column.name, row.cell(column).efficiency) for column in report.columns]
    found = [(label, f"{number(rate[0])} per {rate[1]}") for label, rate in rates if rate]
    named = len(report.columns) > 1
    return "; ".join(f"{label} {text}" if named else text for label, text in found) or NONE


def _record(report: Report, row: Row) -> dict[str, object]:
    record: dict[str, object] = {"label": row.label}
    for column in report.columns:
        record |= _cell_record(row, column)
    record |= cost_record(costs(row.stages))
    keys = {f"{name} keys": " ".join(some) for name, some in keys_by_name(row).items()}
    return {**record, **protocol(row), **keys}


def cost_record(found: Sequence[Cost]) -> dict[str, Any]:
    """What some stages took together, in full; nothing of none."""
    if not found:
        return {}
    known = [cost.energy_joules for cost in found if cost.energy_joules is not None]
    return {
        "wall_seconds": sum(cost.seconds for cost in found),
        "gpu_hours": sum(cost.gpu_hours for cost in found),
        "cpu_hours": sum(cost.cpu_hours for cost in found),
        "clips": sum(cost.clips for cost in found),
        "peak_memory_bytes": max(cost.peak_memory_bytes for cost in found),
        "energy_joules": sum(known) if known else None,
        "energy_joules stages unknown": len(found) - len(known),
    }


def _cell_record(row: Row, column: Column) -> dict[str, object]:
    record: dict[str, object] = {}
    for metric in {one.name: one for one in [column.metric, *declared(row.runs_of(column))]}.values():
        one, name = row.cell(column, metric), f"{column.name} {metric.name}".strip()
        record[f"{name} mean"], record[f"{name} sd"] = _full(one.mean), _full(one.sd)
    one = row.cell(column)
    rate = one.efficiency
    beside = {
        **_ends(SEEDS, one.over_seeds),
        **_ends(VIDEOS, one.over_videos),
        "seeds done": len(one.values),
        "seeds asked": one.asked,
        "published": _full(one.published),
        **_ends(f"published {VIDEOS}", one.published_over_videos),
        "difference": _full(one.difference),
        "test data": one.data,
        "not comparable": one.other_data,
        "percent per hour": _full(rate[0]) if rate else "",
        "hour": rate[1] if rate else "",
    }
    return record | {f"{column.name} {name}".strip(): value for name, value in beside.items()}


def _comparison_record(one: Comparison) -> dict[str, object]:
    return {
        "label": one.row.label,
        "minus": one.baseline,
        "column": one.column.label,
        "metric": one.metric.name,
        "seeds": len(one.differences),
        "difference": _full(one.mean),
        **_ends(SEEDS, one.over_seeds),
        **_ends(VIDEOS, one.over_videos),
        "p": _full(one.p),
        "p Holm": _full(one.adjusted),
        "comparisons": one.among,
        "smallest detectable": _full(one.detectable),
        "distinguishable": "yes" if one.is_distinguishable else "no",
        "in words": one.words,
    }


def _ends(name: str, ends: Interval | None) -> dict[str, object]:
    low, high = ends or (None, None)
    return {f"{name} low": _full(low), f"{name} high": _full(high)}


def _full(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
