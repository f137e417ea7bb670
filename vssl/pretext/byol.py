"""BYOL on clips (rhoBYOL): predict what a running average of the network makes of another clip of the video.

Source: Feichtenhofer et al., A Large-Scale Study on Unsupervised Spatiotemporal Representation Learning (CVPR
2021), and its code in PySlowFast. Otherwise than there:
- Clips are not blurred; videos play at their own rate (there: 30 frames per second).
- Published with Slow R50 on clips of 8 frames of 224 pixels, every eighth one: these span as many frames.
"""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from vssl.checks import SHARE, at_least
from vssl.nn.contrast import KeyInit, MomentumEncoder, annealed
from vssl.nn.heads import mlp
from vssl.pretext.moco import check_clips
from vssl.pretext.windows import Windows
from vssl.result import References
from vssl.types import Backbone, Batch, Objective, Progress, StepOutput, Task


@dataclass(frozen=True)
class BYOL(Task):
    """Prediction of the target network's embeddings, between rho clips of each video, without negatives.

    sampler: rho is its number of clips; two of the same frames are views that differ by augmentation alone.
    embedding_dim, head_hidden: width D of the embeddings, and hidden width of head and predictor.
    momentum, momentum_end: m of the target's update at the beginning and, along a cosine, at the end.
    key_init: what the target starts from if the stage starts from an auxiliary one, see `KeyInit`.
    """

    min_batch = 2  # batch norm of the heads

    sampler: Windows
    embedding_dim: int = field(metadata=at_least(1))
    head_hidden: int = field(metadata=at_least(1))
    momentum: float = field(metadata=SHARE)
    momentum_end: float = field(metadata=SHARE)
    key_init: KeyInit

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clips(self.sampler)

    def objective(self, backbone: Backbone) -> Objective:
        return BYOLObjective(backbone, self)

    def references(self) -> References:
        """Guessing is a coin: own video or the next one of the batch. After a collapse all clips are
        predicted alike, with a cosine of 1 and no spread."""
        return {
            "pair_accuracy": {"chance": 0.5, "reachable": 1.0},
            "cosine": {"collapsed": 1.0},
            "spread": {"collapsed": 0.0, "uniform": self.embedding_dim**-0.5},
        }


class BYOLObjective(Objective):
    """Online network (backbone, head), its predictor, and the target network, a `MomentumEncoder`."""

    def __init__(self, backbone: Backbone, task: BYOL) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        hidden, dim = task.head_hidden, task.embedding_dim
        self.head = mlp([backbone.feature_dim, hidden, dim], batch_norm=True)
        self.predictor = mlp([dim, hidden, dim], batch_norm=True)
        self.target = MomentumEncoder(self._online(), shuffle_bn=False)
        self.target.start_as(task.key_init, backbone, self._online)

    def forward(self, batch: Batch) -> StepOutput:
        """2 - 2 cos of each clip's prediction and the targets of the video's other clips: as published, the
        mean over the other clips, and the sum over the clips (there without the constant 2)."""
        clips = batch["clips"].unbind(1)
        targets = [F.normalize(self.target(clip_BCTHW)) for clip_BCTHW in clips]
        cosines, hits, spreads = [], [], []
        for own, clip_BCTHW in enumerate(clips):
            predicted_BD = F.normalize(self.predictor(self._online()(clip_BCTHW)))
            spreads.append(predicted_BD.detach().std(dim=0).mean())
            for target_BD in (target for number, target in enumerate(targets) if number != own):
                cosines.append((predicted_BD * target_BD).sum(dim=1))
                hits.append(cosines[-1] > (predicted_BD * target_BD.roll(1, dims=0)).sum(dim=1))
        cosine = torch.stack(cosines).mean()
        metrics = {
            "pair_accuracy": torch.stack(hits).float().mean(),
            "cosine": cosine.detach(),
            "spread": torch.stack(spreads).mean(),
        }
        return StepOutput(len(clips) * (2 - 2 * cosine), metrics)

    def after_step(self, progress: Progress) -> None:
        """Move the target network."""
        momentum = annealed(self.task.momentum, self.task.momentum_end, progress)
        self.target.follow(self._online(), momentum)

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head)
