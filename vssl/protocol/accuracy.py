"""Accuracy of a classifier that sees several clips of each video."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vssl.errors import VsslError

Average = Literal["softmax", "logits"]


def video_scores(logits_VKN: Tensor, average: Average) -> Tensor:
    """Average the clips of each video: softmax probabilities (auxSKD paper, 4.2) or logits (VCOP, RSPNet).

    Returns [V, N]; V videos, K clips, N classes.
    """
    if average == "softmax":
        return logits_VKN.softmax(dim=-1).mean(dim=1)
    if average == "logits":
        return logits_VKN.mean(dim=1)
    raise VsslError(f"average={average}: no such way to average; valid: softmax, logits")


def topk_accuracy(scores_VN: Tensor, labels_V: Tensor, k: int) -> float:
    """Share of rows whose label is among the k highest scores (k is cut at the number of classes)."""
    best_VK = scores_VN.topk(min(k, scores_VN.shape[1]), dim=1).indices
    return float((best_VK == labels_V[:, None]).any(dim=1).double().mean())


def accuracies(logits_VKN: Tensor, labels_V: Tensor, average: Average) -> dict[str, float]:
    """Top-1 and top-5 at clip and at video level, and what guessing would give."""
    videos, clips, classes = logits_VKN.shape
    scores_VN = video_scores(logits_VKN, average)
    clip_logits = logits_VKN.reshape(videos * clips, classes)
    clip_labels = labels_V.repeat_interleave(clips)
    return {
        "clip_top1": topk_accuracy(clip_logits, clip_labels, 1),
        "clip_top5": topk_accuracy(clip_logits, clip_labels, 5),
        "video_top1": topk_accuracy(scores_VN, labels_V, 1),
        "video_top5": topk_accuracy(scores_VN, labels_V, 5),
        "chance": _most_frequent(labels_V),
    }


def _most_frequent(labels_V: Tensor) -> float:
    """Accuracy of always naming the most frequent class."""
    return float(torch.bincount(labels_V).max()) / len(labels_V)
