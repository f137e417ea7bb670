"""VideoPace: at which pace does a clip play?

Source: Wang, Jiao and Liu, Self-supervised Video Representation Learning by Pace Prediction (ECCV 2020),
and the authors' released code. That code predicts the pace and no more: the contrastive losses here follow
the paper's description and are NOT part of it; the paper's appearance stream is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import TEMPERATURE, at_least, between
from vssl.errors import OptionError
from vssl.nn.contrast import dot_products
from vssl.nn.frames import OutOfBounds, keep_inside, play
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task

Start = Literal["anywhere", "inside"]

TARGETS = ("pace", "pace_2")
"""Names of the paces of a sample's first and second clip."""


@dataclass(frozen=True)
class VideoPaceSampler(ClipSampler):
    """Clips that play at one pace throughout: every p-th frame.

    The pace p (1..Q) and the start of each clip are uniform and independent. Target: `pace` = p-1, and
    `pace_2` for a second clip.

    num_frames, max_pace: frames T of a clip, and Q.
    num_clips: 1, or 2 for the contrastive losses.
    start: where a clip may begin: `anywhere` is any frame (released: 1..n, counted from 1); `inside` leaves
        T frames behind the first one (1..n-T), and videos of T or fewer frames begin at their first one.
    out_of_bounds: how a clip goes on at the end of the video. `loop` (released) goes back to the first frame
        as soon as the next one would lie outside; the more often the faster the clip.
    pair_start, pair_distinct: the same choice of start for the two clips of auxSKD, and whether their paces
        differ if auxSKD asks for it. The best evidence for `inside` and false is compiled code that the
        auxSKD authors left behind; no source of this combination is released.
    """

    num_frames: int = field(metadata=at_least(1))
    num_clips: int = field(metadata=between(1, 2))
    max_pace: int = field(metadata=at_least(1))
    start: Start
    out_of_bounds: OutOfBounds
    pair_start: Start
    pair_distinct: bool

    @property
    def classes(self) -> Mapping[str, int]:
        return dict.fromkeys(TARGETS[: self.num_clips], self.max_pace)

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        paces_K = rng.integers(1, self.max_pace + 1, self.num_clips)
        targets = dict(zip(self.classes, (paces_K - 1).tolist(), strict=True))
        return ClipPlan(self._clips(num_frames, paces_K, self.start, rng), targets)

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two clips; their paces differ if both `distinct` and `pair_distinct` say so."""
        differ = distinct and self.pair_distinct and self.max_pace > 1
        paces_K = 1 + rng.choice(self.max_pace, 2, replace=not differ)
        return ClipPlan(self._clips(num_frames, paces_K, self.pair_start, rng), {})

    def frames(self, num_frames: int, start: int, pace: int) -> NDArray[np.int64]:
        """Return the frames [T] of the clip that begins at `start`; frames count from 0."""
        if self.out_of_bounds == "repeat_last":
            return keep_inside(start + pace * np.arange(self.num_frames), num_frames, "repeat_last")
        return play(start, np.full(self.num_frames, pace), num_frames, lookahead=1)

    def _clips(
        self, num_frames: int, paces_K: NDArray[np.int64], start: Start, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        starts = num_frames if start == "anywhere" else max(1, num_frames - self.num_frames)
        starts_K = rng.integers(starts, size=len(paces_K))
        draws = zip(starts_K.tolist(), paces_K.tolist(), strict=True)
        return np.stack([self.frames(num_frames, begin, pace) for begin, pace in draws])


@dataclass(frozen=True)
class VideoPace(Task):
    """Predict the pace of a clip: L = lambda_cls L_cls + lambda_ctr L_ctr.

    contrastive: `none` is the released code. The other two compare the clips of a batch, two of each video:
        with `same_context` the clips of one video belong together, with `same_pace` those of one pace.
        Assumed, where the paper is silent: embeddings are one linear layer on the features, normalised, and
        L_ctr is that of `grouped_info_nce`.
    pace_weight, contrastive_weight: lambda_cls and lambda_ctr.
    projection_dim, temperature: width of the embeddings; what their dot products are divided by.
    """

    sampler: VideoPaceSampler
    pace_weight: float = field(metadata=at_least(0))
    contrastive: Literal["none", "same_context", "same_pace"]
    contrastive_weight: float = field(metadata=at_least(0))
    projection_dim: int = field(metadata=at_least(1))
    temperature: float = field(metadata=TEMPERATURE)

    def __post_init__(self) -> None:
        super().__post_init__()
        clips = 1 if self.contrastive == "none" else 2
        if self.sampler.num_clips != clips:
            remedy = f"say sampler.num_clips={clips}"
            raise OptionError("contrastive", self.contrastive, f"takes {clips} clips of a video", remedy)

    def objective(self, backbone: Backbone) -> Objective:
        return VideoPaceObjective(backbone, self)

    def references(self) -> References:
        """The paces are equally frequent."""
        return {"pace_accuracy": {"chance": 1 / self.sampler.max_pace, "reachable": 1.0}}


class VideoPaceObjective(Objective):
    """A linear head on the pooled features of every clip, and cross-entropy; with it a contrastive loss."""

    def __init__(self, backbone: Backbone, task: VideoPace) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, task.sampler.max_pace)
        if task.contrastive != "none":
            self.projection = nn.Linear(backbone.feature_dim, task.projection_dim)

    def forward(self, batch: Batch) -> StepOutput:
        clips_BKCTHW = batch["clips"]
        features_BKD = self.backbone(clips_BKCTHW.flatten(0, 1)).unflatten(0, clips_BKCTHW.shape[:2])
        paces_BK = torch.stack([batch[name] for name in self.task.sampler.classes], dim=1)
        logits_BKN = self.head(features_BKD)
        pace_loss = F.cross_entropy(logits_BKN.flatten(0, 1), paces_BK.flatten())
        loss = self.task.pace_weight * pace_loss
        metrics = {
            "pace_loss": pace_loss.detach(),
            "pace_accuracy": (logits_BKN.argmax(dim=2) == paces_BK).float().mean(),
        }
        if self.task.contrastive != "none":
            contrastive_loss = self._contrast(features_BKD, paces_BK)
            loss = loss + self.task.contrastive_weight * contrastive_loss
            metrics["contrastive_loss"] = contrastive_loss.detach()
        return StepOutput(loss, metrics)

    def _contrast(self, features_BKD: Tensor, paces_BK: Tensor) -> Tensor:
        embeddings_BKD = F.normalize(self.projection(features_BKD), dim=2)
        videos_BK = torch.arange(len(paces_BK), device=paces_BK.device)[:, None].expand_as(paces_BK)
        groups_BK = videos_BK if self.task.contrastive == "same_context" else paces_BK
        return grouped_info_nce(embeddings_BKD.flatten(0, 1), groups_BK.flatten(), self.task.temperature)


def grouped_info_nce(embeddings_BD: Tensor, groups_B: Tensor, temperature: float) -> Tensor:
    """Tell apart clips of other groups: mean over all pairs (i, j) of one group, i != j, of

        -ln( exp(s_ij) / (exp(s_ij) + sum_k exp(s_ik)) ),   s = z_i . z_j / temperature,

    where k runs over the clips of other groups. 0 if no two clips share a group.
    """
    similarities_BB = dot_products(embeddings_BD, embeddings_BD) / temperature
    alike_BB = groups_B[:, None] == groups_B
    negatives_B1 = similarities_BB.masked_fill(alike_BB, -torch.inf).logsumexp(dim=1, keepdim=True)
    losses_BB = F.softplus(negatives_B1 - similarities_BB)
    positive_BB = alike_BB ^ torch.eye(len(groups_B), dtype=torch.bool, device=groups_B.device)
    return (losses_BB * positive_BB).sum() / positive_BB.sum().clamp(min=1)
