"""The objects that a recipe names. What cannot run is found here, before anything runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from vssl.checks import check_at_least, check_type
from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset
from vssl.data.part import Part, part_of
from vssl.engine.loader import Steps
from vssl.engine.training import Training
from vssl.errors import OptionError, VsslError
from vssl.stage.build import build, naming
from vssl.stage.choice import first
from vssl.stage.kind import COMPARISON, TEST
from vssl.stage.spec import Recipe, StageSpec, content_hash
from vssl.stage.weights import load_given, unchanged
from vssl.types import Backbone, VideoSource

NOMINAL_FRAMES = 300
"""Length of a video of which nothing is known yet."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Machine:
    """Where a stage will run: processes that share a training, and the kind of device, None if not known."""

    processes: int = 1
    device: str | None = None


class Undrawn(TorchFunctionMode):
    """Draw no normal numbers: on the meta device, torch would load its compiler for it, a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.normal_, torch.nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class Stage:
    """The objects of one stage, made when they are asked for; all errors name the option at fault.

    `shared` keeps what other stages have as well: in a sweep, most of them. `recipe`: with what was chosen,
    where the stage has a choice; else its first candidate stands for it.
    """

    def __init__(
        self, spec: StageSpec, shared: dict[str, Any] | None = None, recipe: Recipe | None = None
    ) -> None:
        self.spec, self.recipe = spec, recipe or first(spec.recipe)
        self._shared = {} if shared is None else shared

    @cached_property
    def task(self) -> Any:
        """What is done: a `Task`, `VideoFeatures`, or an `Evaluation`; a teacher in it has its weights."""
        if self.recipe.task.get("teacher"):  # which may be one of random weights
            torch.manual_seed(self.recipe.seed)
        task = self._built("task")
        if file := self.spec.paths.get("teacher"):
            option = f"{self.spec.option('task')}.teacher_weights"
            known = self.recipe.task["teacher_weights"]
            load_given(task.teacher, unchanged(Path(file), known, option), option)
        return task

    @cached_property
    def training(self) -> Training | None:
        """How it trains; None if it does not."""
        training: Training | None = self._built("training") if self.recipe.training else None
        return training

    @cached_property
    def source(self) -> VideoSource:
        """The videos; they are not prepared."""
        data = {name: value for name, value in self.recipe.data.items() if name not in ("repeat", "part")}
        places = {name: path for name, path in self.spec.paths.items() if name not in ("init", "teacher")}
        made: VideoSource = self._once("data", {**data, **places}, build)
        if part := self.recipe.data.get("part"):
            how = Part(part["per_class"], part["held_out"], part["side"], self.recipe.seed)
            return part_of(made, how, data.get("group"), part["fingerprint"])
        return made

    @cached_property
    def augmentation(self) -> Augmentation:
        """What is done with the frames of a clip."""
        augmentation: Augmentation = self._built("augmentation")
        return augmentation

    @property
    def repeat(self) -> int:
        """How often each video counts in one epoch."""
        repeat: int = self.recipe.data["repeat"]
        check_count(self.spec.option("repeat"), repeat)
        return repeat

    @cached_property
    def dataset(self) -> ClipDataset:
        """The clips: sampler and augmentation on the videos. Only a training replaces bad ones."""
        return ClipDataset(
            self.source,
            self.task.sampler,
            self.augmentation,
            seed=self.recipe.seed,
            repeat=self.repeat,
            replace_bad=self.spec.kind.trains,
        )

    @property
    def num_samples(self) -> int:
        """Samples of one epoch; as published where the videos are not checked."""
        if self.recipe.is_provisional:
            return self.recipe.num_videos * self.repeat
        return len(self.dataset)

    @property
    def steps(self) -> Steps:
        """The steps of the training."""
        assert self.training is not None, "the stage trains"
        num_samples = self.num_samples  # names other options than those of the training
        with naming(self.spec.option("training")):
            return Steps(num_samples, self.training, self.recipe.seed)

    @property
    def clips_per_sample(self) -> int:
        """Clips that the sampler cuts from a video: as many from each."""
        sampler, rng = self.task.sampler, np.random.default_rng(0)
        return len(sampler.plan(max(NOMINAL_FRAMES, sampler.min_frames), rng).frames_KT)

    @property
    def clips(self) -> int:
        """Clips that the stage decodes in all."""
        if self.recipe.augmentation is None:
            return 0
        return self.clips_per_sample * (self.steps.samples if self.training else self.num_samples)

    def backbone(self) -> Backbone:
        """A backbone with fresh weights, drawn from the recipe's seed."""
        torch.manual_seed(self.recipe.seed)
        backbone: Backbone = self._built("backbone")
        return backbone

    def check(self, machine: Machine) -> None:
        """Make everything, on no device and reading no video, to find mistakes before anything runs.

        Raises `OptionError` or `VsslError`.
        """
        backbone = self._once("meta", self.recipe.backbone, self._on_meta)
        self._check_start()
        _ = self.task
        check_count(self.spec.option("revision"), self.recipe.revision)
        if self.spec.kind is COMPARISON:
            for spec in self.spec.chain[-3:-1]:  # hours of describing videos ask for no label
                Stage(spec, self._shared)._check_labels()
            return
        augmentation = self.augmentation
        if check_backbone := getattr(self.task, "check_backbone", None):
            with naming(self.spec.option("task")):
                check_backbone(backbone, augmentation.crop.size)
        if not self.recipe.is_provisional:
            _ = self.dataset
        if self.spec.kind.labelled:
            self._check_labels()
        if self.recipe.batch_size is not None:
            check_count(self.spec.option("batch_size"), self.recipe.batch_size)
        if training := self.training:
            micro_batches = self.steps.most
            with naming(self.spec.option("task")):
                self.task.check(training.batch_size, training.drop_last)
            num_samples = self.num_samples
            with naming(self.spec.option("training")):
                training.check_samples(num_samples, self.task.min_batch, type(self.task).__name__)
                training.check_ranks(machine.processes, micro_batches)
                if machine.device is not None:
                    training.check_device(machine.device)

    def remarks(self) -> list[str]:
        """What to know of a training before it starts: videos left out, crops that are enlarged."""
        if not self.training or self.recipe.is_provisional:
            return []
        name, sampler, found = self.recipe.data_name, self.task.sampler, []
        if excluded := self.dataset.excluded:
            who = type(getattr(sampler, "sampler", sampler)).__name__
            found.append(
                f"left out: {excluded:,} of {len(self.source.videos):,} videos of {name}, shorter than the "
                f"{sampler.min_frames} frames that {who} needs"
            )
        short = getattr(self.source, "short_side", None)
        least = getattr(self.augmentation.crop, "enlarges_below", 0)
        if short is not None and short < least:
            found.append(
                f"{name}: its videos are {short} pixels high or wide, and the smallest crops of frames below "
                f"{least:.0f} are enlarged; prepare it anew with mode=prepare "
                f"prepare.size={self.augmentation.crop.prepared_size}"
            )
        return found

    def _check_start(self) -> None:
        """Load the weights that are given: what does not fit is found before hours of other stages."""
        file = self.spec.paths.get("init")
        key = content_hash(["init", file, dict(self.recipe.backbone)])
        if file and key not in self._shared:
            load_given(self.backbone(), Path(file), "init.weights")
            self._shared[key] = True

    def _check_labels(self) -> None:
        """Check them against the classes that were trained, or against all that the videos have."""
        if self.recipe.is_provisional:
            return
        trained = self.spec.parent if self.spec.kind is TEST and self.spec.parent else self.spec
        classes = trained.recipe.task.get("num_classes", len(self.source.class_names))
        key = content_hash(["labels", dict(self.recipe.data), classes])
        if key not in self._shared:
            check_labels(labels(self.dataset), classes, self.spec)
            self._shared[key] = True

    def _on_meta(self, node: Any, where: str) -> Backbone:
        with torch.device("meta"), Undrawn():  # no memory, no random weights
            backbone: Backbone = build(node, self.spec.option("backbone"))
        return backbone

    def _built(self, part: str) -> Any:
        node = getattr(self.recipe, part)
        return build(node, self.spec.option(part))

    def _once(self, part: str, node: Any, make: Callable[[Any, str], Made]) -> Made:
        """Made by the first stage that asks for it."""
        key = content_hash([part, dict(node)])
        if key not in self._shared:
            self._shared[key] = make(node, self.spec.option(part))
        made: Made = self._shared[key]
        return made


def check_count(option: str, count: int) -> None:
    """Raise `OptionError` for what is no whole number from 1 on, of values that no constructor takes."""
    check_type(option, count, int)
    check_at_least(option, count, 1)


def link(stages: Iterable[Stage]) -> list[StageSpec]:
    """The stages, each with the longest of the shorter trainings that it passes through on its way."""
    stages = list(stages)
    families: dict[str, list[StageSpec]] = {}
    for stage in stages:
        if stage.training and not stage.training.schedule.depends_on_length:
            families.setdefault(stage.spec.shortened(0).key, []).append(stage.spec)
    shorter: dict[StageSpec, StageSpec] = {}
    for family in families.values():
        family.sort(key=lambda spec: spec.recipe.epochs)
        shorter.update(zip(family[1:], family, strict=False))
    return [replace(s.spec, continues=shorter[s.spec]) if s.spec in shorter else s.spec for s in stages]


def labels(dataset: ClipDataset) -> torch.Tensor:
    """The labels [V] of all videos, -1 where there is none."""
    return torch.tensor([-1 if video.label is None else video.label for video in dataset.videos])


def check_labels(labels_V: torch.Tensor, num_classes: int, spec: StageSpec) -> None:
    """Raise `VsslError` if a video has no class, or none of the first `num_classes`."""
    data = spec.option("data")
    if missing := int((labels_V < 0).sum()):
        raise VsslError(
            f"{data}: {missing} of {len(labels_V)} videos have no class, so nothing can be right or wrong "
            "about them; give them a class (mode=check counts those without one), or leave them out"
        )
    if (highest := int(labels_V.max())) >= num_classes:
        raise OptionError(
            "protocol.num_classes",
            num_classes,
            f"a video of {data} is of class {highest} (from 0)",
            "null takes as many as there are",
        )
