"""RSPNet: does a clip play as fast as another one, and is it the same video?

Source: Chen et al., RSPNet: Relative Speed Perception for Unsupervised Video Representation Learning
(AAAI 2021), and the authors' released code where the paper is silent.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import SHARE, TEMPERATURE, at_least
from vssl.errors import VsslError
from vssl.nn.contrast import KeyInit, KeyQueue, MomentumEncoder, check_batches, dot_products, info_nce
from vssl.nn.frames import OutOfBounds
from vssl.pretext.windows import Windows
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, Progress, StepOutput, Task


@dataclass(frozen=True)
class RSPNetSampler(ClipSampler):
    """Two windows of successive frames, one for the query and one for the keys; no targets.

    The windows are independent, and every start that fits is as likely. They hold the clips of both speeds:
    T frames at natural speed, and T at `relative_speed`.

    num_frames, relative_speed: T, and how much faster the fast clips are.
    num_clips: the two windows.
    out_of_bounds: how a window goes on at the end of a shorter video (released: loop).
    """

    num_frames: int = field(metadata=at_least(1))
    num_clips: Literal[2]
    relative_speed: int = field(metadata=at_least(2))
    out_of_bounds: OutOfBounds

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        window = self.num_frames * self.relative_speed
        return Windows(window, self.num_clips, 1, "independent", self.out_of_bounds).plan(num_frames, rng)

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two windows, and a clip of either speed from each, independently.

        There is no target in which they could be `distinct`. No source says how RSPNet's clips are drawn
        for auxSKD: an assumption.
        """
        windows_KT = self.plan(num_frames, rng).frames_KT
        speeds_K = rng.choice([1, self.relative_speed], self.num_clips)
        draws = zip(windows_KT, speeds_K.tolist(), strict=True)
        return ClipPlan(np.stack([window_T[::speed][: self.num_frames] for window_T, speed in draws]), {})


@dataclass(frozen=True)
class RSPNet(Task):
    """Relative speed perception and appearance-focused video instance discrimination.

    embedding_dim: width D of the embeddings of both heads.
    queue_size, momentum, temperature: of MoCo: keys of other videos, m of the key encoder's update, and what
        all similarities are divided by.
    margin: by how much the key of the query's own speed has to be more similar than the one of the other
        speed, after the division by the temperature.
    appearance_weight, motion_weight: of the two losses.
    enqueue: whose appearance keys join the queue: `other_speed` (released) or `positive`.
    key_init: what the key encoder starts from if the stage starts from an auxiliary one, see `KeyInit`.
    shuffle_bn: several processes exchange the clips of the key encoder, so that its batch norm sees others
        than the query's (released code). It takes several.
    """

    min_batch = 2  # both speeds

    sampler: RSPNetSampler
    embedding_dim: int = field(metadata=at_least(1))
    queue_size: int = field(metadata=at_least(1))
    momentum: float = field(metadata=SHARE)
    temperature: float = field(metadata=TEMPERATURE)
    margin: float = field(metadata=at_least(0))
    appearance_weight: float = field(metadata=at_least(0))
    motion_weight: float = field(metadata=at_least(0))
    enqueue: Literal["other_speed", "positive"]
    key_init: KeyInit
    shuffle_bn: bool

    def check(self, batch_size: int, drop_last: bool) -> None:
        check_batches(self.queue_size, self.shuffle_bn, batch_size, drop_last)

    def objective(self, backbone: Backbone) -> Objective:
        return RSPNetObjective(backbone, self)

    def references(self) -> References:
        """Guessing is a key drawn from own and queue, and a coin. How much of the appearance can be known is
        open: the queue may hold keys of the query's own video."""
        return {
            "appearance_accuracy": {"chance": 1 / (self.queue_size + 1)},
            "motion_accuracy": {"chance": 0.5, "reachable": 1.0},
        }


class Heads(nn.Module):
    """Unit vectors [B,2D], for appearance and then for motion: a linear layer each on the pooled features."""

    def __init__(self, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.appearance = nn.Linear(feature_dim, embedding_dim)
        self.motion = nn.Linear(feature_dim, embedding_dim)

    def forward(self, features_BD: Tensor) -> Tensor:
        return torch.cat([F.normalize(head(features_BD)) for head in (self.appearance, self.motion)], dim=1)


class RSPNetObjective(Objective):
    """Query encoder (backbone, heads), key encoder (a `MomentumEncoder`) and a queue of appearance keys.

    The key encoder is a copy of the query encoder as constructed. Weights of an auxiliary stage are loaded
    into the backbone after that, and with `key_init: random` they do not reach it.

    Deviation: the queue need not be a multiple of the batch.
    """

    def __init__(self, backbone: Backbone, task: RSPNet) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        self.heads = Heads(backbone.feature_dim, task.embedding_dim)
        self.key_encoder = MomentumEncoder(self._query_encoder(), task.shuffle_bn)
        self.queue = KeyQueue(task.queue_size, task.embedding_dim, "rows")
        self.key_encoder.start_as(task.key_init, backbone, self._query_encoder)

    def forward(self, batch: Batch) -> StepOutput:
        """Compare each query with its two keys and the queue; this batch's keys join it in `after_step`."""
        clips_BKCTHW = batch["clips"]
        natural_B = _half(len(clips_BKCTHW)).to(clips_BKCTHW.device, non_blocking=True)
        query_A, query_M = self._query_encoder()(self._play(clips_BKCTHW[:, 0], natural_B)).chunk(2, dim=1)
        other_A, other_M = self.key_encoder(self._play(clips_BKCTHW[:, 1], ~natural_B)).chunk(2, dim=1)
        positive_A, positive_M = self.key_encoder(self._play(clips_BKCTHW[:, 1], natural_B)).chunk(2, dim=1)
        self.queue.hold(other_A if self.task.enqueue == "other_speed" else positive_A)
        negatives_BH = dot_products(query_A, self.queue.keys) / self.task.temperature
        own_B, same_video_B = self._similarity(query_A, positive_A), self._similarity(query_A, other_A)
        appearance = info_nce(own_B, negatives_BH) + info_nce(same_video_B, negatives_BH)
        ahead_B = self._similarity(query_M, positive_M) - self._similarity(query_M, other_M)
        motion = F.relu(self.task.margin - ahead_B).mean()
        loss = self.task.appearance_weight * appearance + self.task.motion_weight * motion
        metrics = {
            "appearance_loss": appearance.detach(),
            "appearance_accuracy": (own_B > negatives_BH.amax(dim=1)).float().mean(),
            "motion_loss": motion.detach(),
            "motion_accuracy": (ahead_B > 0).float().mean(),
        }
        return StepOutput(loss, metrics)

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder, then enqueue the keys of this step's forwards, those of all ranks in order.

        The released code moves the key encoder at the beginning of each forward: the same, except that
        before the first step there is an update more, of 1 - m towards weights that were loaded.
        """
        self.key_encoder.follow(self._query_encoder(), self.task.momentum)
        self.queue.enqueue_held()

    def keys(self) -> Tensor:
        return self.queue.keys

    def _query_encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.heads)

    def _play(self, window_BCTHW: Tensor, natural_B: Tensor) -> Tensor:
        """Clips from the beginning of the windows, some at natural speed and the others fast."""
        sampler = self.task.sampler
        natural_BCTHW = window_BCTHW[:, :, : sampler.num_frames]
        fast_BCTHW = window_BCTHW[:, :, :: sampler.relative_speed]
        return torch.where(natural_B[:, None, None, None, None], natural_BCTHW, fast_BCTHW)

    def _similarity(self, query_BD: Tensor, key_BD: Tensor) -> Tensor:
        return (query_BD * key_BD).sum(dim=1) / self.task.temperature


def _half(batch: int) -> Tensor:
    """A random half (rounded down) of the samples, as a mask [B]."""
    if batch < 2:
        raise VsslError("a batch of 1 cannot have both speeds; give each process 2 samples or more")
    # On the CPU, whose generator the loop seeds at every step: no device draws other numbers.
    return torch.randperm(batch) < batch // 2
