"""The test stage after gallery and queries: retrieval or kNN on their features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vssl.data.dataset import ClipDataset
from vssl.files import write_atomically
from vssl.protocol.neighbours import FeatureSet, Neighbours
from vssl.report.neighbours import Picture, draw_neighbours
from vssl.stage.features import FILE_NAME, build_features
from vssl.stage.parts import build_dataset, check_labels, read_arrays, write_arrays
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

ROWS, COLUMNS = 8, 5
"""Queries on a sheet, and the neighbours shown of each."""


def compare(spec: StageSpec, store: StageStore, task: Neighbours) -> dict[str, Any]:
    """Judge the queries by the gallery; return metrics, protocol and the number of videos.

    Writes `predictions.npz` (kNN), or `neighbours.npz` and a sheet of some queries (retrieval).
    """
    gallery_stage, queries_stage, _ = spec.chain[-3:]
    queries, class_names = _read(queries_stage, store)
    gallery, _ = _read(gallery_stage, store)
    metrics, arrays = task.evaluate(queries, gallery, len(class_names))
    shared = {"labels_V": queries.labels_V, "class_names": class_names}
    if "neighbours_VK" in arrays:
        written = {**arrays, **shared, "gallery_labels_G": gallery.labels_V}
        write_arrays(store.folder(spec) / "neighbours.npz", written)
        _draw(spec, store.folder(spec) / "retrieval.png", arrays["neighbours_VK"], class_names)
    else:
        write_arrays(store.folder(spec) / "predictions.npz", {**arrays, **shared})
    return {
        "metrics": metrics,
        "protocol": _protocol(spec, store),
        "videos": len(queries.labels_V),
    }


def _read(spec: StageSpec, store: StageStore) -> tuple[FeatureSet, list[str]]:
    """Features and labels of a stage, and the names of the classes."""
    arrays = read_arrays(store.folder(spec) / FILE_NAME)
    described = FeatureSet(torch.from_numpy(arrays["features_VD"]), torch.from_numpy(arrays["labels_V"]))
    names: list[str] = arrays["class_names"].tolist()
    check_labels(described.labels_V, len(names), spec)
    return described, names


def _protocol(spec: StageSpec, store: StageStore) -> dict[str, Any]:
    """The protocol of the features, and how they were compared."""
    gallery_stage, queries_stage, _ = spec.chain[-3:]
    described = store.result(queries_stage) or {"protocol": {}}
    options = {name: value for name, value in spec.recipe["task"].items() if name != "_target_"}
    return {
        **described["protocol"],
        "data": dict(gallery_stage.recipe["data"]),
        "test_data": dict(spec.recipe["data"]),
        "test_videos": spec.recipe["data"]["num_videos"],
        "similarity": "cosine",
        **options,
    }


def _draw(spec: StageSpec, path: Path, neighbours_VK: Tensor, class_names: list[str]) -> None:
    """A sheet of queries from all over the test videos, and of their nearest neighbours."""
    gallery, queries = (build_dataset(stage, build_features(stage)) for stage in spec.chain[-3:-1])
    rows = []
    for query in np.unique(np.linspace(0, len(queries) - 1, ROWS).astype(int)).tolist():
        near = neighbours_VK[query, :COLUMNS].tolist()
        right = [gallery.videos[row].label == queries.videos[query].label for row in near]
        pictures = [_picture(gallery, row, class_names, ok) for row, ok in zip(near, right, strict=True)]
        rows.append([_picture(queries, query, class_names, None), *pictures])
    write_atomically(path, draw_neighbours(f"{spec}: a query and its nearest training videos", rows))


def _picture(dataset: ClipDataset, row: int, class_names: list[str], right: bool | None) -> Picture:
    video = dataset.videos[row]
    frame_HWC = dataset.source.read(video, np.array([video.num_frames // 2]))[0]
    return Picture(frame_HWC, "" if video.label is None else class_names[video.label], right)
