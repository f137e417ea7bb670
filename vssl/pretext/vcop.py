"""VCOP, video clip order prediction: in which order do the clips of a video belong?

Source: Xu et al., CVPR 2019, and the authors' released code. Not taken over: the code holds 800 videos out
and keeps the weights with the best loss on them, here all videos train and the last weights stay; and with
a newer torchvision it crops every frame at another place, here there is one crop per clip, as was meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import BELOW_1, at_least, between
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task

Order = tuple[int, ...]
"""The temporal rank (0: earliest) of the clip that is shown first, second, ..."""


@dataclass(frozen=True)
class VCOPSampler(ClipSampler):
    """A tuple of evenly spaced clips, shown in a random order.

    Clip k (0-based) holds `num_frames` successive frames from start + k (num_frames + gap) on; every start
    that fits is as likely. Videos that are shorter than the tuple are left out. Target: `order`, uniform
    over the K! orders, which count in lexicographic order: 012 is 0, 021 is 1, ..., 210 is 5.

    num_clips, num_frames, gap: clips in a tuple (K), frames in a clip, frames between two clips.
    """

    num_clips: int = field(metadata=between(2, 8))  # 8! = 40,320 classes
    num_frames: int = field(metadata=at_least(1))
    gap: int = field(metadata=at_least(0))

    @property
    def classes(self) -> Mapping[str, int]:
        return {"order": len(self.orders())}

    @property
    def min_frames(self) -> int:
        return self.num_clips * self.num_frames + (self.num_clips - 1) * self.gap

    def orders(self) -> list[list[Order]]:
        """Return the orders that belong to each class."""
        return [[order] for order in permutations(range(self.num_clips))]

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        frames_KT = self._draw_tuple(num_frames, rng)
        orders = self.orders()
        target = int(rng.integers(len(orders)))
        order = orders[target][rng.integers(len(orders[target]))]
        return ClipPlan(frames_KT[list(order)], {"order": target})

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two different clips of one tuple, in random order.

        An assumption: the auxSKD paper says only that its clips are sampled by VCOP's own strategy. No clip
        has an order by itself, and so `distinct` changes nothing.
        """
        clips_2 = rng.choice(self.num_clips, size=2, replace=False)
        return ClipPlan(self._draw_tuple(num_frames, rng)[clips_2], {})

    def _draw_tuple(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """The frames [K,T] of a tuple with a random start, clips in temporal order."""
        start = rng.integers(num_frames - self.min_frames + 1)
        starts_K = start + np.arange(self.num_clips) * (self.num_frames + self.gap)
        return starts_K[:, None] + np.arange(self.num_frames)


@dataclass(frozen=True)
class OrderTask(Task):
    """A task whose objective is an `OrderObjective`, with equally frequent classes."""

    sampler: VCOPSampler

    def references(self) -> References:
        return {"order_accuracy": {"chance": 1 / self.sampler.classes["order"], "reachable": 1.0}}


@dataclass(frozen=True)
class VCOP(OrderTask):
    """Predict the order of the clips from their features, two by two.

    pair_dim: width of the features of a pair.
    dropout: share of the pairs' features that is dropped before the last layer.
    """

    pair_dim: int = field(metadata=at_least(1))
    dropout: float = field(metadata=BELOW_1)

    def objective(self, backbone: Backbone) -> Objective:
        clips, classes = self.sampler.num_clips, self.sampler.classes["order"]
        head = PairHead(backbone.feature_dim, clips, self.pair_dim, self.dropout, classes)
        return OrderObjective(backbone, head)


class OrderObjective(Objective):
    """Cross-entropy on the target `order`; `head` turns features [B,K,D] into scores [B,N].

    As in the released code the backbone is called once per position of the tuple: BatchNorm normalises
    each position by itself, and updates its running statistics K times in a step.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, batch: Batch) -> StepOutput:
        clips_BKCTHW, order_B = batch["clips"], batch["order"]
        features_BKD = torch.stack([self.backbone(clips) for clips in clips_BKCTHW.unbind(1)], dim=1)
        logits_BN = self.head(features_BKD)
        accuracy = (logits_BN.argmax(dim=1) == order_B).float().mean()
        return StepOutput(F.cross_entropy(logits_BN, order_B), {"order_accuracy": accuracy})


class PairHead(nn.Module):
    """A shared layer on the features of each two clips, and a linear layer on all pairs together."""

    def __init__(
        self, feature_dim: int, num_clips: int, pair_dim: int, dropout: float, num_classes: int
    ) -> None:
        super().__init__()
        self.pairs = list(combinations(range(num_clips), 2))
        self.pair = nn.Linear(2 * feature_dim, pair_dim)
        self.dropout = nn.Dropout(dropout)
        self.order = nn.Linear(len(self.pairs) * pair_dim, num_classes)

    def forward(self, features_BKD: Tensor) -> Tensor:
        """Return the scores [B,N] of the orders."""
        features = features_BKD.unbind(1)
        pairs = torch.stack([torch.cat([features[i], features[j]], dim=1) for i, j in self.pairs], dim=1)
        logits_BN: Tensor = self.order(self.dropout(F.relu(self.pair(pairs)).flatten(1)))
        return logits_BN
