"""From a composed config to the stages it asks for. Below it there is no `DictConfig`. Needs no torch."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl.checks import (
    check_above_0,
    check_at_least,
    check_below_1,
    check_choice,
    check_folder,
    check_text,
    check_type,
)
from vssl.data.index import assumed, check_source, checked, class_names, is_checked, rows_of_part
from vssl.data.part import Part, fingerprint_of, rows_of
from vssl.errors import OptionError, VsslError
from vssl.files import digest
from vssl.rehearsal import shrink
from vssl.stage.build import build, naming
from vssl.stage.choice import choosing, grid, with_choice
from vssl.stage.kind import AUXILIARY, CLASSIFIER, COMPARISON, FEATURES, PRETEXT, TEST, StageKind
from vssl.stage.longer import longer
from vssl.stage.spec import Recipe, StageSpec

Node = dict[str, Any]

PARTS = ("auxiliary", "pretext", "source", "downstream", "protocol", "features", "backbone", "init", "seed")
"""What a plan is made from; to resolve the rest of the config as well would take half as long again."""

PLACES = ("root", "index", "decoder")
"""Values of a source that say where it lies and what reads it; no part of a recipe. What reads real videos
stands in their index."""

OF_A_PART = ("per_class", "held_out", "side")
"""Values of a source that say which part of its videos is meant."""

TESTED_ON = ("test", "held_out")

NOT_THE_TASK = (
    *("stage", "augmentation", "training", "batch_size", "revision", "repeat", "test", "input"),
    *("choose", "held_out", "tested_on"),
)
"""Values of a node that belong to other parts of the recipe than its object."""


@dataclass(frozen=True)
class Point:
    """One point of a sweep: what it is called, the chain of stages that leads to its result, its column in
    the sweep's table, if that has any, and the config that it comes from, with the overrides that made it."""

    label: str
    seed: int
    chain: list[StageSpec]
    column: str = ""
    cfg: DictConfig = field(default_factory=OmegaConf.create, compare=False, repr=False)
    overrides: Sequence[str] = ()


def plan(cfg: DictConfig, provisional: bool = False) -> list[StageSpec]:
    """The chain of stages of one config, parents first.

    provisional: videos that were not checked are counted as published, for a plan to look at.
    Raises `VsslError` for a combination that cannot run, and omegaconf's `MissingMandatoryValue` for a
    value that the user has to give.
    """
    shrink(cfg)
    with naming_options(cfg):
        return Chain({name: plain(cfg[name]) for name in PARTS}, provisional).build()


def merge(chains: Iterable[list[StageSpec]]) -> list[StageSpec]:
    """All stages of all chains, each key once, parents before children."""
    return list(dict.fromkeys(spec for chain in chains for spec in chain))


class Chain:
    """The stages of one config, added one after the other: each starts from the one before it, and candidates
    from the last of `stages`."""

    def __init__(self, config: Node, provisional: bool, stages: Sequence[StageSpec] = ()) -> None:
        self.config, self.provisional = config, provisional
        self.stages, self.last = list(stages), stages[-1] if stages else None

    def build(self) -> list[StageSpec]:
        """All stages that the config asks for."""
        self._check_sources()
        self._hold_out()
        is_longer = self.config["auxiliary"].get("longer_pretext", False)
        if not isinstance(is_longer, bool):
            raise OptionError("auxiliary.longer_pretext", is_longer, "neither true nor false", "say true")
        if is_longer:
            self.config["pretext"] = longer(
                *(self.config[name] for name in ("pretext", "auxiliary", "source"))
            )
        if not self.config["init"]["weights"]:
            for kind in (AUXILIARY, PRETEXT):
                if self.config[kind.name]["_target_"]:
                    self.add(kind.name, kind, kind.name, "source")
        if "training" in self.config["protocol"]:
            self._classify()
        else:
            self.add("gallery", FEATURES, "features", "downstream.train")
            self.add("queries", FEATURES, "features", "downstream.test")
            self.add("test", COMPARISON, "protocol", "downstream.test")
        return self.stages

    def _hold_out(self) -> None:
        """Put a share of the training videos in the place of the test set, where that is to stay unseen."""
        protocol = self.config["protocol"]
        if "tested_on" not in protocol:  # a protocol's own file need not have it
            return
        share, choose = protocol["held_out"], protocol.get("choose")
        with naming("protocol"):
            check_type("held_out", share, float)
            check_above_0("held_out", share)
            check_below_1("held_out", share)
            check_choice("tested_on", tested_on := protocol["tested_on"], TESTED_ON)
            if tested_on == "held_out" and choose is not None:
                remedy = "leave it out, or say protocol.tested_on=test"
                raise OptionError("choose", choose, "its candidates have the held-out videos already", remedy)
        if tested_on == "held_out":
            self.config["downstream"] = held_out(self.config["downstream"], share)

    def _classify(self) -> None:
        """Train a classifier and test it; candidates first, where there is something to choose."""
        protocol = self.config["protocol"]
        if not re.fullmatch(r"\w+", str(protocol["stage"])):
            raise OptionError("protocol.stage", protocol["stage"], "no name of a folder", "give a word")
        self._check_classes()
        protocol["num_classes"] = self._num_classes(protocol["num_classes"])
        pairs = []
        if (options := protocol.get("choose")) is not None:
            pairs = self._candidates(protocol)
            self.config["protocol"] = with_choice(protocol, dict.fromkeys(options))
        self.add(protocol["stage"], CLASSIFIER, "protocol", "downstream.train")
        if pairs:
            self.last = self.stages[-1] = choosing(self.stages[-1], options, pairs)
        self.add("test", TEST, "protocol.test", "downstream.test")

    def _candidates(self, protocol: Node) -> list[tuple[StageSpec, StageSpec]]:
        """Add the stages of all candidates: a training without, and a test on, what is held out."""
        with naming("protocol"):
            changed = [with_choice(protocol, values) for values in grid(protocol["choose"])]
        downstream = held_out(self.config["downstream"], protocol["held_out"])
        pairs = []
        for candidate in changed:
            config = {**self.config, "protocol": {**candidate, "choose": None}, "downstream": downstream}
            chain = Chain(config, self.provisional, [self.last] if self.last else [])
            chain._classify()
            pairs.append((chain.stages[-2], chain.stages[-1]))
        self.stages += [spec for pair in pairs for spec in pair]
        return pairs

    def add(self, name: str, kind: StageKind, path: str, data: str) -> None:
        """Add a stage whose node stands at `path` and whose videos at `data`. A training may say itself how
        often they count; features take each once."""
        node, source = self._at(path), self._known(data)
        own = node.get("repeat") if kind.trains else None
        repeat = own if kind.trains or kind is TEST else 1
        weights = None if self.last else self.config["init"]["weights"]
        task = {key: value for key, value in node.items() if key not in NOT_THE_TASK}
        teacher = self._teacher(task, path)
        inside = {part: node[part] for part in ("augmentation", "training", "batch_size") if part in node}
        backbone = {key: value for key, value in self.config["backbone"].items() if key != "input"}
        videos = {key: value for key, value in source.items() if key not in (*PLACES, *OF_A_PART)}
        recipe = Recipe(
            task=task,
            backbone=backbone,
            data=videos if repeat is None else {**videos, "repeat": repeat},
            seed=self.config["seed"],
            revision=node["revision"],
            init=_digest_of_file(weights, "init.weights") if weights else None,
            **inside,
        )
        paths = {key: source[key] for key in PLACES if key in source}
        options = {part: f"{path}.{part}" for part in (*inside, "revision")}
        options |= {
            "task": path,
            "backbone": "backbone",
            "data": data,
            "repeat": f"{data if own is None else path}.repeat",
        }
        paths |= {"init": weights} if weights else {}
        paths |= {"teacher": teacher} if teacher else {}
        self.last = StageSpec(name, kind, recipe, self.last, paths, options)
        self.stages.append(self.last)

    def _teacher(self, task: Node, path: str) -> str | None:
        """The file of a teacher's weights; in the task, its content takes the place of its name."""
        if teacher := task.get("teacher"):
            if not isinstance(teacher, dict):
                remedy = "give the node of one, such as ${backbone}, or null"
                raise OptionError(f"{path}.teacher", teacher, "no backbone", remedy)
            task["teacher"] = {key: value for key, value in teacher.items() if key != "input"}
        file: str | None = task.get("teacher_weights")
        if file:
            check_text(f"{path}.teacher_weights", file)
            task["teacher_weights"] = _digest_of_file(file, f"{path}.teacher_weights")
        return file

    def _at(self, path: str) -> Node:
        node: Node = self.config
        for name in path.split("."):
            node = node[name]
        return node

    def _check_sources(self) -> None:
        for path in ("source", "downstream.train", "downstream.test"):
            with naming(path):
                if "index" in (source := self._at(path)):
                    check_source(source)
                if (few := source.get("per_class")) is not None:
                    check_type("per_class", few, int)
                    check_at_least("per_class", few, 1)

    def _known(self, path: str) -> Node:
        """A source with its number of videos: the config says it, or the index of a real data set."""
        source = self._at(path)
        known = source
        if "index" in source:
            with naming(path):
                is_assumed = self.provisional and not is_checked(source)
                known = (is_assumed and assumed(source)) or checked(source)
        part = {name: source[name] for name in OF_A_PART if source.get(name) is not None}
        if not part:
            return known
        part = {"per_class": None, "held_out": 0.0, "side": "train", **part}
        with naming("protocol" if part["held_out"] else path):
            how = Part(**part, seed=self.config["seed"])
            return {**known, "part": {**part, **self._counted(known, source, how)}}

    def _counted(self, known: Node, source: Node, part: Part) -> Node:
        """How many videos are in a part of a source, and which; a guess where the videos are not checked."""
        if known.get("provisional"):
            return {"num_videos": part.guess(known["num_videos"], source["published"]["classes"])}
        if "index" in source:
            rows = rows_of_part(source, part)
        else:
            made = build({name: source[name] for name in source if name not in (*OF_A_PART, "repeat")}, "")
            rows = rows_of(made, part, group=None)
        return {"num_videos": len(rows), "fingerprint": fingerprint_of(rows)}

    def _num_classes(self, given: int | None) -> int | None:
        """Classes to predict: as many as the data set has, if nothing is said."""
        train = self._at("downstream.train")
        if "index" not in train:
            return given
        known = len(class_names(train)) if is_checked(train) else train["published"]["classes"]
        if isinstance(given, int) and known is not None and given < known:
            raise OptionError(
                "protocol.num_classes", given, f"{train['name']} has {known}", "null takes as many"
            )
        return known if given is None else given

    def _check_classes(self) -> None:
        """Raise `VsslError` if a label means one class in training and another one in the test."""
        train, test = self._at("downstream.train"), self._at("downstream.test")
        if not all("index" in one and is_checked(one) for one in (train, test)):
            return
        if (one := class_names(train)) != (other := class_names(test)):
            only = ", ".join(sorted(set(one) ^ set(other))[:3]) or "their order"
            raise VsslError(
                f"downstream: train and test do not have the same classes ({only}); label them alike, or "
                "give both lists the same classes.txt"
            )


def held_out(downstream: Node, share: float) -> Node:
    """The node of the downstream data with a share of the training videos as the test set."""
    train, test = downstream["train"], downstream["test"]
    kept = {**train, "held_out": share, "side": "train"}
    held = {**train, "held_out": share, "side": "val", "repeat": test["repeat"]}
    return {**downstream, "train": kept, "test": held}


def plain(part: Any) -> Any:
    """A part of a config as plain data, with all that it refers to."""
    if OmegaConf.is_config(part):
        return OmegaConf.to_container(part, resolve=True, throw_on_missing=True)
    return part


@contextmanager
def naming_options(cfg: DictConfig) -> Iterator[None]:
    """Errors in the block name an option where its value was given, behind all `${...}`."""
    try:
        yield
    except OptionError as error:
        raise error.renamed(lambda option: origin(cfg, option)) from error


def origin(cfg: DictConfig, option: str) -> str:
    """The path at which the value of an option stands, behind all `${...}` on the way to it."""
    node: Any = cfg
    names = option.split(".")
    for place, name in enumerate(names):
        if not isinstance(node, DictConfig) or name not in node:
            return option
        if OmegaConf.is_interpolation(node, name):
            unresolved: Any = OmegaConf.to_container(node, resolve=False)
            written = str(unresolved[name])
            if target := _target(written, names[:place]):
                return origin(cfg, ".".join([target, *names[place + 1 :]]))
            return option
        node = node[name]
    return option


def _target(written: str, above: list[str]) -> str | None:
    """The path, from the root, that `${a.b}`, `${.b}` or `${with:${a.b},...}` refers to."""
    found = re.fullmatch(r"\$\{(?:\w+:\$\{)?(\.*)([\w.]+)\}.*", written)
    if not found:
        return None
    dots, path = found.groups()
    base = above[: len(above) - len(dots) + 1] if dots else []
    return ".".join([*base, path])


def _digest_of_file(path: str, option: str) -> str:
    """A file of weights counts by its content, not by its name."""
    try:
        return digest(Path(path))
    except OSError as error:
        raise OptionError(option, path, str(error.strerror), "give the file of a plain state dict") from error


def monitored(cfg: DictConfig, provisional: bool = False) -> Node:
    """What to look at during pretraining, as `vssl.stage.monitor.Monitoring` takes it.

    It is no part of a recipe: the weights are the same without it.
    """
    node = plain(cfg.monitor)
    labelled = node["labelled"]
    if not isinstance(labelled, dict):
        raise OptionError(
            "monitor.labelled", labelled, "no source of videos", "give one, such as ${downstream.train}"
        )
    is_real = "index" in labelled
    if not node["every_epochs"] or (provisional and is_real and not is_checked(labelled)):
        return {**node, "labelled": None}
    with naming("monitor.labelled"):
        labelled = checked(labelled) if is_real else labelled
    kept = {key: value for key, value in labelled.items() if key not in (*OF_A_PART, "repeat")}
    return {**node, "labelled": kept}


def absolute_outputs(cfg: DictConfig) -> Path:
    """Make `outputs` absolute in place, so that nothing depends on the working directory later."""
    if not cfg.outputs:
        raise VsslError("outputs: needs a folder; outputs=DIR, for example outputs=outputs")
    path = Path(str(cfg.outputs)).expanduser().absolute()
    check_folder("outputs", path)
    cfg.outputs = str(path)
    return path
