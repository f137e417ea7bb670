"""Shuffle & Learn and OPN: the forerunners of VCOP, rows 1 and 2 in Table 1 of the auxSKD paper.

Sources: Misra et al., ECCV 2016 (Shuffle & Learn), and Lee et al., ICCV 2017 (OPN). Otherwise than there:
- Clips take the place of single frames, and 3D networks that of 2D ones: these are the same questions put to
  the backbones of this framework, not reproductions.
- The clips are spaced evenly, as in VCOP, and not chosen by how much moves in them.
- A random crop is the only augmentation; OPN shows one random colour channel of each frame.
"""

from dataclasses import dataclass, field
from itertools import permutations

from torch import nn

from vssl.checks import between
from vssl.pretext.vcop import VCOP, Order, OrderObjective, OrderTask, VCOPSampler
from vssl.types import Backbone, Objective


@dataclass(frozen=True)
class ShuffleLearnSampler(VCOPSampler):
    """Tuples of which one half is in temporal order, forwards or backwards. Target: `order`, 1 if it is.

    Of five frames a < b < c < d < e the paper shows b, c, d or d, c, b against b, a, d and b, e, d. By rank
    these are the orders of three clips with the earliest or the latest one in the middle. Unlike there, the
    outer clips of a wrong tuple are not those of a right one, and both kinds are as frequent (there 3 : 1).
    """

    num_clips: int = field(metadata=between(3, 8))

    def orders(self) -> list[list[Order]]:
        forwards = tuple(range(self.num_clips))
        right = [forwards, forwards[::-1]]
        wrong = [order for order in permutations(forwards) if order not in right]
        return [wrong, right]


@dataclass(frozen=True)
class ShuffleLearn(OrderTask):
    """Is the tuple in order? One linear layer on the features of all its clips, as in the paper."""

    sampler: ShuffleLearnSampler

    def objective(self, backbone: Backbone) -> Objective:
        features = self.sampler.num_clips * backbone.feature_dim
        return OrderObjective(backbone, nn.Sequential(nn.Flatten(), nn.Linear(features, 2)))


@dataclass(frozen=True)
class OPNSampler(VCOPSampler):
    """Tuples in a random order; an order and its reverse are one class: 4!/2 = 12 classes of four clips.

    Target: `order`, which counts the classes by the lexicographic order of their members that begin with
    the earlier one of the two outer clips.
    """

    num_clips: int = field(metadata=between(3, 8))

    def orders(self) -> list[list[Order]]:
        orders = permutations(range(self.num_clips))
        return [[order, order[::-1]] for order in orders if order[0] < order[-1]]


@dataclass(frozen=True)
class OPN(VCOP):
    """Predict the order up to its direction. The head compares clips two by two, as that of VCOP."""

    sampler: OPNSampler
