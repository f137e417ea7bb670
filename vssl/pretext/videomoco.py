"""VideoMoCo: momentum contrast of clips from which a generator drops frames; keys lose weight with age.

Source: Pan et al., VideoMoCo: Contrastive Video Representation Learning with Temporally Adversarial Examples
(CVPR 2021), as in the authors' released code. Otherwise than there:
- One optimiser trains both networks: the generator's gradient comes from a surrogate term of the loss,
  exactly the one of a backward pass of its own. Several processes average both gradients (the released code
  loses the average of the encoder's in its second backward pass).
- The ages of the keys are saved with the queue (released: they start at 0 when a training goes on).
- Flips and grey levels are drawn once per clip (released: once per frame, which mixes up directions of
  motion).
- The generator takes clips of any length and size (released: 32 frames of 112 pixels, where it is the same).
- The first phase, which was run by a script that was not released, is momentum contrast without a generator.
The paper describes another generator (a ConvLSTM), of which no code and no sizes are known.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import SHARE, TEMPERATURE, at_least
from vssl.errors import OptionError
from vssl.nn.contrast import KeyInit, KeyQueue, MomentumEncoder, check_batches, dot_products, info_nce
from vssl.nn.heads import UnitHead
from vssl.pretext.windows import Windows
from vssl.result import References
from vssl.types import Backbone, Batch, Objective, Progress, StepOutput, Task

SIDE = 13
"""Height and width of the maps that the generator's LSTM reads: those of 112 pixels."""


@dataclass(frozen=True)
class VideoMoCo(Task):
    """Tell a clip without some of its frames from keys of other videos.

    sampler: two clips of the same frames, one for the query and one for its key.
    embedding_dim: width D of the embeddings.
    queue_size, momentum, temperature: keys of other videos, m of the key encoder's update, and what all
        similarities are divided by.
    temporal_decay: t; the similarity to a key that was enqueued a steps ago is multiplied with t^a.
    adversarial_from: share of the training after which the generator drops frames. 1: never.
    drop_share: of the frames of a clip that it drops, rounded down.
    generator_weight: of the generator's loss, minus the mean absolute difference between the embeddings of
        the clip without and with these frames.
    generator_gradient: `intended`: of that loss alone. `released`: of the contrastive loss too, as the
        released code adds it up.
    key_init: what the key encoder starts from if the stage starts from an auxiliary one, see `KeyInit`.
    shuffle_bn: several processes exchange the clips of the key encoder (released code). It takes several.
    """

    sampler: Windows
    embedding_dim: int = field(metadata=at_least(1))
    queue_size: int = field(metadata=at_least(1))
    momentum: float = field(metadata=SHARE)
    temperature: float = field(metadata=TEMPERATURE)
    temporal_decay: float = field(metadata=SHARE)
    adversarial_from: float = field(metadata=SHARE)
    drop_share: float = field(metadata=SHARE)
    generator_weight: float = field(metadata=at_least(0))
    generator_gradient: Literal["intended", "released"]
    key_init: KeyInit
    shuffle_bn: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler.num_clips != 2:
            problem = "a query and its key are two clips"
            raise OptionError("sampler.num_clips", self.sampler.num_clips, problem, "say 2")

    def check(self, batch_size: int, drop_last: bool) -> None:
        check_batches(self.queue_size, self.shuffle_bn, batch_size, drop_last)

    def objective(self, backbone: Backbone) -> Objective:
        return VideoMoCoObjective(backbone, self)

    def references(self) -> References:
        """Guessing is a key drawn from own and queue. How much can be known is open: the queue may hold keys
        of the query's own video."""
        return {"key_accuracy": {"chance": 1 / (self.queue_size + 1)}}


class VideoMoCoObjective(Objective):
    """Query encoder (backbone, head), key encoder (a `MomentumEncoder`), generator, and a queue of keys."""

    def __init__(self, backbone: Backbone, task: VideoMoCo) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        self.head = UnitHead(nn.Linear(backbone.feature_dim, task.embedding_dim))
        self.key_encoder = MomentumEncoder(self._query_encoder(), task.shuffle_bn)
        self.key_encoder.start_as(task.key_init, backbone, self._query_encoder)
        self.generator = Generator(task.sampler.num_frames)
        self.queue = AgeingQueue(task.queue_size, task.embedding_dim)
        self.share = 0.0

    def forward(self, batch: Batch) -> StepOutput:
        """Compare each query with its key and the queue; this batch's keys join it in `after_step`."""
        clips_BCTHW, others_BCTHW = batch["clips"].unbind(1)
        key_BD = self.key_encoder(others_BCTHW)
        self.queue.hold(key_BD)
        if self.task.adversarial_from < 1 and self.share >= self.task.adversarial_from:
            return self._adversarial(clips_BCTHW, key_BD)
        contrast, accuracy = self._contrast(self._query_encoder()(clips_BCTHW), key_BD)
        return StepOutput(contrast, {"key_accuracy": accuracy, "drop_distance": torch.zeros_like(accuracy)})

    def _adversarial(self, clips_BCTHW: Tensor, key_BD: Tensor) -> StepOutput:
        """The contrastive loss of the clips without the dropped frames, and the generator's gradient."""
        scores_BT = self.generator(clips_BCTHW)
        dropped_BCTHW = drop_frames(clips_BCTHW, scores_BT.detach(), self.task.drop_share).requires_grad_()
        with torch.no_grad():
            whole_BD = self._query_encoder()(clips_BCTHW)
        query_BD = self._query_encoder()(dropped_BCTHW)
        contrast, accuracy = self._contrast(query_BD, key_BD)
        distance = (query_BD - whole_BD).abs().mean()
        against = -self.task.generator_weight * distance
        if self.task.generator_gradient == "released":
            against = against + contrast
        loss = contrast + through_scores(against, dropped_BCTHW, scores_BT)
        return StepOutput(loss, {"key_accuracy": accuracy, "drop_distance": distance.detach()})

    def _contrast(self, query_BD: Tensor, key_BD: Tensor) -> tuple[Tensor, Tensor]:
        """The contrastive loss, and the share of queries that are nearest to their own key."""
        negatives_BH = dot_products(query_BD, self.queue.keys) * self.queue.weights(self.task.temporal_decay)
        negatives_BH = negatives_BH / self.task.temperature
        own_B = (query_BD * key_BD).sum(dim=1) / self.task.temperature
        return info_nce(own_B, negatives_BH), (own_B > negatives_BH.amax(dim=1)).float().mean()

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder, then let the keys age by a step and enqueue those of this step's forwards."""
        if 0 < self.task.adversarial_from < 1:  # else the training's length decides nothing
            self.share = progress.share
        self.key_encoder.follow(self._query_encoder(), self.task.momentum)
        self.queue.enqueue_held()

    def keys(self) -> Tensor:
        return self.queue.keys

    def get_extra_state(self) -> Tensor:
        """How much of the training is done: it decides the phase of the next step."""
        return torch.tensor(self.share, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.share = float(state)

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head)


class AgeingQueue(KeyQueue):
    """A queue that knows how many steps ago each key was enqueued; the noise that it starts with is of
    age 0."""

    ages: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim, "rows")
        self.register_buffer("ages", torch.zeros(size, dtype=torch.int64))

    def enqueue(self, keys_BD: Tensor) -> Tensor:
        self.ages.add_(1)
        rows_B = super().enqueue(keys_BD)
        self.ages.index_fill_(0, rows_B, 1)
        return rows_B

    def weights(self, decay: float) -> Tensor:
        """Weights [H] of the keys: t to the power of their ages."""
        return torch.full_like(self.ages, decay, dtype=self.keys.dtype).pow(self.ages)


def drop_frames(clips_BCTHW: Tensor, scores_BT: Tensor, share: float) -> Tensor:
    """Replace the frames of the lowest scores, `share` of each clip, by the mean of all their values."""
    count = int(share * scores_BT.shape[1])
    lowest_BN = scores_BT.topk(count, dim=1, largest=False).indices
    chosen_BT = torch.zeros_like(scores_BT, dtype=torch.bool).scatter(1, lowest_BN, True)
    means_B1T11 = clips_BCTHW.mean(dim=(1, 3, 4), keepdim=True)
    return torch.where(chosen_BT[:, None, :, None, None], means_B1T11, clips_BCTHW).detach()


def through_scores(loss: Tensor, clips_BCTHW: Tensor, scores_BT: Tensor) -> Tensor:
    """A term of value 0 whose gradient at the scores is what `loss` has at the frames, summed over each
    frame's values (straight through), and at all else 0."""
    (gradient_BCTHW,) = torch.autograd.grad(loss, clips_BCTHW, retain_graph=True)
    surrogate = (scores_BT * gradient_BCTHW.sum(dim=(1, 3, 4))).sum()
    return surrogate - surrogate.detach()


class Generator(nn.Module):
    """Scores [B,T] of the frames of a clip, which sum to 1: dilated convolutions over the frames as channels,
    parallel ones of several dilations (ASPP), and a bidirectional LSTM over the channels of their maps.

    As in the released code some layers are one and the same: `dilated` is applied three times, `shrink` six.
    """

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        width = 3 * num_frames
        self.dilated = _block(nn.Conv2d(width, width, 3, padding=1, dilation=2, bias=False))
        self.everywhere = nn.Conv2d(width, width, 1)
        self.parallel = nn.ModuleList(
            [nn.Conv2d(width, width, 1)]
            + [nn.Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in (6, 12, 18)]
        )
        self.join = nn.Conv2d(5 * width, width, 1)
        self.narrow = _block(nn.Conv2d(width, num_frames, 3, padding=1))
        self.shrink = _block(nn.Conv2d(num_frames, num_frames, 3, padding=1))
        self.lstm = nn.LSTM(SIDE * SIDE, 64, batch_first=True, bidirectional=True)
        self.score = nn.Linear(128, num_frames)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        maps = clips_BCTHW.flatten(1, 2)
        for _ in range(3):
            maps = _pool_overlapping(self.dilated(maps))
        mean = self.everywhere(maps.mean(dim=(2, 3), keepdim=True)).expand_as(maps)
        maps = self.join(torch.cat([mean, *(conv(maps) for conv in self.parallel)], dim=1))
        maps = self.narrow(maps)
        for _ in range(3):
            maps = F.avg_pool2d(self.shrink(self.shrink(maps)), 2)
        maps = _resize(maps).flatten(2)
        # Not in mixed precision, for which torch has float16 here: small gradients would become 0.
        with torch.autocast(maps.device.type, enabled=False):
            states, _ = self.lstm(maps.to(self.score.weight.dtype))
        scores_BT: Tensor = self.score(states[:, -1]).softmax(dim=1)
        return scores_BT


def _block(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels, eps=1e-3), nn.ReLU())


# Pooling by plain arithmetic: of torch's own layers for it, GPUs have no deterministic gradient.


def _pool_overlapping(maps_BCHW: Tensor) -> Tensor:
    """The maximum of each 2x2 values, in steps of 1 and with a border of 0, of values that are not
    negative."""
    padded = F.pad(maps_BCHW, (1, 1, 1, 1))
    rows = torch.maximum(padded[..., 1:, :], padded[..., :-1, :])
    return torch.maximum(rows[..., 1:], rows[..., :-1])


def _resize(maps_BCHW: Tensor) -> Tensor:
    """Average (or repeat) the values to SIDE x SIDE; maps of that size stay."""
    down, across = (
        F.adaptive_avg_pool1d(torch.eye(side, device=maps_BCHW.device, dtype=maps_BCHW.dtype)[None], SIDE)[0]
        for side in maps_BCHW.shape[2:]
    )
    return down.T @ maps_BCHW @ across
