"""MoCo on clips (rhoMoCo): tell clips of one video from those of others.

Source: Feichtenhofer et al., A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning (CVPR
2021), and its code in PySlowFast. Otherwise than there:
- The queue starts with random unit vectors; there the first steps fill it and change no weight.
- SGD without Nesterov's momentum; clips are not blurred; videos play at their own rate (there: 30 frames per
  second).
- Published with Slow R50 on clips of 8 frames of 224 pixels, every eighth one: these span as many frames.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vssl.checks import SHARE, TEMPERATURE, at_least
from vssl.errors import OptionError
from vssl.nn.contrast import (
    KeyInit,
    KeyQueue,
    MomentumEncoder,
    annealed,
    check_batches,
    dot_products,
    info_nce,
)
from vssl.nn.heads import UnitHead, mlp
from vssl.pretext.windows import Windows
from vssl.result import References
from vssl.types import Backbone, Batch, Objective, Progress, StepOutput, Task


@dataclass(frozen=True)
class MoCo(Task):
    """Momentum contrast between rho clips of each video, every one of them a query for the keys of the
    others.

    sampler: rho is its number of clips; two of the same frames are the contrast of augmented views alone.
    embedding_dim: width D of the embeddings.
    head_layers, head_hidden: linear layers of the head, an MLP with ReLU, and its hidden width.
    queue_size, temperature: keys of other videos, and what all similarities are divided by.
    momentum, momentum_end: m of the key encoder's update at the beginning and, along a cosine, at the end.
    key_init: what the key encoder starts from if the stage starts from an auxiliary one, see `KeyInit`.
    shuffle_bn: several processes exchange the clips of the key encoder. It takes several.
    """

    sampler: Windows
    embedding_dim: int = field(metadata=at_least(1))
    head_layers: int = field(metadata=at_least(1))
    head_hidden: int = field(metadata=at_least(1))
    queue_size: int = field(metadata=at_least(1))
    temperature: float = field(metadata=TEMPERATURE)
    momentum: float = field(metadata=SHARE)
    momentum_end: float = field(metadata=SHARE)
    key_init: KeyInit
    shuffle_bn: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clips(self.sampler)

    def check(self, batch_size: int, drop_last: bool) -> None:
        check_batches(self.queue_size, self.shuffle_bn, batch_size * self.sampler.num_clips, drop_last)

    def objective(self, backbone: Backbone) -> Objective:
        return MoCoObjective(backbone, self)

    def references(self) -> References:
        """Guessing is a key drawn from own and queue. How much can be known is open: the queue may hold keys
        of the query's own video."""
        return {"key_accuracy": {"chance": 1 / (self.queue_size + 1)}}


def check_clips(sampler: Windows) -> None:
    """Raise `OptionError` for fewer than two clips of a video."""
    if sampler.num_clips < 2:
        problem = "there is no other clip to compare one with"
        raise OptionError("sampler.num_clips", sampler.num_clips, problem, "choose 2 or more")


class MoCoObjective(Objective):
    """Query encoder (backbone, head), key encoder (a `MomentumEncoder`) and a queue of keys."""

    def __init__(self, backbone: Backbone, task: MoCo) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        hidden = [task.head_hidden] * (task.head_layers - 1)
        self.head = UnitHead(mlp([backbone.feature_dim, *hidden, task.embedding_dim], batch_norm=False))
        self.key_encoder = MomentumEncoder(self._query_encoder(), task.shuffle_bn)
        self.key_encoder.start_as(task.key_init, backbone, self._query_encoder)
        self.queue = KeyQueue(task.queue_size, task.embedding_dim, "rows")

    def forward(self, batch: Batch) -> StepOutput:
        """Compare each clip with the keys of the video's other clips, and with the queue: as published, the
        mean over the other clips, and the sum over the clips. All keys join the queue in `after_step`."""
        clips = batch["clips"].unbind(1)
        keys = [self.key_encoder(clip_BCTHW) for clip_BCTHW in clips]
        losses, hits = [], []
        for own, clip_BCTHW in enumerate(clips):
            query_BD = self._query_encoder()(clip_BCTHW)
            others_BH = dot_products(query_BD, self.queue.keys) / self.task.temperature
            for key_BD in (key_BD for number, key_BD in enumerate(keys) if number != own):
                own_B = (query_BD * key_BD).sum(dim=1) / self.task.temperature
                losses.append(info_nce(own_B, others_BH) / (len(clips) - 1))
                hits.append((own_B > others_BH.amax(dim=1)).float().mean())
        self.queue.hold(torch.cat(keys))
        return StepOutput(torch.stack(losses).sum(), {"key_accuracy": torch.stack(hits).mean()})

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder, then enqueue the keys of this step's forwards, those of all ranks in
        order."""
        momentum = annealed(self.task.momentum, self.task.momentum_end, progress)
        self.key_encoder.follow(self._query_encoder(), momentum)
        self.queue.enqueue_held()

    def keys(self) -> Tensor:
        return self.queue.keys

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head)
