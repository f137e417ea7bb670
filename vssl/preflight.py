"""Everything that a launch will use, made before anything runs: run and plan refuse the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from vssl.data.decode import check_decoder
from vssl.engine.runtime import Runtime
from vssl.pipeline import NOT_THE_TASK, Point, monitored, naming_options, plain
from vssl.secrets import keep
from vssl.stage.build import build, naming
from vssl.stage.choice import without_lost
from vssl.stage.construct import Machine, Stage, check_count, link
from vssl.stage.spec import StageSpec, content_hash
from vssl.stage.store import StageStore


@dataclass(frozen=True)
class Preflight:
    """The stages of a launch, each once, parents first, without candidates that have lost already; the
    objects of each; and where they run."""

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
        is_provisional = any(spec.is_provisional for point in points for spec in point.chain)
        nodes = {group: plain(cfg[group]) for group in ("runtime", "tracking")}
        shown = {name: keep(one) if isinstance(one, str) else one for name, one in nodes["tracking"].items()}
        nodes["tracking"] = shown
        nodes["monitor"] = monitored(cfg, is_provisional)
        runtime: Runtime = build(nodes["runtime"], "runtime")
        dispatcher = build(plain(cfg.dispatch), "dispatch")
        machines: Mapping[str, Machine] = dispatcher.machines(runtime)
        build(nodes["tracking"], "tracking")
        build(nodes["monitor"], "monitor")
    for point in points:
        with naming_options(point.cfg):
            _check_unused(point, shared)
            for spec in point.chain:
                if spec not in stages:
                    _check_decoder(spec)
                    stages[spec] = Stage(spec, shared)
                    if store.result(spec) is None:
                        stages[spec].check(machines[spec.kind.name])
    return Preflight(without_lost(link(stages.values()), store), stages, dispatcher, nodes)


def _check_decoder(spec: StageSpec) -> None:
    """Check it also of a stage that is done: it is no part of the key, and may be another one than then."""
    if decoder := spec.paths.get("decoder"):
        with naming(spec.option("data")):
            check_decoder(decoder)


def _check_unused(point: Point, shared: dict[str, Any]) -> None:
    """Check what a chain has no use for, each node once: an option is refused whether it is needed or not."""
    used = {option for spec in point.chain for option in spec.options.values()}
    for group in ("auxiliary", "pretext", "features", "quick"):
        if group in used or not point.cfg[group]:
            continue
        node = plain(point.cfg[group])
        key = content_hash(["unused", group, node])
        if key not in shared:
            shared[key] = True
            _check_rehearsal(node) if group == "quick" else _check_node(node, group)


def _check_rehearsal(node: dict[str, Any]) -> None:
    """Check what takes the place of backbones and videos."""
    for part, other in (("backbone", "input"), ("videos", "repeat")):
        build({name: value for name, value in node[part].items() if name != other}, f"quick.{part}")


def _check_node(node: dict[str, Any], group: str) -> None:
    task = {name: value for name, value in node.items() if name not in NOT_THE_TASK}
    if node["_target_"]:
        build(task, group)
    else:  # the choice `none`, which has no task for the other values
        build(node["sampler"], f"{group}.sampler")
    for part in ("augmentation", "training"):
        if part in node:
            build(node[part], f"{group}.{part}")
    for count in ("repeat", "batch_size", "revision"):
        if count in node:
            check_count(f"{group}.{count}", node[count])
