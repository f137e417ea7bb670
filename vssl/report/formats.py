"""A report as Markdown, CSV and LaTeX. Accuracies are in percent everywhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean

from vssl.report.model import (
    Cell,
    Column,
    Missing,
    Report,
    Row,
    Stage,
    Total,
    cell,
    distinct,
    efficiency,
    missing,
    total,
)
from vssl.report.progress import duration

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_COST_HEADER = ["wall time", "compute", "clips seen", "peak memory", "energy", "% per hour"]
_TEX = {
    "\\": r"\textbackslash{}",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    NONE: "--",
    MINUS: "$-$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
}


def to_markdown(report: Report) -> str:
    """The table, how to read it, and for every row its protocol and its stages."""
    header, rows = grid(report)
    lines = [f"# {_md(report.title)}", ""]
    if report.rehearsal:
        lines += [f"**{_md(rehearsal_words(report))}**", ""]
    lines += [_md(" ".join(says(report))), ""]
    lines += [_md_row(header), _md_row(["---"] + ["--:"] * (len(header) - 1)), *map(_md_row, rows)]
    lines += [
        "",
        _md(how_to_read(report)),
        "",
        "## Missing",
        "",
        *(_missing_lines(report) or ["Nothing."]),
        "",
        "## Rows",
    ]
    for row in report.rows:
        lines += ["", f"### {_md(row.label)}", ""]
        lines += [f"- {name}: {_md(words)}" for name, words in protocol(row).items()]
        lines += [f"- {name} keys: {', '.join(keys)}" for name, keys in keys_by_name(row).items()]
    return "\n".join(lines) + "\n"


def to_tex(report: Report) -> str:
    """A `table` for `booktabs`; the protocol and the stages of every row stand above it as comments."""
    header, rows = grid(report)
    lines = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", _tex_row(header), r"\midrule"]
    for row, cells in zip(report.rows, rows, strict=True):
        facts = {**protocol(row), **{f"{n} keys": ", ".join(keys) for n, keys in keys_by_name(row).items()}}
        lines += [f"% {name}: {' '.join(words.split())}" for name, words in facts.items()]
        lines.append(_tex_row(cells))
    caption = " ".join([f"{report.title}.", rehearsal_words(report), how_to_read(report)])
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(' '.join(caption.split()))}}}"]
    lines += [f"% missing: {' '.join(missing_words(one).split())}" for one in missing(report)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_csv(report: Report) -> str:
    """One line for each row, numbers in full: metric of the column, other metrics, costs, protocol, keys."""
    records = [_record(report, row) for row in report.rows]
    names = dict.fromkeys(name for record in records for name in record)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def grid(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table as text."""
    published = any(row.published for row in report.rows)
    header = ["method"]
    for column in report.columns:
        header.append(" ".join(filter(None, [column.label, metric_words(column.metric)])))
        header += ["seeds", *(["published", "difference"] if published else []), "test data"]
    rows = [
        [row.label]
        + [text for column in report.columns for text in _cell_texts(cell(row, column), published)]
        + costs(report, row)
        for row in report.rows
    ]
    return [*header, *_COST_HEADER], rows


def _cell_texts(one: Cell, published: bool) -> list[str]:
    beside = [number(one.published), signed(one.difference)] if published else []
    return [mean_sd(one), seeds(one), *beside, one.data or NONE]


def costs(report: Report, row: Row) -> list[str]:
    """The cost of a row's distinct stages as text, in the order of the table's last columns."""
    stages = row.stages
    return [
        total_text(total(stages, lambda c: c.seconds), duration),
        compute_text(stages),
        total_text(total(stages, lambda c: c.clips), lambda n: f"{n:,.0f}"),
        total_text(total(stages, lambda c: c.memory_bytes, highest=True), _memory),
        total_text(total(stages, lambda c: c.energy_joules), _energy),
        _rates(report, row),
    ]


def stage_costs(stage: Stage) -> list[str]:
    """Wall time, compute, clips and peak memory of one stage, as in the table."""
    one = [stage]
    return [
        total_text(total(one, lambda c: c.seconds), duration),
        compute_text(one),
        total_text(total(one, lambda c: c.clips), lambda n: f"{n:,.0f}"),
        total_text(total(one, lambda c: c.memory_bytes, highest=True), _memory),
    ]


def total_text(one: Total, words: Callable[[float], str]) -> str:
    """A part of the cost: "≥" and the number of stages that did not measure it, where some did not."""
    if not one.stages:
        return NONE
    if one.unknown == one.stages:
        return "unknown"
    text = words(one.value)
    return f"≥ {text} ({one.unknown} of {one.stages} unknown)" if one.unknown else text


def compute_text(stages: Sequence[Stage]) -> str:
    """GPU hours, and CPU hours where a stage had no GPU."""
    gpu, cpu = total(stages, lambda c: c.gpu_hours), total(stages, lambda c: c.cpu_hours)
    parts = [(gpu.value, "GPU h"), (cpu.value, "CPU h")]
    words = " + ".join(f"{_hours(value)} {unit}" for value, unit in parts if value) or "0 GPU h"
    return total_text(gpu, lambda _: words)


def says(report: Report) -> list[str]:
    """What the table says, in a few sentences."""
    best = [_best(report, column) for column in report.columns]
    done = sum(run.metrics is not None for run in report.runs)
    stages = distinct(report.runs)
    own = [replace(stage, cost=stage.cost and stage.cost.own) for stage in stages]
    cost = f", {compute_text(own)} in all" if total(own, lambda c: c.seconds).stages else ""
    finished = sum(stage.cost is not None for stage in stages)
    of_stages = f"{finished} of {_count(len(stages), 'stage')}"
    counts = f"{done} of {_count(len(report.runs), 'run')} done: {of_stages}{cost}."
    return [*filter(None, best), *_against_published(report), counts]


def how_to_read(report: Report) -> str:
    """What the numbers are."""
    metrics = ", ".join(dict.fromkeys(metric_words(column.metric) for column in report.columns))
    source = f" Published: {report.source}." if report.source else ""
    return (
        f"{metrics[:1].upper()}{metrics[1:]} in percent: mean ± sample standard deviation over the seeds."
        f"{source} Costs are sums over the distinct stages of a row, all seeds together, each stage once; "
        "accuracy per hour is for one run. An hour on a CPU is an hour of wall time."
    )


def rehearsal_words(report: Report) -> str:
    """The warning that stands above numbers from other videos; "" if none is needed."""
    if not report.rehearsal:
        return ""
    return (
        f"Not the published data: {report.rehearsal}. "
        "These numbers cannot be held against the published ones, so no difference is given."
    )


def protocol(row: Row) -> dict[str, str]:
    """The protocol of a row in words, its seeds last."""
    return {**row.facts, "seeds": ", ".join(map(str, row.seeds))}


def keys_by_name(row: Row) -> dict[str, list[str]]:
    """The keys of the distinct stages of a row."""
    names = dict.fromkeys(stage.name for stage in row.stages)
    return {name: [stage.key for stage in row.stages if stage.name == name] for name in names}


def mean_sd(one: Cell) -> str:
    """Mean and deviation with one decimal; a mean alone of one seed."""
    return f"{number(one.mean)} ± {one.sd:.1f}" if one.sd is not None else number(one.mean)


def number(value: float | None) -> str:
    """One decimal, or a dash."""
    return NONE if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """One decimal with its sign, or a dash."""
    return NONE if value is None else f"{value:+.1f}".replace("-", MINUS)


def seeds(one: Cell) -> str:
    """How many seeds are done, of how many; a dash where none was asked for."""
    if not one.asked:
        return NONE
    return str(one.asked) if len(one.values) == one.asked else f"{len(one.values)} of {one.asked}"


def seeds_words(one: Cell) -> str:
    """The same with the noun."""
    return f"{seeds(one)} {'seed' if one.asked == 1 else 'seeds'}"


def metric_words(metric: str) -> str:
    """`video_top1` as people write it."""
    return metric.replace("_", " ").replace("top", "top-")


def missing_words(one: Missing) -> str:
    """Which run, which of its stages, and how that stands."""
    run = ", ".join(filter(None, [one.label, one.column, f"seed {one.seed}"]))
    state = f"{one.stage.state}: {one.stage.detail}" if one.stage.detail else one.stage.state
    return f"{run}: {one.stage.name} {one.stage.key} {state}"


def _best(report: Report, column: Column) -> str:
    cells = [(row.label, cell(row, column)) for row in report.rows]
    reached = [(one.mean, label, one) for label, one in cells if one.mean is not None]
    if len(reached) < 2:
        return ""
    best, label, one = max(reached, key=lambda found: found[0])
    ties = sum(value == best for value, _, _ in reached) - 1
    also = f" and {_count(ties, 'other row')}" if ties else ""
    where = " ".join(filter(None, [column.label, metric_words(column.metric)]))
    return f"Best {where}: {label}{also}, {mean_sd(one)} % ({_count(len(one.values), 'seed')}; {one.data})."


def _against_published(report: Report) -> list[str]:
    cells = [cell(row, column) for row in report.rows for column in report.columns]
    found = [one.difference for one in cells if one.difference is not None]
    if not found:
        return []
    words = f"{signed(min(found))} to {signed(max(found))}" if len(found) > 1 else signed(found[0])
    average = f"over {_count(len(found), 'number')}, {signed(mean(found))} on average"
    return [f"Ours less published: {words} points {average}."]


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _rates(report: Report, row: Row) -> str:
    """Accuracy per hour with the unit of the hour, for each column that has one."""
    rates = [(column.label, efficiency(row, column)) for column in report.columns]
    found = [(label, f"{_short(rate[0])} per {rate[1]}") for label, rate in rates if rate]
    named = len(report.columns) > 1
    return "; ".join(f"{label} {text}" if named else text for label, text in found) or NONE


def _missing_lines(report: Report) -> list[str]:
    return [f"- {_md(' '.join(missing_words(one).split()))}" for one in missing(report)]


def _record(report: Report, row: Row) -> dict[str, object]:
    record: dict[str, object] = {"label": row.label}
    for column in report.columns:
        record |= _cell_record(row, column)
    parts = {
        "wall_seconds": total(row.stages, lambda c: c.seconds),
        "gpu_hours": total(row.stages, lambda c: c.gpu_hours),
        "cpu_hours": total(row.stages, lambda c: c.cpu_hours),
        "clips": total(row.stages, lambda c: c.clips),
        "peak_memory_bytes": total(row.stages, lambda c: c.memory_bytes, highest=True),
        "energy_joules": total(row.stages, lambda c: c.energy_joules),
    }
    for name, one in parts.items():
        record[name] = one.value if one.unknown < one.stages else ""
        record[f"{name} stages unknown"] = one.unknown
    keys = {f"{name} keys": " ".join(found) for name, found in keys_by_name(row).items()}
    return {**record, **protocol(row), **keys}


def _cell_record(row: Row, column: Column) -> dict[str, object]:
    runs = [run for run in row.runs if run.column == column.label]
    others = sorted({name for run in runs for name in run.metrics or {}} - {column.metric})
    record: dict[str, object] = {}
    for metric in [column.metric, *others]:
        one, name = cell(row, column, metric), f"{column.label} {metric}".strip()
        record[f"{name} mean"], record[f"{name} sd"] = _full(one.mean), _full(one.sd)
    one, rate = cell(row, column), efficiency(row, column)
    beside = {
        "seeds done": len(one.values),
        "seeds asked": one.asked,
        "published": _full(one.published),
        "difference": _full(one.difference),
        "test data": one.data,
        "not comparable": one.other_data,
        "percent per hour": _full(rate[0]) if rate else "",
        "hour": rate[1] if rate else "",
    }
    return record | {f"{column.label} {name}".strip(): value for name, value in beside.items()}


def _full(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _hours(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _memory(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _energy(joules: float) -> str:
    return f"{joules / 3.6e6:.3g} kWh"


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_md(text) for text in cells) + " |"


def _md(text: str) -> str:
    for mark in "\\|<*_`$[":
        text = text.replace(mark, "\\" + mark)
    return text


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
