"""Retrieval and classification by nearest neighbours, on one feature vector per video."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vssl.checks import ABOVE_0, at_least
from vssl.errors import OptionError
from vssl.protocol.accuracy import CHANCE, VIDEO_METRICS, video_metrics
from vssl.protocol.evaluation import EvalResult, Evaluation
from vssl.result import Metric

CHUNK = 128
"""Queries at once: their similarities to 240,000 videos of a gallery take 123 MB."""


class FeatureSet(NamedTuple):
    """Videos as features [V,D] (float32) and labels [V] (int64)."""

    features_VD: Tensor
    labels_V: Tensor


class Neighbours(Evaluation):
    """Evaluates features by the nearest gallery videos of each query."""

    @abstractmethod
    def evaluate(self, queries: FeatureSet, gallery: FeatureSet, num_classes: int) -> EvalResult:
        """Compare all queries with the whole gallery. Numbers of neighbours are cut at its size."""

    def facts(self) -> dict[str, Any]:
        """The values, and what makes a neighbour near."""
        return {**super().facts(), "similarity": "cosine"}


@dataclass(frozen=True)
class Retrieval(Neighbours):
    """Share of the queries with a video of their own class among the nearest k, for every k of `ranks`.

    VCOP (Xu et al. 2019, section 4.4). Chance is that of k = 1: a gallery video drawn at random.
    """

    ranks: list[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.ranks, default=0) < 1:
            remedy = "give some from 1 on, as [1,5,10]"
            raise OptionError("ranks", self.ranks, "no number of neighbours", remedy)

    @property
    def metrics(self) -> Sequence[Metric]:
        labels = [Metric(f"recall_at_{k}", f"recall at {k}", headline=k == self.ranks[0]) for k in self.ranks]
        return [*labels, CHANCE]

    def evaluate(self, queries: FeatureSet, gallery: FeatureSet, num_classes: int) -> EvalResult:
        _, neighbours_VK = nearest(queries.features_VD, gallery.features_VD, max(self.ranks))
        hits_VK = gallery.labels_V[neighbours_VK] == queries.labels_V[:, None]
        recalls = {f"recall_at_{k}": float(hits_VK[:, :k].any(dim=1).double().mean()) for k in self.ranks}
        shares_N = torch.bincount(gallery.labels_V, minlength=num_classes) / len(gallery.labels_V)
        chance = float(shares_N[queries.labels_V].double().mean())
        return EvalResult({**recalls, "chance": chance}, {"neighbours_VK": neighbours_VK})


@dataclass(frozen=True)
class NearestNeighbours(Neighbours):
    """Each of the `k` nearest gallery videos votes for its class with weight exp(cosine / temperature).

    Wu et al. 2018, section 3.4. The scores of a query are shares of all votes.
    """

    k: int = field(metadata=at_least(1))
    temperature: float = field(metadata=ABOVE_0)

    metrics = VIDEO_METRICS

    def evaluate(self, queries: FeatureSet, gallery: FeatureSet, num_classes: int) -> EvalResult:
        cosine_VK, neighbours_VK = nearest(queries.features_VD, gallery.features_VD, self.k)
        votes_VK = (cosine_VK / self.temperature).softmax(dim=1)
        scores_VN = torch.zeros(len(votes_VK), num_classes)
        scores_VN.scatter_add_(1, gallery.labels_V[neighbours_VK], votes_VK)
        metrics = video_metrics(scores_VN, queries.labels_V)
        return EvalResult(metrics, {"scores_VN": scores_VN})


def nearest(queries_VD: Tensor, gallery_GD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarity and gallery row of the k nearest of each query, nearest first, both [V,k]."""
    unit_GD = F.normalize(gallery_GD, dim=1)
    found = [
        (F.normalize(some_VD, dim=1) @ unit_GD.T).topk(min(k, len(unit_GD)), dim=1)
        for some_VD in torch.split(queries_VD, CHUNK)
    ]
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])
