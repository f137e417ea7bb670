"""What a test found for each of its videos, from the arrays in its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vssl.errors import VsslError

FILES = ("predictions.npz", "neighbours.npz")

MEASURED = {
    "video_top": ("scores_VN", "labels_V"),
    "clip_top": ("logits_VKN", "labels_V"),
    "recall_at_": ("neighbours_VK", "labels_V", "gallery_labels_G"),
}
"""The arrays behind metrics that are means over videos; a number of labels or neighbours follows the name."""

OVER_CLASSES, OF_VIDEOS = "mean_class_top1", "video_top1"
"""A mean over classes, and the metric whose mean over the videos of each class it is the mean of."""


def arrays(folder: Path, *names: str) -> list[NDArray[Any]] | None:
    """Some arrays that a test has left; None if it has left none of that name. Raises `VsslError`."""
    for path in (folder / name for name in FILES if (folder / name).exists()):
        try:
            with np.load(path) as held:
                return [held[name] for name in names] if set(names) <= set(held) else None
        except (ValueError, EOFError, BadZipFile) as error:
            raise VsslError(
                f"{path}: damaged; delete the result.json beside it to run that stage again"
            ) from error
    return None


def per_video(folder: Path, metric: str) -> NDArray[np.float64] | None:
    """The metric of each test video [V], the mean of which is the metric as a share of 1.

    None of one that is no mean over videos, such as a mean over classes, and without arrays.
    """
    match = re.fullmatch(r"(video_top|clip_top|recall_at_)(\d+)", metric)
    if match is None or (found := arrays(folder, *MEASURED[match[1]])) is None:
        return None
    given, labels_V, k = found[0], found[1], int(match[2])
    if match[1] == "recall_at_":
        return np.asarray((found[2][given[:, :k]] == labels_V[:, None]).any(axis=1), dtype=np.float64)
    clips_KV = [_is_among(scores_VN, labels_V, k) for scores_VN in _clips(given)]
    return np.asarray(np.mean(clips_KV, axis=0), dtype=np.float64)


def classes(folder: Path, metric: str) -> NDArray[np.int64] | None:
    """The class of each test video [V], for a metric that is a mean over classes; None for others."""
    found = arrays(folder, "labels_V") if metric == OVER_CLASSES else None
    return found[0] if found else None


def _clips(scores: NDArray[Any]) -> Iterable[NDArray[Any]]:
    """The scores [V,N] of whole videos, or those of one clip of each after the other."""
    return [scores] if scores.ndim == 2 else np.moveaxis(scores, 1, 0)


def _is_among(scores_VN: NDArray[Any], labels_V: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """Whether the label is among the k highest scores; a tie counts against it, as in
    `vssl.protocol.accuracy.topk_accuracy`."""
    own_V1 = np.take_along_axis(scores_VN, labels_V[:, None], axis=1)
    rank_V = (~(scores_VN < own_V1)).sum(axis=1)
    return np.asarray((rank_V <= min(k, scores_VN.shape[1])) & ~np.isnan(own_V1[:, 0]))
