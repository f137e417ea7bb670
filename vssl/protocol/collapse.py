"""Signs that features collapse: all videos alike, or spread along few directions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def feature_std(features_VD: Tensor) -> float:
    """Standard deviation of the unit vectors over the videos, mean over the dimensions, times sqrt(D).

    1 for directions as even as Gaussian noise, 0 when all videos look alike (Chen & He 2021, section 4.1).
    Features that are never negative, as after a ReLU, stay well below 1.
    """
    units_VD = F.normalize(features_VD.double(), dim=1)
    return float(units_VD.std(dim=0, correction=0).mean()) * math.sqrt(features_VD.shape[1])


def mean_cosine(features_VD: Tensor) -> float:
    """Cosine similarity of two different videos, mean over all pairs: 1 when all look alike."""
    units_VD = F.normalize(features_VD.double(), dim=1)
    videos = len(units_VD)
    all_pairs = units_VD.sum(dim=0).square().sum() - units_VD.square().sum()
    return float(all_pairs) / (videos * (videos - 1))


def effective_rank(features_VD: Tensor) -> float:
    """How many directions the features spread along, the mean taken off: exp of the entropy of the singular
    values as shares of their sum (Roy & Vetterli 2007). From 1 to min(V - 1, D).

    0 where features differ by no more than rounding, NaN where they are not finite.
    """
    if not features_VD.isfinite().all():
        return math.nan
    exact_VD = features_VD.double()
    values = torch.linalg.svdvals(exact_VD - exact_VD.mean(dim=0))
    values = values[values > torch.finfo(torch.float32).eps * exact_VD.norm()]
    shares = values / values.sum()
    return math.exp(float(torch.special.entr(shares).sum())) if len(values) else 0.0
