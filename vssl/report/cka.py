"""How alike the features of two rows are: linear CKA on the test videos of retrieval and knn.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019), section 3.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vssl.report.model import Column, Report, Row, Run

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FILE, STAGE = "features.npz", "queries"
"""Where the features of the test videos lie, and the stage that wrote them."""

NAMED = 40
"""Letters of a row's label beside the picture."""

CAPTION = (
    "Linear CKA of the features of the test videos, mean over the seeds that two rows share: 1 if they are "
    "the same up to a rotation and a scale. On the diagonal: between different seeds of a row."
)


class Features(NamedTuple):
    """Features of some videos, each minus its mean, and what their inner products come to.

    centred_VD: float32. norm: Frobenius norm of X'X.
    """

    names: tuple[str, ...]
    centred_VD: NDArray[np.float32]
    norm: float

    @classmethod
    def of(cls, names: tuple[str, ...], features_VD: NDArray[Any]) -> Features:
        """Those of videos with these names, [V, D]."""
        centred_VD = (features_VD - features_VD.mean(axis=0, dtype=np.float64)).astype(np.float32)
        return cls(names, centred_VD, _inner(centred_VD, centred_VD) ** 0.5)


class Similarity(NamedTuple):
    """CKA of some rows, by label; a place is NaN where no two runs can be compared."""

    labels: list[str]
    matrix_RR: NDArray[np.float64]


Similarities = Mapping[Column, Similarity]
"""Of each column that has some."""


def linear_cka(one: Features, other: Features) -> float:
    """|Y'X|^2 / (|X'X| |Y'Y|) in Frobenius norms, of features of the same videos; NaN if those of one of the
    two are the same for all videos."""
    if not one.norm or not other.norm:
        return np.nan
    return _inner(one.centred_VD, other.centred_VD) / (one.norm * other.norm)


def similarities(report: Report) -> Similarities:
    """The rows of each column that have features, if two or more runs have them of the same videos."""
    found = {column: _similarity(report.rows, column) for column in report.columns}
    return {column: one for column, one in found.items() if np.isfinite(one.matrix_RR).any()}


def to_csv(found: Similarities) -> str:
    """A line for each pair of rows."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["column", "row", "other row", "linear CKA"])
    for column, (labels, matrix_RR) in found.items():
        for i, j in np.argwhere(np.isfinite(matrix_RR) & np.tri(len(labels), dtype=bool)):
            writer.writerow([column.name, labels[i], labels[j], f"{matrix_RR[i, j]:.6g}"])
    return file.getvalue()


def draw(found: Similarities, shade: Colormap) -> Figure:
    """A square for each column, with the number in each of its cells."""
    from matplotlib.figure import Figure

    most = max(len(one.labels) for one in found.values())
    size = 2.4 + 0.42 * most
    figure = Figure(figsize=(size * len(found) + 1, size), layout="constrained")
    for place, (column, (labels, matrix_RR)) in enumerate(found.items(), start=1):
        axes = figure.add_subplot(1, len(found), place)
        axes.imshow(matrix_RR, cmap=shade, vmin=0, vmax=1, interpolation="nearest")
        axes.grid(visible=False)
        names = [label if len(label) <= NAMED else f"{label[:NAMED]}..." for label in labels]
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_title(column.label or "linear CKA")
        for (i, j), value in np.ndenumerate(matrix_RR):
            if np.isfinite(value):
                ink = "white" if value > 0.6 else None
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
    return figure


def _similarity(rows: Sequence[Row], column: Column) -> Similarity:
    held = {row.label: _of_runs(row.runs_of(column)) for row in rows}
    held = {label: of_seed for label, of_seed in held.items() if of_seed}
    matrix_RR = np.full((len(held), len(held)), np.nan)
    for i, one in enumerate(held.values()):
        for j, other in enumerate(list(held.values())[:i]):
            matrix_RR[i, j] = matrix_RR[j, i] = _mean([(one[s], other[s]) for s in one if s in other])
        matrix_RR[i, i] = _mean(list(combinations(one.values(), 2)))
    return Similarity(list(held), matrix_RR)


def _of_runs(runs: Sequence[Run]) -> dict[int, Features]:
    """Features of the test videos by seed, of runs that have some."""
    found = {}
    for run in runs:
        for state in run.stages:
            path = state.stage.folder / FILE
            if state.spec.name == STAGE and state.result and path.exists():
                with np.load(path) as arrays:
                    found[run.seed] = Features.of(tuple(arrays["names"].tolist()), arrays["features_VD"])
    return found


def _inner(one_VD: NDArray[np.float32], other_VE: NDArray[np.float32]) -> float:
    """Squared Frobenius norm of Y'X."""
    return float(np.square(one_VD.T @ other_VE, dtype=np.float64).sum())


def _mean(pairs: Sequence[tuple[Features, Features]]) -> float:
    """Mean over the pairs that have the same videos; NaN of none."""
    values = [linear_cka(one, other) for one, other in pairs if one.names == other.names]
    return float(np.mean(values)) if values else np.nan
