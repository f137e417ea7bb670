"""All finished tests as a table of pandas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from vssl.report.collect import all_finished
from vssl.report.formats import cost_record
from vssl.report.model import Run, costs, declared
from vssl.report.predictions import arrays, per_video
from vssl.stage.spec import leaves
from vssl.stage.store import StageStore


def results(outputs: Path, videos: bool) -> pd.DataFrame:
    """See `vssl.results`."""
    rows = all_finished(StageStore(outputs)).rows
    labelled = [(row.label, run) for row in rows for run in row.runs]
    if videos:
        return pd.concat([_videos(label, run) for label, run in labelled], ignore_index=True)
    return pd.DataFrame([dict(_line(label, run)) for label, run in labelled])


def _line(label: str, run: Run) -> Iterator[tuple[str, Any]]:
    """One test: what it is, its metrics, costs of its chain, what its test noted, all recipes."""
    yield from _named(label, run).items()
    yield from run.metrics.items()
    yield from cost_record(costs(run.stages)).items()
    noted = run.test.result.protocol if run.test.result else {}
    yield from ((f"protocol.{path}", value) for path, value in leaves(noted))
    for spec in run.test.spec.chain:
        yield from ((f"{spec.name}.{path}", value) for path, value in leaves(spec.recipe.to_plain()))


def _named(label: str, run: Run) -> dict[str, Any]:
    return {"test": run.test.spec.key, "label": label, "data": run.column.label, "seed": run.seed}


def _videos(label: str, run: Run) -> pd.DataFrame:
    """A line for each test video; none where the test left no arrays."""
    folder = run.test.stage.folder
    if (found := arrays(folder, "labels_V", "class_names")) is None:
        return pd.DataFrame()
    labels_V, names = found
    values = {one.name: per_video(folder, one.name) for one in declared([run])}
    known = {name: values_V for name, values_V in values.items() if values_V is not None}
    about = {**_named(label, run), "video": range(len(labels_V)), "class": names[labels_V]}
    return pd.DataFrame({**about, "predicted": names[_predicted(folder)], **known})


def _predicted(folder: Path) -> Any:
    """The class [V] with the highest score, or that of the nearest neighbour."""
    if scores := arrays(folder, "scores_VN"):
        return scores[0].argmax(axis=1)
    found = arrays(folder, "neighbours_VK", "gallery_labels_G")
    assert found, "a test leaves scores or neighbours"
    return found[1][found[0][:, 0]]
