"""auxSKD, auxiliary similarity-based knowledge distillation: a first training stage that helps the pretext.

Source: the auxSKD paper, section 3.1 and Algorithm 1, and the authors' released code where it is silent.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import SHARE, TEMPERATURE, at_least
from vssl.errors import OptionError
from vssl.nn.contrast import (
    FrozenEncoder,
    KeyQueue,
    MomentumEncoder,
    QueueInit,
    check_batches,
    dot_products,
)
from vssl.nn.heads import mlp
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, Progress, StepOutput, Task

TRIES = 1000
"""Draws for a second clip that differs from the first one."""


@dataclass(frozen=True)
class PairSampler(ClipSampler):
    """Two clips of one video (K = 2), drawn as the pretext task draws its own; no targets.

    sampler: of the pretext. One with a method `pair(num_frames, rng, distinct)` draws both in its own way.
    distinct: the two differ in every target that has more than one value (for VSPP in speed and in segment),
        as in the released code; otherwise they are independent, as the paper's text has it.
    """

    sampler: ClipSampler
    distinct: bool

    @property
    def min_frames(self) -> int:
        return self.sampler.min_frames

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        """Raises `OptionError` where no second clip is `distinct` from the first one."""
        if draw_pair := getattr(self.sampler, "pair", None):
            pair: ClipPlan = draw_pair(num_frames, rng, self.distinct)
            return pair
        first = self.sampler.plan(num_frames, rng)
        assert len(first.frames_KT) == 1, "a sampler of several clips has to define `pair`"
        for _ in range(TRIES):
            second = self.sampler.plan(num_frames, rng)
            if not self.distinct or all(
                first.targets[name] != second.targets[name]
                for name, count in self.sampler.classes.items()
                if count > 1
            ):
                return ClipPlan(np.concatenate([first.frames_KT, second.frames_KT]), {})
        problem = f"in {TRIES} tries, no two clips of a video of {num_frames} frames differed in every target"
        raise OptionError("distinct", True, problem, "say false")


@dataclass(frozen=True)
class Form:
    """What student and teacher are, and how they are compared; without more words as in auxSKD.

    See `vssl.auxiliary.distillation.Distillation`, which has these as options.
    """

    projection_layers: int = 1
    projection_hidden: int = 1
    projection_norm: bool = False
    loss: Literal["anchors", "cosine"] = "anchors"
    own_anchor: bool = False
    student_queue: bool = False
    teacher: Backbone | None = None


@dataclass(frozen=True)
class AuxSKD(Task):
    """Teach a student the similarities that its own running average, the teacher, sees (paper 3.1).

    sampler: gives the pairs; the first clip goes to the student, the second one to the teacher.
    projection_dim: width D of the embeddings.
    predictor_layers, predictor_hidden: linear layers of the student's predictor, an MLP D -> hidden -> D, and
        its hidden width (released code: 2 layers; the paper: "3-layer MLP"). 0 layers: no predictor.
    queue_size: H, the number of anchors: the teacher's latest embeddings.
    queue_init: what the queue starts with, see `KeyQueue`.
    momentum: m of the teacher's update.
    teacher_temperature, student_temperature: gamma in Eq. 1 and 2.
    shuffle_bn: several processes exchange the teacher's clips, so that its batch norm sees others than the
        student's (released code). It takes several.
    """

    min_batch = 2  # the predictor's batch norm

    sampler: ClipSampler
    projection_dim: int = field(metadata=at_least(1))
    predictor_layers: int = field(metadata=at_least(0))
    predictor_hidden: int = field(metadata=at_least(1))
    queue_size: int = field(metadata=at_least(2))
    queue_init: QueueInit
    momentum: float = field(metadata=SHARE)
    teacher_temperature: float = field(metadata=TEMPERATURE)
    student_temperature: float = field(metadata=TEMPERATURE)
    shuffle_bn: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predictor_layers == 1:
            remedy = "say 2 or more, or 0 for no predictor"
            raise OptionError("predictor_layers", 1, "has no hidden layer", remedy)

    @property
    def form(self) -> Form:
        """What student and teacher are, and how they are compared."""
        return Form()

    def check(self, batch_size: int, drop_last: bool) -> None:
        check_batches(self.queue_size, self.shuffle_bn, batch_size, drop_last)

    def objective(self, backbone: Backbone) -> Objective:
        return AuxSKDObjective(backbone, self)

    def references(self) -> References:
        """The entropies, as shares of ln H, are 1 when a clip is as similar to one anchor as to any other.
        Without anchors, all clips have become one when they do not spread."""
        if self.form.loss == "cosine":
            return {"spread": {"collapsed": 0.0}}
        return {name: {"collapsed": 1.0} for name in ("student_entropy", "teacher_entropy")}


class AuxSKDObjective(Objective):
    """Student (backbone, projection, predictor), teacher and a queue of anchors.

    The teacher is a running average of backbone and projection, or a network that is given. Where the student
    has anchors of its own, they are a running average's too.
    """

    def __init__(self, backbone: Backbone, task: AuxSKD) -> None:
        super().__init__()
        self.task, self.form = task, task.form
        self.backbone, form = backbone, task.form
        self.projection, dim = _projection(backbone.feature_dim, task.projection_dim, form)
        hidden = [task.predictor_hidden] * (task.predictor_layers - 1)
        self.predictor = mlp([dim, *hidden, dim], batch_norm=True) if hidden else nn.Identity()
        self.teacher: MomentumEncoder | FrozenEncoder
        if form.teacher:
            self.teacher = FrozenEncoder(form.teacher)
        else:
            self.teacher = MomentumEncoder(self._student(), task.shuffle_bn)
        if form.loss == "anchors":
            teacher_dim = form.teacher.feature_dim if form.teacher else dim
            self.queue = KeyQueue(task.queue_size, teacher_dim, task.queue_init)
        if form.student_queue:
            self.average = MomentumEncoder(self._student(), task.shuffle_bn)
            self.own_queue = KeyQueue(task.queue_size, dim, task.queue_init)

    def forward(self, batch: Batch) -> StepOutput:
        """Compare each pair with the anchors, or with each other; new anchors join in `after_step`."""
        # One clip of a video is for both.
        student_clips, teacher_clips = batch["clips"][:, 0], batch["clips"][:, -1]
        student_BD = F.normalize(self.predictor(self._student()(student_clips)))
        teacher_BD = F.normalize(self.teacher(teacher_clips))
        if self.form.loss == "cosine":
            cosine = (student_BD * teacher_BD).sum(dim=1).mean()
            metrics = {"cosine": cosine.detach(), "spread": student_BD.detach().std(dim=0).mean()}
            return StepOutput(2 - 2 * cosine, metrics)
        self.queue.hold(teacher_BD)
        if self.form.student_queue:
            self.own_queue.hold(F.normalize(self.average(student_clips)))
        student_BH = self._similarities(student_BD, teacher_BD, self.task.student_temperature, True)
        teacher_BH = self._similarities(teacher_BD, teacher_BD, self.task.teacher_temperature, False)
        metrics = {
            "student_entropy": _relative_entropy(student_BH.detach()),
            "teacher_entropy": _relative_entropy(teacher_BH),
        }
        if student_BD.shape == teacher_BD.shape:
            metrics["cosine"] = (student_BD.detach() * teacher_BD).sum(dim=1).mean()
        return StepOutput(kl_divergence(teacher_BH, student_BH), metrics)

    def _similarities(
        self, embeddings_BD: Tensor, teacher_BD: Tensor, temperature: float, of_student: bool
    ) -> Tensor:
        """Log-probabilities of the anchors, behind that of the sample's own teacher embedding if it is
        one."""
        queue = self.own_queue if of_student and self.form.student_queue else self.queue
        if not self.form.own_anchor:
            return log_similarities(embeddings_BD, queue.keys, temperature)
        own_B1 = (embeddings_BD * teacher_BD).sum(dim=1, keepdim=True)
        return F.log_softmax(torch.cat([own_B1, dot_products(embeddings_BD, queue.keys)], 1) / temperature, 1)

    def after_step(self, progress: Progress) -> None:
        """Move the teacher, then enqueue the keys of this step's forwards, those of all ranks in order.

        The paper moves the teacher within the next step, before that step's optimiser update: the same.
        """
        self.teacher.follow(self._student(), self.task.momentum)
        if self.form.loss == "anchors":
            self.queue.enqueue_held()
        if self.form.student_queue:
            self.average.follow(self._student(), self.task.momentum)
            self.own_queue.enqueue_held()

    def keys(self) -> Tensor | None:
        return self.queue.keys if self.form.loss == "anchors" else None

    def _student(self) -> nn.Sequential:
        """What the teacher is a running average of."""
        return nn.Sequential(self.backbone, self.projection)


def _projection(features: int, dim: int, form: Form) -> tuple[nn.Module, int]:
    """From features to embeddings, and their width: the teacher's where the two share their anchors."""
    if form.teacher and not form.student_queue:
        dim = form.teacher.feature_dim
    if not form.projection_layers:
        return nn.Identity(), features
    if form.projection_layers == 1:
        return nn.Linear(features, dim), dim
    hidden = [form.projection_hidden] * (form.projection_layers - 1)
    return mlp([features, *hidden, dim], form.projection_norm), dim


def log_similarities(embeddings_BD: Tensor, anchors_HD: Tensor, temperature: float) -> Tensor:
    """Log-probability [B,H] of each anchor: softmax of dot products over temperature (Eq. 1 and 2).

    The equations as printed carry a stray minus log; as probabilities they are this softmax.
    """
    return F.log_softmax(dot_products(embeddings_BD, anchors_HD) / temperature, dim=1)


def kl_divergence(target_BH: Tensor, output_BH: Tensor) -> Tensor:
    """KL(target || output) of log-probabilities: sum over anchors, mean over the batch (Eq. 3)."""
    return F.kl_div(output_BH, target_BH, reduction="batchmean", log_target=True)


def _relative_entropy(log_probabilities_BH: Tensor) -> Tensor:
    """Entropy as a share of its maximum ln H: 1 when all anchors look alike, as after a collapse."""
    entropy_B = -(log_probabilities_BH.exp() * log_probabilities_BH).sum(dim=1)
    return entropy_B.mean() / math.log(log_probabilities_BH.shape[1])
