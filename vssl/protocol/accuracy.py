"""Accuracy of a classifier that sees several clips of each video."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from vssl.errors import VsslError, nearest

Average = Literal["softmax", "logits"]


def video_scores(logits_VKN: Tensor, average: Average) -> Tensor:
    """Average the clips of each video: softmax probabilities (auxSKD paper, 4.2) or logits (VCOP, RSPNet).

    Returns [V, N]; V videos, K clips, N classes.
    """
    check_average(average)
    return (logits_VKN.softmax(dim=-1) if average == "softmax" else logits_VKN).mean(dim=1)


def check_average(average: str) -> None:
    """Raise `VsslError` if there is no such way to average clips."""
    if average not in get_args(Average):
        raise VsslError(f"test.average={average}: no such way; {nearest(average, get_args(Average))}")


def topk_accuracy(scores_VN: Tensor, labels_V: Tensor, k: int) -> float:
    """Share of rows whose label is among the k highest scores (k is cut at the number of classes).

    A tie counts against the label: with kNN, most classes get no vote at all.
    """
    own_V1 = scores_VN.gather(1, labels_V[:, None])
    rank_V = (~(scores_VN < own_V1)).sum(dim=1)
    is_hit_V = (rank_V <= min(k, scores_VN.shape[1])) & ~own_V1[:, 0].isnan()
    return float(is_hit_V.double().mean())


def mean_class_accuracy(scores_VN: Tensor, labels_V: Tensor) -> float:
    """Top-1 accuracy of each class, averaged over the classes that occur, rare ones as much as others."""
    rows = [labels_V == label for label in sorted(set(labels_V.tolist()))]
    return sum(topk_accuracy(scores_VN[row_V], labels_V[row_V], 1) for row_V in rows) / len(rows)


def accuracies(logits_VKN: Tensor, scores_VN: Tensor, labels_V: Tensor) -> dict[str, float]:
    """Top-1 and top-5 at clip and at video level (by `scores_VN`), and what guessing would give."""
    clip_logits, clip_labels = logits_VKN.flatten(0, 1), labels_V.repeat_interleave(logits_VKN.shape[1])
    return {
        "clip_top1": topk_accuracy(clip_logits, clip_labels, 1),
        "clip_top5": topk_accuracy(clip_logits, clip_labels, 5),
        "video_top1": topk_accuracy(scores_VN, labels_V, 1),
        "video_top5": topk_accuracy(scores_VN, labels_V, 5),
        "mean_class_top1": mean_class_accuracy(scores_VN, labels_V),
        "chance": most_frequent(labels_V),
    }


def most_frequent(labels_V: Tensor) -> float:
    """Accuracy of always naming the most frequent class."""
    return float(torch.bincount(labels_V).max()) / len(labels_V)
