"""A rehearsal (`experiment=quick`): any pipeline or sweep, brought down to seconds on a CPU.

It works on the config of a point after everything else has been chosen, the rows of a sweep file included, so
that nothing escapes it. What differs stays different: stages that are distinct in a sweep are distinct here.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

PLACES = ("root", "index", "lists", "decoder", "published", "download")
"""Values of a source that do not say which videos it has."""


def shrink(cfg: DictConfig) -> None:
    """Make the config small in place, if `quick` says how; other configs stay as they are."""
    quick = cfg.get("quick")
    if not quick or quick.get("is_done"):
        return
    with open_dict(cfg):
        if not str(cfg.backbone._target_).endswith(".Tiny"):
            cfg.backbone = {**_as_in(quick, "backbone"), "widths": _widths(cfg, quick)}
            if cfg.init.weights:  # they fit no other backbone: it starts from random ones
                cfg.init.weights = cfg.auxiliary._target_ = cfg.pretext._target_ = None
        for parent, name in ((cfg, "source"), (cfg.downstream, "train"), (cfg.downstream, "test")):
            parent[name] = _videos(parent[name], quick, is_test=name == "test")
        cfg.downstream.num_classes = "${quick.num_classes}"
        _shorten_all(cfg, quick)
        cfg.quick.is_done = True


def _widths(cfg: DictConfig, quick: DictConfig) -> list[int]:
    """Widths of the small backbone that only this backbone has, with the weights that it is given."""
    weights = cfg.init.weights
    number = _number({"backbone": cfg.backbone, "weights": weights} if weights else cfg.backbone)
    others = quick.backbone.widths[:-2]
    return [*others, 16 + number // 48 % 17, 16 + number % 48]


def _as_in(quick: DictConfig, node: str) -> dict[str, Any]:
    """The values of one of its nodes, as references: errors name an option where it stands."""
    return {name: f"${{quick.{node}.{name}}}" for name in map(str, quick[node])}


def _videos(source: DictConfig, quick: DictConfig, is_test: bool) -> dict[str, Any]:
    """Synthetic videos that only this source has; as few of each class."""
    written: Any = OmegaConf.to_container(source, resolve=False)
    few = {"per_class": written.pop("per_class")} if "per_class" in written else {}
    chosen = {name: value for name, value in written.items() if name not in PLACES}
    appearance = "test" if is_test else "train"
    return {**_as_in(quick, "videos"), "seed": _number(chosen) % 10_000, "appearance": appearance, **few}


def _number(node: Any) -> int:
    """A number that only this content has."""
    return zlib.crc32(repr(OmegaConf.to_container(OmegaConf.create(node), resolve=False)).encode())


def _shorten_all(node: DictConfig, quick: DictConfig) -> list[tuple[str, int]]:
    """Shorten a node and all below it. What the new values leave open goes into the revision beside them, so
    that two stages with a value each do not become one; it is returned where there is none."""
    lost = _shorten(node, quick)
    for inner in _inner(node):
        lost += _shorten_all(inner, quick)
    if lost and isinstance(node.get("revision"), int):
        node.revision += _number(lost)
        return []
    return lost


def _inner(node: DictConfig) -> Iterator[DictConfig]:
    """The nodes in a node, but for what says how small to make it."""
    for name in map(str, node):
        is_own = not OmegaConf.is_interpolation(node, name) and not OmegaConf.is_missing(node, name)
        if name != "quick" and is_own and isinstance(node[name], DictConfig):
            yield node[name]


def _shorten(node: DictConfig, quick: DictConfig) -> list[tuple[str, int]]:
    """Fewer epochs, clips and keys, and smaller batches; what is no whole number is left to the checks.

    Returns the old values that do not follow from the new ones.
    """
    is_test = str(node.get("_target_")).endswith(".UniformClips")
    clips = OmegaConf.select(node, "sampler.num_clips")
    keys = quick.batch_size * (clips if isinstance(clips, int) else 1)
    rules: dict[str, Callable[[int], int]] = {
        "epochs": lambda epochs: math.ceil(epochs / quick.epochs_by),
        "batch_size": lambda size: min(size, quick.batch_size),
        "micro_batch": lambda size: size if node.batch_size % size == 0 else node.batch_size,
        "num_clips": lambda clips: min(clips, quick.num_clips) if is_test else clips,
        "queue_size": lambda size: max(keys, size // quick.queue_by),
    }
    lost = []
    for name, rule in rules.items():
        old = None if name not in node or OmegaConf.is_interpolation(node, name) else node[name]
        if type(old) is int and old > 0:  # true is no number
            node[name] = rule(old)
            if node[name] * (quick.epochs_by if name == "epochs" else 1) != old:
                lost.append((name, old))
    return lost
