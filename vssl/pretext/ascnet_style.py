"""Consistency of appearance and of speed, in the style of ASCNet. It is not ASCNet, and shares no number
with it.

Source: the abstract and a figure's caption of Huang et al., ASCNet: Self-supervised Video Representation
Learning with Appearance-Speed Consistency (ICCV 2021). No code was released, and the rest of the paper was
not at hand. From there: two tasks without negatives; two clips of a video at different speeds agree in
appearance; clips of different videos at the same speed agree in speed, where the other video is the one that
is most alike in appearance, out of a memory. Chosen here: all else, namely heads and predictors as in BYOL,
a target network that follows by momentum, the size of the memory, equal weights, and clips, augmentation and
training of RSPNet.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import SHARE, at_least
from vssl.nn.contrast import KeyInit, KeyQueue, MomentumEncoder, annealed, check_queue_size, dot_products
from vssl.nn.heads import mlp
from vssl.pretext.rspnet import RSPNetSampler
from vssl.result import References
from vssl.types import Backbone, Batch, Objective, Progress, StepOutput, Task


@dataclass(frozen=True)
class ASCNetStyle(Task):
    """Predict what another clip looks like, and how fast another video plays.

    embedding_dim, projection_hidden, predictor_hidden: width D of the embeddings, and hidden widths of the
        heads and of their predictors.
    queue_size: keys of other videos in memory, for each speed.
    momentum, momentum_end: m of the target network's update at the beginning and, along a cosine, at the end.
    appearance_weight, speed_weight: of the two losses.
    key_init: what the target network starts from if the stage starts from an auxiliary one, see `KeyInit`.
    """

    min_batch = 2  # batch norm of the heads

    sampler: RSPNetSampler
    embedding_dim: int = field(metadata=at_least(1))
    projection_hidden: int = field(metadata=at_least(1))
    predictor_hidden: int = field(metadata=at_least(1))
    queue_size: int = field(metadata=at_least(1))
    momentum: float = field(metadata=SHARE)
    momentum_end: float = field(metadata=SHARE)
    appearance_weight: float = field(metadata=at_least(0))
    speed_weight: float = field(metadata=at_least(0))
    key_init: KeyInit

    def check(self, batch_size: int, drop_last: bool) -> None:
        check_queue_size(self.queue_size, batch_size)

    def objective(self, backbone: Backbone) -> Objective:
        return ASCNetStyleObjective(backbone, self)

    def references(self) -> References:
        """Guessing is a coin: own video or the next one of the batch, and keys of which speed are nearer.
        After a collapse all clips are predicted alike, without spread."""
        coin = {"chance": 0.5, "reachable": 1.0}
        spread = {"collapsed": 0.0, "uniform": self.embedding_dim**-0.5}
        return {"appearance_accuracy": coin, "speed_accuracy": coin, "spread": spread}


class Heads(nn.Module):
    """Embeddings [B,2D], of appearance and then of speed, from the pooled features."""

    def __init__(self, features: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.appearance = mlp([features, hidden, dim], batch_norm=True)
        self.speed = mlp([features, hidden, dim], batch_norm=True)

    def forward(self, features_BD: Tensor) -> Tensor:
        return torch.cat([self.appearance(features_BD), self.speed(features_BD)], dim=1)


class ASCNetStyleObjective(Objective):
    """Online network (backbone, heads, predictors), target network, and a memory of keys for each speed.

    A key [2D] is what the target network makes of a clip: unit vectors of its appearance and of its speed.
    """

    def __init__(self, backbone: Backbone, task: ASCNetStyle) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        self.heads = Heads(backbone.feature_dim, task.projection_hidden, task.embedding_dim)
        widths = [task.embedding_dim, task.predictor_hidden, task.embedding_dim]
        self.appearance, self.speed = mlp(widths, batch_norm=True), mlp(widths, batch_norm=True)
        self.target = MomentumEncoder(self._online(), shuffle_bn=False)
        self.target.start_as(task.key_init, backbone, self._online)
        self.natural = KeyQueue(task.queue_size, 2 * task.embedding_dim, "rows")
        self.fast = KeyQueue(task.queue_size, 2 * task.embedding_dim, "rows")

    def forward(self, batch: Batch) -> StepOutput:
        """Compare the clips of each video, and each clip with a key of its speed; the keys of this batch join
        the memories in `after_step`."""
        # Both speeds in one forward: batch norm of one speed alone would take away what tells them apart.
        clips_NCTHW = torch.cat(self._play(batch["clips"]))
        look_ND, speed_ND = self._online()(clips_NCTHW).chunk(2, dim=1)
        predicted = list(zip(self.appearance(look_ND).chunk(2), self.speed(speed_ND).chunk(2), strict=True))
        parts_ND = [F.normalize(part_ND).chunk(2) for part_ND in self.target(clips_NCTHW).chunk(2, dim=1)]
        targets = list(zip(*parts_ND, strict=True))
        memories = [memory.keys.chunk(2, dim=1) for memory in (self.natural, self.fast)]
        parts = []
        for own, other in ((0, 1), (1, 0)):
            looks, speeds = predicted[own]
            partners = most_alike(targets[own][0], *memories[own])
            right_B = cosine(looks, targets[other][0]) > cosine(looks, targets[other][0].roll(1, dims=0))
            usual, unusual = (memories[n][1].mean(dim=0, keepdim=True) for n in (own, other))
            same_B = cosine(speeds, usual) > cosine(speeds, unusual)
            parts.append(
                {
                    "appearance_loss": (2 - 2 * cosine(looks, targets[other][0])).mean(),
                    "speed_loss": (2 - 2 * cosine(speeds, partners)).mean(),
                    "appearance_accuracy": right_B.float().mean(),
                    "speed_accuracy": same_B.float().mean(),
                    "spread": F.normalize(looks).std(dim=0).mean(),
                }
            )
        self.natural.hold(torch.cat(targets[0], dim=1))
        self.fast.hold(torch.cat(targets[1], dim=1))
        means = {name: (parts[0][name] + parts[1][name]) / 2 for name in parts[0]}
        loss = self.task.appearance_weight * means["appearance_loss"]
        loss = loss + self.task.speed_weight * means["speed_loss"]
        return StepOutput(loss, {name: value.detach() for name, value in means.items()})

    def after_step(self, progress: Progress) -> None:
        """Move the target network, then enqueue the keys of this step's forwards, those of all ranks in
        order."""
        momentum = annealed(self.task.momentum, self.task.momentum_end, progress)
        self.target.follow(self._online(), momentum)
        self.natural.enqueue_held()
        self.fast.enqueue_held()

    def keys(self) -> Tensor:
        return self.natural.keys

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.heads)

    def _play(self, windows_BKCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """A clip at natural speed and a fast one of each video; a coin says which window each is from."""
        sampler = self.task.sampler
        # On the CPU, whose generator the loop seeds at every step: no device draws other numbers.
        first_B = (torch.rand(len(windows_BKCTHW)) < 0.5).to(windows_BKCTHW.device, non_blocking=True)
        one, two = windows_BKCTHW.unbind(1)
        first_B1111 = first_B[:, None, None, None, None]
        natural, fast = torch.where(first_B1111, one, two), torch.where(first_B1111, two, one)
        return natural[:, :, : sampler.num_frames], fast[:, :, :: sampler.relative_speed]


def most_alike(appearance_BD: Tensor, appearances_HD: Tensor, speeds_HD: Tensor) -> Tensor:
    """The speed [B,D] of the key in memory that is most alike in appearance."""
    return speeds_HD[dot_products(appearance_BD, F.normalize(appearances_HD)).argmax(dim=1)]


def cosine(one_BD: Tensor, other_BD: Tensor) -> Tensor:
    """Cosines [B] of vectors of any length."""
    return F.cosine_similarity(one_BD, other_BD, dim=1)
