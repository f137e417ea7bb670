"""Backbones that were trained before: found by the key of their stage, or in an exported folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class

from vssl.data.augmentation import Augmentation
from vssl.engine.checkpoint import WEIGHTS
from vssl.errors import VsslError
from vssl.stage.build import build
from vssl.stage.spec import Node, Recipe, StageSpec
from vssl.stage.store import StageStore, StoredStage
from vssl.stage.weights import last_trained, load_backbone
from vssl.types import Backbone

EXPORTED, CONFIG = "model.safetensors", "config.json"

FORMAT = 1
"""Version of the layout of an exported folder."""


def load_saved(where: str | Path, outputs: Path) -> Backbone:
    """The backbone of a stage or of an exported folder, with its weights, in evaluation mode.

    where: a folder, or the beginning of a stage's key in the store of `outputs`.
    """
    folder = Path(where)
    if (folder / EXPORTED).exists():
        return _loaded(_read_config(folder)["backbone"], folder / EXPORTED)
    trained = with_weights(_in_its_store(folder) if folder.is_dir() else StageStore(outputs).open(str(where)))
    return _loaded(trained.spec.recipe.backbone, trained.folder / WEIGHTS)


def _in_its_store(folder: Path) -> StoredStage:
    """The stage of a folder; those before it lie beside it."""
    *_, stages, _, key = ("", "", "", *folder.resolve().parts)
    if stages != "stages" or not (folder / "recipe.yaml").exists():
        raise VsslError(
            f"{folder}: neither a stage's folder nor an exported one; give OUTPUTS/stages/NAME/KEY, or a "
            "folder that mode=export wrote"
        )
    return StageStore(folder.resolve().parents[2]).open(key)


def with_weights(stage: StoredStage) -> StoredStage:
    """The stage itself, or the last one before it that trained. Raises `VsslError` if there is none."""
    trained: StageSpec | None = stage.spec if stage.spec.kind.trains else last_trained(stage.spec)
    if trained is None:
        raise VsslError(f"{stage.folder}: nothing was trained before it; give the key of a stage that trains")
    folder = stage.folder.parents[1] / trained.name / trained.key
    if not (folder / WEIGHTS).exists():
        raise VsslError(f"{folder}: has not finished training; run it to its end first")
    return StoredStage(trained, folder)


def expected_input(recipe: Recipe) -> dict[str, Any]:
    """What the backbone was trained on: frames of a clip, sizes, and the range of its pixels."""
    augmentation: Augmentation = build(recipe.augmentation or {}, "augmentation")
    crop = augmentation.crop
    return {
        **{"num_frames": _num_frames(recipe.task["sampler"]), "resize": crop.resize, "crop": crop.size},
        **{name: getattr(augmentation, name) for name in ("pixel_max", "mean", "std")},
    }


def for_input(augmentation: Node, given: Mapping[str, Any]) -> dict[str, Any]:
    """The node of an augmentation whose operation `crop` is a `Crop`, for the sizes and range of pixels that
    `expected_input` returned."""
    crop = {**augmentation["crop"], "resize": given["resize"], "size": given["crop"]}
    return {**augmentation, "crop": crop, **{name: given[name] for name in ("pixel_max", "mean", "std")}}


def _num_frames(sampler: Node) -> int:
    """Frames of a clip; the auxiliary stage has its sampler inside another one."""
    return int(sampler["num_frames"]) if "num_frames" in sampler else _num_frames(sampler["sampler"])


def _loaded(node: Node, weights: Path) -> Backbone:
    if not issubclass(get_class(node["_target_"]), Backbone):  # a folder from elsewhere may name anything
        raise VsslError(f"{weights.parent}: {node['_target_']} is no backbone; give a folder that vssl wrote")
    with torch.random.fork_rng(devices=[]):  # its random weights must not disturb the global generator
        backbone: Backbone = build(node, "backbone")
    load_backbone(backbone, weights)
    return backbone.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise VsslError(f"{path}: not there; export the stage again") from error
    except ValueError as error:
        raise VsslError(f"{path}: damaged ({error}); export the stage again") from error
    if config.get("format", 0) > FORMAT:
        raise VsslError(f"{folder}: exported by a newer vssl; update vssl")
    return config
