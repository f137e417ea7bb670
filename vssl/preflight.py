"""Everything that a launch will use, made before anything runs: run and plan refuse the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from vssl.engine.runtime import Runtime
from vssl.pipeline import Point, monitored, naming_options, plain
from vssl.stage.build import build
from vssl.stage.construct import Machine, Stage, link
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore


@dataclass(frozen=True)
class Preflight:
    """The stages of a launch, each once, parents first; the objects of each; and where they run."""

    forest: list[StageSpec]
    stages: dict[StageSpec, Stage]
    dispatcher: Any
    nodes: dict[str, Any]
    """What workers build again: runtime, tracking and monitor."""


def preflight(points: Sequence[Point], cfg: DictConfig, store: StageStore) -> Preflight:
    """Make all of it. Stages that are done are not made again.

    Raises `OptionError` with the option as it was given, or `VsslError`.
    """
    shared: dict[str, Any] = {}
    stages: dict[StageSpec, Stage] = {}
    with naming_options(cfg):
        nodes = {group: plain(cfg[group]) for group in ("runtime", "tracking")} | {"monitor": monitored(cfg)}
        runtime: Runtime = build(nodes["runtime"], "runtime")
        dispatcher = build(plain(cfg.dispatch), "dispatch")
        machine: Machine = dispatcher.check(runtime)
        build(nodes["tracking"], "tracking")
        build(nodes["monitor"], "monitor")
    for point in points:
        with naming_options(point.cfg):
            for spec in point.chain:
                if spec not in stages:
                    stages[spec] = Stage(spec, shared)
                    if store.result(spec) is None:
                        stages[spec].check(machine)
            _build_unused(point)
    return Preflight(link(stages.values()), stages, dispatcher, nodes)


UNUSED = ("features", "pretext.sampler", "pretext.augmentation")
"""Nodes that a chain may have no use for, and that are checked all the same."""


def _build_unused(point: Point) -> None:
    used = {option for spec in point.chain for option in spec.options.values()}
    for path in UNUSED:
        group, _, inner = path.partition(".")
        if group not in used:
            node = plain(point.cfg[group])
            parts = ("_target_", "feature", "sampler")
            build(node[inner] if inner else {part: node[part] for part in parts}, path)
            if not inner:
                build(node["augmentation"], f"{group}.augmentation")
