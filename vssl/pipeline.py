"""From a composed config to the stages it asks for. Below it there is no `DictConfig`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl.data.index import checked, class_names
from vssl.errors import VsslError
from vssl.files import digest
from vssl.stage.spec import PRETRAINING, StageSpec, class_name, data_name

Node = dict[str, Any]

CLIPS = {"auxiliary": 2, "pretext": 1}
"""Clips that the samplers of pretraining cut per video unless they say so themselves (`num_clips`): the
auxiliary stage shows one clip to the student and one to the teacher."""

PARTS = (*PRETRAINING, "source", "downstream", "protocol", "features", "backbone", "init", "seed")
"""What a plan is made from; to resolve the rest of the config as well would take half as long again."""

PLACES = ("root", "index", "decoder")
"""Values of a source that say where it lies and what reads it; no part of a recipe. What reads real videos
stands in their index."""


@dataclass(frozen=True)
class Point:
    """One point of a sweep: what it is called, the chain of stages that leads to its result, and its
    column in the sweep's table, if that has any."""

    label: str
    seed: int
    chain: list[StageSpec]
    column: str = ""


def plan(cfg: DictConfig) -> list[StageSpec]:
    """The chain of stages of one config, parents first.

    Raises `VsslError` for a combination that cannot run, and omegaconf's `MissingMandatoryValue` for a
    value that the user has to give.
    """
    config: Node = {name: _resolved(cfg[name]) for name in PARTS}
    if not isinstance(config["seed"], int) or not 0 <= config["seed"] < 2**63:
        raise VsslError(f"seed={config['seed']}: choose a whole number from 0 on")
    chain: list[StageSpec] = []
    if not config["init"]["weights"]:
        for name in PRETRAINING:
            if config[name]["_target_"]:
                chain.append(
                    _training_stage(name, config[name], config["source"], CLIPS[name], config, chain)
                )
    protocol, labelled = config["protocol"], config["downstream"]
    _check_classes(labelled)
    if "training" not in protocol:
        chain.append(_feature_stage("gallery", labelled["train"], config, chain))
        chain.append(_feature_stage("queries", labelled["test"], config, chain))
        chain.append(_comparison_stage(protocol, labelled["test"], config, chain[-1]))
        return chain
    protocol["num_classes"] = _classes(protocol["num_classes"], labelled["train"])
    chain.append(_training_stage(protocol.pop("stage"), protocol, labelled["train"], 1, config, chain))
    chain.append(_test_stage(protocol, labelled["test"], config, chain[-1]))
    return chain


def merge(chains: Iterable[list[StageSpec]]) -> list[StageSpec]:
    """All stages of all chains, each key once, parents before children, each with the shorter training it
    continues."""
    forest = list(dict.fromkeys(spec for chain in chains for spec in chain))
    families: dict[str, list[StageSpec]] = defaultdict(list)
    for spec in forest:
        if "training" in spec.recipe and _passes_shorter_ones(spec.recipe["training"]["schedule"]):
            families[spec.shortened(0).key].append(spec)
    shorter: dict[StageSpec, StageSpec] = {}
    for family in families.values():
        family.sort(key=lambda spec: int(spec.recipe["training"]["epochs"]))
        shorter.update(zip(family[1:], family, strict=False))
    return [replace(spec, continues=shorter[spec]) if spec in shorter else spec for spec in forest]


def _passes_shorter_ones(schedule: Node) -> bool:
    """Whether a training ends a shorter one on its way, as `depends_on_length` of its schedule says after an
    import of torch: steps of so many epochs do not know the end."""
    return "every_epochs" in schedule


def plain(node: DictConfig) -> Node:
    """A part of a config as plain data, with all that it refers to."""
    resolved: Node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return resolved


def _resolved(value: Any) -> Any:
    return plain(value) if isinstance(value, DictConfig) else value


def _training_stage(
    name: str, node: Node, source: Node, clips: int, config: Node, chain: list[StageSpec]
) -> StageSpec:
    source = _known({**source, "repeat": node.get("repeat", source["repeat"])})
    parent, weights = _start(config, chain)
    outside = ("augmentation", "training", "revision", "test", "repeat")
    recipe = {
        "task": {key: value for key, value in node.items() if key not in outside},
        "augmentation": node["augmentation"],
        "training": node["training"],
        "revision": node["revision"],
        **_backbone_and_data(config, source),
        "init": _digest_of_file(weights) if weights else None,
    }
    paths = _places(source, weights)
    clips = _integer(node["sampler"], "num_clips", f"{name}.sampler", clips)
    return StageSpec(name, recipe, parent, paths, clips=clips * _samples_seen(name, node["training"], source))


def _test_stage(protocol: Node, source: Node, config: Node, parent: StageSpec) -> StageSpec:
    source, test = _known(source), protocol["test"]
    _integer(test, "batch_size", "protocol.test")
    recipe = {
        "task": {**parent.recipe["task"], "sampler": test["sampler"]},
        **{key: value for key, value in test.items() if key != "sampler"},
        **_backbone_and_data(config, source),
    }
    clips = _integer(source, "num_videos", "data") * _integer(test["sampler"], "num_clips", "test.sampler", 1)
    return StageSpec("test", recipe, parent, _places(source), clips=clips)


def _feature_stage(name: str, source: Node, config: Node, chain: list[StageSpec]) -> StageSpec:
    """Features of all videos, each once, from the weights of the last stage that trained."""
    source, node = _known({**source, "repeat": 1}), config["features"]
    _integer(node, "batch_size", "features")
    parent, weights = _start(config, chain)
    outside = ("augmentation", "batch_size", "revision")
    recipe = {
        "task": {key: value for key, value in node.items() if key not in outside},
        **{key: node[key] for key in outside},
        **_backbone_and_data(config, source),
        "init": _digest_of_file(weights) if weights else None,
    }
    clips = _integer(node["sampler"], "num_clips", "features.sampler")
    clips *= _integer(source, "num_videos", "data")
    return StageSpec(name, recipe, parent, _places(source, weights), clips=clips)


def _comparison_stage(protocol: Node, source: Node, config: Node, queries: StageSpec) -> StageSpec:
    """Test of the features before it; decodes a few frames to show, no clips."""
    source = _known({**source, "repeat": 1})
    recipe = {
        "task": {key: value for key, value in protocol.items() if key != "revision"},
        "revision": protocol["revision"],
        **_backbone_and_data(config, source),
    }
    return StageSpec("test", recipe, queries, _places(source))


def _classes(given: int | None, source: Node) -> int:
    """Classes to predict: as many as the data set has, if nothing is said."""
    if "index" not in source:  # made up, or not checked and counted as published
        return _integer({"num_classes": given}, "num_classes", "protocol")
    known = len(class_names(source))
    if given is not None and given < known:
        raise VsslError(f"num_classes={given}: {source['name']} has {known}; say null to take as many")
    return known if given is None else given


def _check_classes(labelled: Node) -> None:
    """Raise `VsslError` if a label means one class in training and another one in the test."""
    train, test = labelled["train"], labelled["test"]
    if "index" in train and "index" in test and (one := class_names(train)) != (other := class_names(test)):
        only = ", ".join(sorted(set(one) ^ set(other))[:3]) or "their order"
        raise VsslError(
            f"downstream: train and test do not have the same classes ({only}); label them alike, or give "
            "both lists the same classes.txt"
        )


def _start(config: Node, chain: list[StageSpec]) -> tuple[StageSpec | None, str | None]:
    """What the next stage starts from: the stage before it, or else the file of weights, if one is given."""
    return (chain[-1], None) if chain else (None, config["init"]["weights"])


def _samples_seen(name: str, training: Node, source: Node) -> int:
    """Videos behind all steps of a training, counted as often as they are seen."""
    per_epoch = _integer(source, "num_videos", "data") * _integer(source, "repeat", "data")
    if training["drop_last"]:
        per_epoch -= per_epoch % _integer(training, "batch_size", f"{name}.training")
    return per_epoch * _integer(training, "epochs", f"{name}.training")


def _integer(node: Node, key: str, where: str, default: int | None = None) -> int:
    """A number that the plan counts with, 1 or more; all other values are checked when they are used."""
    value = node.get(key, default)
    if not isinstance(value, int):
        raise VsslError(f"{where}.{key}={value}: expected int, got {type(value).__name__}")
    if value < 1:
        raise VsslError(f"{where}.{key}={value}: too small; choose 1 or more")
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


def _places(source: Node, weights: str | None = None) -> dict[str, str]:
    places = {key: source[key] for key in PLACES if key in source}
    return {**places, "init": weights} if weights else places


def _digest_of_file(path: str) -> str:
    """A file of weights counts by its content, not by its name."""
    try:
        return digest(Path(path))
    except OSError as error:
        raise VsslError(
            f"init.weights={path}: {error.strerror}; give the file of a plain state dict"
        ) from error


def monitored(cfg: DictConfig) -> Node | None:
    """What to look at during pretraining, as `vssl.stage.monitor.Monitoring` takes it; None: nothing.

    It is no part of a recipe: the weights are the same without it.
    """
    node = plain(cfg.monitor)
    if not node["every_epochs"]:
        return None
    node["labelled"] = {key: value for key, value in _known(node["labelled"]).items() if key != "repeat"}
    return node


def absolute_outputs(cfg: DictConfig) -> Path:
    """Make `outputs` absolute in place, so that nothing depends on the working directory later."""
    if not cfg.outputs:
        raise VsslError("outputs: needs a folder, for example outputs=outputs")
    path = Path(str(cfg.outputs)).expanduser().absolute()
    there = next(one for one in (path, *path.parents) if one.is_symlink() or one.exists())
    if not there.is_dir():
        raise VsslError(f"outputs={path}: {there} is not a folder; say outputs=DIR")
    cfg.outputs = str(path)
    return path


def describe(spec: StageSpec) -> str:
    """What a stage is, in a few words."""
    recipe: Mapping[str, Any] = spec.recipe
    task, backbone, data = (recipe[part] for part in ("task", "backbone", "data"))
    videos = f"{data_name(data)} x {data['num_videos']}"
    words = f"{class_name(task)}, {class_name(backbone)}, {videos}"
    if "training" in recipe:
        words += f", {recipe['training']['epochs']} epochs"
    return f"{words}, seed {recipe['seed']}"
