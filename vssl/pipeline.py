"""From a composed config to the stages it asks for. The only place that reads a `DictConfig`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl.data.index import checked, num_classes
from vssl.errors import VsslError
from vssl.stage.spec import StageSpec, class_name

Node = dict[str, Any]

PRETRAINING = {"auxiliary": 2, "pretext": 1}
"""Stages that train without labels, in order, and the clips that their samplers cut per video unless they
say so themselves (`num_clips`): the auxiliary stage shows one clip to the student and one to the teacher."""

PLACES = ("root", "index")
"""Values of a source that say where it lies; no part of a recipe."""


@dataclass(frozen=True)
class Point:
    """One point of a sweep: what it is called, and the chain of stages that leads to its result."""

    label: str
    seed: int
    chain: list[StageSpec]


def plan(cfg: DictConfig) -> list[StageSpec]:
    """The chain of stages of one config, parents first.

    Raises `VsslError` for a combination that cannot run, and omegaconf's `MissingMandatoryValue` for a
    value that the user has to give.
    """
    config: Node = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    chain: list[StageSpec] = []
    if not config["init"]["weights"]:
        for name, clips in PRETRAINING.items():
            if config[name]["_target_"]:
                chain.append(_training_stage(name, config[name], config["source"], clips, config, chain))
    protocol = config["protocol"]
    labelled = config["downstream"]
    if protocol.get("num_classes", 0) is None:
        protocol["num_classes"] = num_classes(labelled["train"])
    chain.append(_training_stage(protocol.pop("stage"), protocol, labelled["train"], 1, config, chain))
    chain.append(_test_stage(protocol, labelled["test"], config, chain[-1]))
    return chain


def merge(chains: Iterable[list[StageSpec]]) -> list[StageSpec]:
    """All stages of all chains, each key once, parents before children."""
    return list(dict.fromkeys(spec for chain in chains for spec in chain))


def _training_stage(
    name: str, node: Node, source: Node, clips: int, config: Node, chain: list[StageSpec]
) -> StageSpec:
    source = _known(source)
    parent = chain[-1] if chain else None
    weights = config["init"]["weights"] if parent is None else None
    outside = ("augmentation", "training", "revision", "test")
    recipe = {
        "task": {key: value for key, value in node.items() if key not in outside},
        "augmentation": node["augmentation"],
        "training": node["training"],
        "revision": node["revision"],
        **_backbone_and_data(config, source),
        "init": _digest_of_file(weights) if weights else None,
    }
    paths = {**_places(source), **({"init": weights} if weights else {})}
    clips = _integer(node["sampler"], "num_clips", f"{name}.sampler", clips)
    return StageSpec(name, recipe, parent, paths, clips=clips * _samples_seen(name, node["training"], source))


def _test_stage(protocol: Node, source: Node, config: Node, parent: StageSpec) -> StageSpec:
    source, test = _known(source), protocol["test"]
    recipe = {
        "task": {**parent.recipe["task"], "sampler": test["sampler"]},
        **{key: value for key, value in test.items() if key != "sampler"},
        **_backbone_and_data(config, source),
    }
    clips = _integer(source, "num_videos", "data") * _integer(test["sampler"], "num_clips", "test.sampler", 1)
    return StageSpec("test", recipe, parent, _places(source), clips=clips)


def _samples_seen(name: str, training: Node, source: Node) -> int:
    """Videos behind all steps of a training, counted as often as they are seen."""
    per_epoch = _integer(source, "num_videos", "data") * _integer(source, "repeat", "data")
    if training["drop_last"]:
        per_epoch -= per_epoch % _integer(training, "batch_size", f"{name}.training")
    return per_epoch * _integer(training, "epochs", f"{name}.training")


def _integer(node: Node, key: str, where: str, default: int | None = None) -> int:
    """A whole number that the plan counts with; all other values are checked when they are used."""
    value = node.get(key, default)
    if not isinstance(value, int):
        raise VsslError(f"{where}.{key}={value}: expected int, got {type(value).__name__}")
    return value


def _backbone_and_data(config: Node, source: Node) -> Node:
    return {
        "backbone": {key: value for key, value in config["backbone"].items() if key != "input"},
        "data": {key: value for key, value in source.items() if key not in PLACES},
        "seed": config["seed"],
    }


def _known(source: Node) -> Node:
    """The source with its number of videos: the config says it, or the index of a real data set."""
    return checked(source) if "index" in source else source


def _places(source: Node) -> dict[str, str]:
    return {key: source[key] for key in PLACES if key in source}


def _digest_of_file(path: str) -> str:
    """A file of weights counts by its content, not by its name."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise VsslError(
            f"init.weights={path}: {error.strerror}; give the file of a plain state dict"
        ) from error


def absolute_outputs(cfg: DictConfig) -> Path:
    """Make `outputs` absolute in place, so that nothing depends on the working directory later."""
    cfg.outputs = str(Path(cfg.outputs).expanduser().absolute())
    return Path(cfg.outputs)


def describe(spec: StageSpec) -> str:
    """What a stage is, in a few words."""
    recipe: Mapping[str, Any] = spec.recipe
    task, backbone, data = (recipe[part] for part in ("task", "backbone", "data"))
    videos = f"{data.get('name', class_name(data))} x {data['num_videos']}"
    words = f"{class_name(task)}, {class_name(backbone)}, {videos}"
    if "training" in recipe:
        words += f", {recipe['training']['epochs']} epochs"
    return f"{words}, seed {recipe['seed']}"
