"""Accuracy of a classifier that sees several clips of each video."""

import torch
from torch import Tensor

from vssl.result import Metric

CLIP_METRICS = (Metric("clip_top1", "clip top-1"), Metric("clip_top5", "clip top-5"))
CHANCE = Metric("chance", "chance")
VIDEO_METRICS = (
    Metric("video_top1", "video top-1", headline=True),
    Metric("video_top5", "video top-5"),
    Metric("mean_class_top1", "mean class top-1"),
    CHANCE,
)


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


def clip_metrics(logits_VKN: Tensor, labels_V: Tensor) -> dict[str, float]:
    """Top-1 and top-5 of single clips."""
    clip_logits, clip_labels = logits_VKN.flatten(0, 1), labels_V.repeat_interleave(logits_VKN.shape[1])
    return {f"clip_top{k}": topk_accuracy(clip_logits, clip_labels, k) for k in (1, 5)}


def video_metrics(scores_VN: Tensor, labels_V: Tensor) -> dict[str, float]:
    """Top-1 and top-5 of videos, and what guessing would give."""
    return {
        "video_top1": topk_accuracy(scores_VN, labels_V, 1),
        "video_top5": topk_accuracy(scores_VN, labels_V, 5),
        "mean_class_top1": mean_class_accuracy(scores_VN, labels_V),
        "chance": most_frequent(labels_V),
    }


def most_frequent(labels_V: Tensor) -> float:
    """Accuracy of always naming the most frequent class."""
    return float(torch.bincount(labels_V).max()) / len(labels_V)
