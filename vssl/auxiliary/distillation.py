"""Similarity distillation beyond auxSKD: the methods that it descends from, and what it can be compared with.

Sources: the released codes of ISD (Tejankar et al., ICCV 2021), CompRess (Koohpayegani et al., NeurIPS
2020), SEED (Fang et al., ICLR 2021) and BYOL as in ISD's code, all for images. Here clips take the place of
images, by the sampler and with the augmentation of the pretext; each yaml says what else differs.
"""

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from vssl.auxiliary.auxskd import AuxSKD, Form, PairSampler
from vssl.checks import at_least
from vssl.errors import OptionError
from vssl.types import Backbone, ClipPlan, ClipSampler


@dataclass(frozen=True)
class SameClip(ClipSampler):
    """One clip of a video, drawn as the first of a pair, and given `num_clips` times; no targets.

    num_clips: 1 shows student and teacher the same pixels; 2 the same frames, each augmented by itself.
    """

    sampler: ClipSampler
    num_clips: Literal[1, 2]

    @property
    def min_frames(self) -> int:
        return self.sampler.min_frames

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        first_1T = PairSampler(self.sampler, distinct=False).plan(num_frames, rng).frames_KT[:1]
        return ClipPlan(np.repeat(first_1T, self.num_clips, axis=0), {})


@dataclass(frozen=True)
class Distillation(AuxSKD):
    """auxSKD with other networks, anchors and losses.

    projection_layers, projection_hidden, projection_norm: of the head before the embeddings: 0 layers (the
    features
        are the embeddings), 1, or an MLP with this hidden width, with batch norm or without.
    loss: `anchors`: the similarities to the queue (KL divergence). `cosine`: 2 - 2 cos of the two embeddings,
        without a queue (BYOL).
    own_anchor: the sample's own teacher embedding is an anchor too (SEED).
    student_queue: the student is compared with keys of its own running average, in the order of the teacher's
        (CompRess), so that the embeddings of the two need not have one width.
    teacher: a network that is given, and stays as it is; null: the student's running average. Where both
    share
        their anchors, the projection is as wide as its features, whatever projection_dim says.
    teacher_weights: file of its weights, as for `init.weights`. null: random ones.
    """

    projection_layers: int = field(metadata=at_least(0))
    projection_hidden: int = field(metadata=at_least(1))
    projection_norm: bool
    loss: Literal["anchors", "cosine"]
    own_anchor: bool
    student_queue: bool
    teacher: Backbone | None
    teacher_weights: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_weights and not self.teacher:
            remedy = "say what network it is of, such as teacher=${backbone}"
            raise OptionError("teacher_weights", self.teacher_weights, "there is no teacher for it", remedy)
        if self.student_queue and (self.own_anchor or self.loss == "cosine"):
            option = "own_anchor" if self.own_anchor else "loss"
            problem = "compares student and teacher, and student_queue has them apart"
            raise OptionError(option, getattr(self, option), problem, "say student_queue=false")

    @property
    def form(self) -> Form:
        return Form(**{part.name: getattr(self, part.name) for part in fields(Form)})

    def check_backbone(self, backbone: Backbone, side: int) -> None:
        if self.teacher and not self.student_queue and not self.projection_layers:
            student, teacher = backbone.feature_dim, self.teacher.feature_dim
            if student != teacher:
                problem = f"the student has {student} features, and its teacher {teacher}"
                remedy = "say 1, which makes them as many, or student_queue=true"
                raise OptionError("projection_layers", 0, problem, remedy)
