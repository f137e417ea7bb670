"""CEP, cycle encoding prediction: predict the past and the future of a clip, there and back.

Source: Yang et al., Self-supervised Video Representation Learning with Cycle Encoding Prediction (BMVC 2021),
and the authors' released code. Otherwise than there:
- Plain batch norm. The released code normalises the two temporal halves of every feature map apart, and
  fine-tunes without: all statistics are lost then. On a ResNet-18 of 16 frames, whose last map has one time
  step, it stops, so that the published number of R3D-18 cannot come from it as it is.
- Videos play at their own rate (released: resampled to 24 frames per second).
- The query encoder sees each third of the window once (released: once for each of its two heads).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import SHARE, TEMPERATURE, at_least
from vssl.nn.contrast import KeyInit, KeyQueue, MomentumEncoder, check_queue_size, dot_products
from vssl.nn.frames import OutOfBounds
from vssl.nn.heads import UnitHead, mlp
from vssl.pretext.windows import Windows
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, Progress, StepOutput, Task

THIRDS = 3
"""Past, current and future."""


@dataclass(frozen=True)
class CEPSampler(ClipSampler):
    """One window of three clips in a row, given twice: for the query and for its key; no targets.

    num_frames: T of each clip; the window has 3 T successive frames.
    out_of_bounds: how the window goes on at the end of a shorter video (released: loop).
    """

    num_frames: int = field(metadata=at_least(1))
    out_of_bounds: OutOfBounds

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        return Windows(THIRDS * self.num_frames, 2, 1, "same", self.out_of_bounds).plan(num_frames, rng)

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two independent clips of T frames. No source says how they are drawn for auxSKD."""
        return Windows(self.num_frames, 2, 1, "independent", self.out_of_bounds).plan(num_frames, rng)


@dataclass(frozen=True)
class CEP(Task):
    """Contrast of appearance, prediction along time, and prediction in cycles.

    embedding_dim, predictor_hidden: width D of the embeddings; hidden width of the two predictors.
    queue_size, momentum, temperature: keys of other videos, m of the key encoder's update, and what the
        similarities of the contrast are divided by.
    appearance_weight, prediction_weight, cycle_weight: of the three losses.
    key_init: what the key encoder starts from if the stage starts from an auxiliary one, see `KeyInit`.
    """

    min_batch = 2  # the predictors' batch norm

    sampler: CEPSampler
    embedding_dim: int = field(metadata=at_least(1))
    predictor_hidden: int = field(metadata=at_least(1))
    queue_size: int = field(metadata=at_least(1))
    momentum: float = field(metadata=SHARE)
    temperature: float = field(metadata=TEMPERATURE)
    appearance_weight: float = field(metadata=at_least(0))
    prediction_weight: float = field(metadata=at_least(0))
    cycle_weight: float = field(metadata=at_least(0))
    key_init: KeyInit

    def check(self, batch_size: int, drop_last: bool) -> None:
        check_queue_size(self.queue_size, batch_size)

    def objective(self, backbone: Backbone) -> Objective:
        return CEPObjective(backbone, self)

    def references(self) -> References:
        """Guessing is a key drawn from own and queue. Distances are 2 between directions without relation,
        and 0 where predictions are right, or where all directions have become one."""
        distance = {"chance": 2.0, "reachable": 0.0}
        accuracy = {"chance": 1 / (self.queue_size + 1)}
        return {"key_accuracy": accuracy, "prediction_loss": distance, "cycle_loss": distance}


class Heads(nn.Module):
    """Unit vectors [B,2D], of appearance and then of what cycles predict, from the pooled features."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.appearance = UnitHead(mlp([features, features, dim], batch_norm=False))
        norm, hidden = nn.LayerNorm(features), nn.Linear(features, features)
        self.cycle = UnitHead(nn.Sequential(hidden, norm, nn.ReLU(inplace=True), nn.Linear(features, dim)))

    def forward(self, features_BD: Tensor) -> Tensor:
        return torch.cat([self.appearance(features_BD), self.cycle(features_BD)], dim=1)


class CEPObjective(Objective):
    """Query encoder (backbone, heads), key encoder, a predictor in each direction, and a queue of keys."""

    def __init__(self, backbone: Backbone, task: CEP) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        self.heads = Heads(backbone.feature_dim, task.embedding_dim)
        widths = [task.embedding_dim, task.predictor_hidden, task.embedding_dim]
        self.forwards, self.backwards = mlp(widths, batch_norm=True), mlp(widths, batch_norm=True)
        self.key_encoder = MomentumEncoder(self._query_encoder(), shuffle_bn=False)
        self.key_encoder.start_as(task.key_init, backbone, self._query_encoder)
        self.queue = KeyQueue(task.queue_size, task.embedding_dim, "rows")

    def forward(self, batch: Batch) -> StepOutput:
        """Compare and predict; this batch's keys of appearance join the queue in `after_step`."""
        queries_BCTHW, others_BCTHW = batch["clips"].unbind(1)
        thirds = queries_BCTHW.chunk(THIRDS, dim=2)
        encoded = [self._query_encoder()(third).chunk(2, dim=1) for third in thirds]
        key_BD = self.key_encoder(some_frames(others_BCTHW))[:, : self.task.embedding_dim]
        targets = [self.key_encoder(third)[:, self.task.embedding_dim :] for third in thirds]
        self.queue.hold(key_BD)
        appearance, accuracy = self._contrast(torch.stack([one for one, _ in encoded]), key_BD)
        prediction, cycle = predictions([one for _, one in encoded], targets, self.forwards, self.backwards)
        task = self.task
        loss = task.appearance_weight * appearance + task.prediction_weight * prediction
        metrics: Mapping[str, Tensor] = {
            "appearance_loss": appearance,
            "key_accuracy": accuracy,
            "prediction_loss": prediction,
            "cycle_loss": cycle,
        }
        detached = {name: value.detach() for name, value in metrics.items()}
        return StepOutput(loss + task.cycle_weight * cycle, detached)

    def _contrast(self, appearance_3BD: Tensor, key_BD: Tensor) -> tuple[Tensor, Tensor]:
        """The contrastive loss, and the share of clips that are nearer to their own key than to the queue.

        The logits of all three clips of a window stand in one softmax: -sum_x log p(own key of x).
        """
        own_3B = (appearance_3BD * key_BD).sum(dim=2) / self.task.temperature
        others_3BH = torch.stack([dot_products(one_BD, self.queue.keys) for one_BD in appearance_3BD])
        others_3BH = others_3BH / self.task.temperature
        all_B = torch.cat([own_3B[..., None], others_3BH], dim=2).logsumexp(dim=2).logsumexp(dim=0)
        return (all_B - own_3B).sum(dim=0).mean(), (own_3B > others_3BH.amax(dim=2)).float().mean()

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder, then enqueue the keys of this step's forwards, those of all ranks in
        order."""
        self.key_encoder.follow(self._query_encoder(), self.task.momentum)
        self.queue.enqueue_held()

    def keys(self) -> Tensor:
        return self.queue.keys

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.heads)


def some_frames(window_BCTHW: Tensor) -> Tensor:
    """A third of the frames, drawn at random for the whole batch, in their order."""
    frames = window_BCTHW.shape[2]
    # On the CPU, whose generator the loop seeds at every step: no device draws other numbers.
    chosen = torch.randperm(frames)[: frames // THIRDS].sort().values
    return window_BCTHW.index_select(2, chosen.to(window_BCTHW.device, non_blocking=True))


def predictions(
    queries: list[Tensor], targets: list[Tensor], forwards: nn.Module, backwards: nn.Module
) -> tuple[Tensor, Tensor]:
    """Mean distances of predictions along time, and of those that go there and back, from their targets.

    queries, targets: embeddings [B,D] of past, current and future, with and without a gradient.
    """
    past, current, future = queries
    next_of_past, before_future = forwards(past), backwards(future)
    next_of_current, before_current = forwards(current), backwards(current)
    second_of_past, second_before_future = forwards(next_of_past), backwards(before_future)
    along = [
        (before_current, second_before_future),
        (next_of_past, before_future),
        (next_of_current, second_of_past),
    ]
    around = [
        (backwards(next_of_past), backwards(backwards(second_of_past))),
        (backwards(next_of_current), forwards(before_current)),
        (forwards(before_future), forwards(forwards(second_before_future))),
    ]
    return _mean_distance(along, targets), _mean_distance(around, targets)


def _mean_distance(predicted: list[tuple[Tensor, Tensor]], targets: list[Tensor]) -> Tensor:
    """Mean of 2 - 2 cos between predictions and their targets."""
    pairs = [(one, target) for ones, target in zip(predicted, targets, strict=True) for one in ones]
    return torch.stack([2 - 2 * F.cosine_similarity(*pair).mean() for pair in pairs]).mean()
