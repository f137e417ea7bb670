"""Backbones that were trained before: found by the key of their stage, or in an exported folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import get_class

from vssl.engine.checkpoint import WEIGHTS
from vssl.errors import VsslError
from vssl.stage.build import build
from vssl.stage.parts import load_backbone
from vssl.stage.store import StageStore
from vssl.types import Backbone

EXPORTED, CONFIG = "model.safetensors", "config.json"

FORMAT = 1
"""Version of the layout of an exported folder."""


def load_saved(where: str | Path, outputs: Path) -> Backbone:
    """The backbone of a stage or of an exported folder, with its weights, in evaluation mode.

    where: a folder, or the beginning of a stage's key in the store of `outputs`.
    """
    folder = find(where, outputs)
    node = read_recipe(folder)["backbone"]
    if not issubclass(get_class(node["_target_"]), Backbone):  # a folder from elsewhere may name anything
        raise VsslError(f"{folder}: {node['_target_']} is no backbone")
    with torch.random.fork_rng(devices=[]):  # its random weights are of no use, and nobody shall notice them
        backbone: Backbone = build(node, "backbone")
    exported = folder / EXPORTED
    load_backbone(backbone, exported if exported.exists() else folder / WEIGHTS)
    return backbone.eval()


def find(where: str | Path | None, outputs: Path) -> Path:
    """The folder that holds the weights: of the stage itself, or of the last one before it that trained."""
    if where is not None and Path(where).is_dir():
        folder = Path(where)
    else:
        store = StageStore(outputs)
        [folder] = store.root.glob(f"*/{store.key(None if where is None else str(where))}")
    if (folder / EXPORTED).exists() or (folder / WEIGHTS).exists():
        return folder
    recipe = read_recipe(folder)
    if "training" in recipe:
        raise VsslError(f"{folder}: has not finished training; run it to its end first")
    if recipe["parent"] is None:
        raise VsslError(f"{folder}: nothing was trained before it, so there are no weights to load")
    return find(folder.parent.parent / recipe["parent"], outputs)


def read_recipe(folder: Path) -> dict[str, Any]:
    """What stands in the `recipe.yaml` of a stage, or in the `config.json` of an exported folder."""
    try:
        if (folder / EXPORTED).exists():
            recipe: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        else:
            recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    except FileNotFoundError as error:
        raise VsslError(f"{folder}: neither a stage's folder nor an exported one") from error
    except (yaml.YAMLError, ValueError) as error:
        raise VsslError(f"{folder}: its recipe is damaged; delete the folder and run again") from error
    if recipe.get("format", 0) > FORMAT:
        raise VsslError(f"{folder}: exported by a newer vssl; update vssl")
    return recipe


def expected_input(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What the backbone was trained on: frames of a clip, sizes, and the range of its pixels."""
    if "input" in recipe:
        known: dict[str, Any] = recipe["input"]
        return known
    augmentation = recipe["augmentation"]
    values = {name: augmentation[name] for name in ("resize", "crop", "pixel_max", "mean", "std")}
    return {"num_frames": _num_frames(recipe["task"]["sampler"]), **values}


def _num_frames(sampler: Mapping[str, Any]) -> int:
    """Frames of a clip; the auxiliary stage has its sampler inside another one."""
    return int(sampler["num_frames"]) if "num_frames" in sampler else _num_frames(sampler["sampler"])
