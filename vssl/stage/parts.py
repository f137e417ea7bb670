"""What stage bodies share: objects from a recipe, and the words that describe them."""

from __future__ import annotations

from pathlib import Path

import torch

from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset
from vssl.engine.checkpoint import load
from vssl.errors import VsslError
from vssl.stage.build import build
from vssl.stage.spec import StageSpec
from vssl.types import Backbone, Task


def build_task(spec: StageSpec) -> Task:
    """The stage's task; checks its options."""
    task: Task = build(spec.recipe["task"], spec.name)
    return task


def build_backbone(spec: StageSpec) -> Backbone:
    """A backbone with fresh weights, drawn from the recipe's seed."""
    torch.manual_seed(spec.recipe["seed"])
    backbone: Backbone = build(spec.recipe["backbone"], "backbone")
    return backbone


def build_dataset(spec: StageSpec, task: Task) -> ClipDataset:
    """The stage's videos, prepared, with its sampler and augmentation.

    Only training replaces a bad video; a test counts all of them or fails.
    """
    data = dict(spec.recipe["data"])
    repeat = data.pop("repeat")
    places = {name: path for name, path in spec.paths.items() if name != "init"}
    source = build({**data, **places}, f"{spec.name}.data")
    augmentation: Augmentation = build(spec.recipe["augmentation"], f"{spec.name}.augmentation")
    source.prepare()
    return ClipDataset(
        source,
        task.sampler,
        augmentation,
        seed=spec.recipe["seed"],
        repeat=repeat,
        replace_bad="training" in spec.recipe,
    )


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Load a plain state dict strictly; what does not fit is named in the error."""
    try:
        backbone.load_state_dict(load(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise VsslError(f"{path}: not weights of {type(backbone).__name__}: {reason}") from error


def num_parameters(module: torch.nn.Module) -> int:
    """Parameters of a module, trained or not."""
    return sum(p.numel() for p in module.parameters())
