"""Which rows a row is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vssl.errors import VsslError
from vssl.report.model import Row
from vssl.stage.spec import StageSpec, content_hash


def with_baselines(rows: Sequence[Row], sweep: Mapping[str, Any]) -> list[Row]:
    """The rows, each with its baselines: those that its entry in the sweep file names, or the whole file
    (`baseline: LABEL`, or several, null for none); where neither says anything, the row from scratch.

    Raises `VsslError` for the label of no row.
    """
    return [replace(row, baselines=_baselines(row, rows, sweep)) for row in rows]


def _baselines(row: Row, rows: Sequence[Row], sweep: Mapping[str, Any]) -> list[str]:
    entries = {entry["label"]: entry for entry in sweep.get("rows") or []}
    # Values that are swept besides stand behind the label of the file: the same stand behind its baselines'.
    own = max((label for label in entries if f"{row.label}, ".startswith(f"{label}, ")), key=len, default="")
    said = {**sweep, **entries.get(own, {})}
    if "baseline" not in said:
        return _from_scratch(row, rows)
    stated = said["baseline"] or []
    labels = [stated] if isinstance(stated, str) else list(stated)
    if unknown := [label for label in labels if label not in entries]:
        raise VsslError(f"baseline: {unknown[0]}: no row of the sweep file is called that; give its label")
    found = [f"{label}{row.label[len(own) :]}" for label in labels]
    return [label for label in found if label != row.label and label in {other.label for other in rows}]


def _from_scratch(row: Row, rows: Sequence[Row]) -> list[str]:
    """The one row that pretrains nothing and is trained on labels and tested as this one, which does; none
    if there are more."""
    own = _tests(row)
    alike = [one.label for one in rows if not _pretrains(one) and own and own <= _tests(one)]
    return alike if _pretrains(row) and len(alike) == 1 else []


def _pretrains(row: Row) -> bool:
    specs = [stage.spec for stage in row.stages]
    return any(_is_pretraining(spec) or spec.recipe.init for spec in specs)


def _is_pretraining(spec: StageSpec) -> bool:
    return spec.kind.trains and not spec.kind.labelled


def _tests(row: Row) -> set[tuple[str, str]]:
    """What is done with labels and in the test, whatever the weights and the seed, and in which column."""
    return {(run.column.name, _as_from_scratch(run.test.spec)) for run in row.runs}


def _as_from_scratch(test: StageSpec) -> str:
    recipes = [
        [spec.name, replace(spec.recipe, seed=0, init=None).to_plain()]
        for spec in test.chain
        if not _is_pretraining(spec)
    ]
    return content_hash(recipes)
