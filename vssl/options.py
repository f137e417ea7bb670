"""The options that no group's class takes, with their types and ranges. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from vssl.checks import ABOVE_0, SHARE, Checked, at_least, between, check_text
from vssl.data.addresses import check_url
from vssl.errors import OptionError, VsslError, nearest
from vssl.modules import check_module
from vssl.pipeline import plain
from vssl.stage.build import build_as
from vssl.stage.spec import leaves


@dataclass(frozen=True)
class Launch(Checked):
    """Options at the top of the config."""

    mode: str
    seed: int = field(metadata=at_least(0))
    outputs: str | None
    precision: str  # one of those of `Training`, which looks at it
    decoder: str = field(metadata={"check": partial(check_module, "vssl.data.decoders")})
    stage: str | int | None
    label: str | int | float | None
    column: str | int | float | None
    only: str | int | float | list[str | int | float] | None
    watch: bool


@dataclass(frozen=True)
class Plan(Checked):
    """Options of mode=plan."""

    clips_per_s: float | None = field(metadata=ABOVE_0)


@dataclass(frozen=True)
class Init:
    """Where the first stage starts from."""

    weights: str | None


@dataclass(frozen=True)
class Check(Checked):
    """Options of mode=check."""

    max_bad: float = field(metadata=SHARE)
    min_frames: int = field(metadata=at_least(1))
    timeout_s: float = field(metadata=ABOVE_0)


@dataclass(frozen=True)
class Download(Checked):
    """Options of mode=download."""

    out: str | None
    url: str | None
    parallel: int = field(metadata=at_least(1))
    keep: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.url is not None:
            check_url("url", self.url)


@dataclass(frozen=True)
class Prepare(Checked):
    """Options of mode=prepare."""

    out: str | None
    size: int | list[int] | None
    crf: int = field(metadata=between(0, 51))
    gop: int = field(metadata=at_least(1))
    timeout_s: float = field(metadata=ABOVE_0)

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = [self.size] * 2 if isinstance(self.size, int) else self.size or [1, 1]
        if len(sides) != 2 or min(sides) < 1:
            remedy = "give [height,width], or a number for the short side"
            raise OptionError("size", self.size, "no size", remedy)


@dataclass(frozen=True)
class Prune:
    """Options of mode=prune."""

    apply: bool
    others: bool


@dataclass(frozen=True)
class Convert:
    """Options of mode=convert."""

    family: Literal["pyslowfast", "i3d", "torchvision", "rspnet", "vcop", "videopace"]
    weights: str | None
    folder: str


@dataclass(frozen=True)
class Export:
    """Options of mode=export, and where features and report write."""

    out: str | None


@dataclass(frozen=True)
class Quick(Checked):
    """Options of experiment=quick, but for its videos and its backbone."""

    num_classes: int = field(metadata=at_least(1))
    epochs_by: int = field(metadata=at_least(1))
    batch_size: int = field(metadata=at_least(1))
    num_clips: int = field(metadata=at_least(1))
    queue_by: int = field(metadata=at_least(1))


GROUPS = {
    "plan": Plan,
    "init": Init,
    "check": Check,
    "download": Download,
    "prepare": Prepare,
    "prune": Prune,
    "convert": Convert,
    "export": Export,
}


CHOSEN = ("source", "auxiliary", "pretext", "downstream", "protocol", "backbone", "features")
SHARED = ("dispatch", "tracking", "runtime", "monitor", "quick")
FRAMES = ("num_frames", "resize", "crop")
KNOWN = {
    "": (*Launch.__dataclass_fields__, *GROUPS, *CHOSEN, *SHARED, "roots", "sweep"),
    "downstream": ("num_classes", "root", "lists", "split", "validation", "train", "test"),
    "backbone.input": FRAMES,
    "quick": (*Quick.__dataclass_fields__, "videos", "backbone", "is_done"),
    "quick.backbone.input": FRAMES,
}
"""What there is at the top, and in the nodes that nothing is built from."""

NODES = [
    "backbone.input",
    *("pretext.sampler", "pretext.augmentation", "pretext.training"),
    "source.published",
    *("downstream.train.published", "downstream.test.published"),
    *("dispatch.default", "tracking", "runtime", "monitor", "roots"),
    *("auxiliary.augmentation", "auxiliary.training"),
    *("protocol.augmentation", "protocol.training", "protocol.test.augmentation"),
    *("features.augmentation", "quick.videos", "quick.backbone.input"),
]
"""Parts of the config that hold options, as do those above them, and that nothing else can take the place of;
those that others refer to come first."""


def read(cfg: DictConfig, group: str) -> Any:
    """The options of one of these groups. Raises `OptionError` for one that cannot be."""
    return build_as(GROUPS[group], _values(cfg, group), group)


def check_options(cfg: DictConfig, sweep: str | None = None) -> None:
    """Raise `OptionError` for an option at the top, or of one of these groups, that cannot be.

    sweep: name of a sweep file, which may bring options of its own, below its name.
    """
    for path in NODES:
        _check_node(cfg, path)
    for path in KNOWN:
        _check_names(cfg, path, [sweep] if sweep and not path else [])
    build_as(Launch, {name: plain(cfg[name]) for name in Launch.__dataclass_fields__}, "")
    for group in GROUPS:
        read(cfg, group)
    for name, root in _values(cfg, "roots").items():
        if root is not None:
            check_text(f"roots.{name}", root)
    if cfg.quick is not None:
        own = {name: one for name, one in _values(cfg, "quick").items() if name in Quick.__dataclass_fields__}
        build_as(Quick, own, "quick")


def _check_names(cfg: DictConfig, path: str, own: Sequence[str]) -> None:
    """Raise `VsslError` for an option that there is not, at the top or in a node that nothing is built from,
    and for one of the top that was taken out."""
    node = OmegaConf.select(cfg, path) if path else cfg
    if not isinstance(node, DictConfig):
        return
    names = KNOWN[path]
    for name in map(str, node):
        if name not in (*names, *own):
            written: Any = OmegaConf.to_container(OmegaConf.masked_copy(node, [name]))
            option, value = next(leaves(written))
            option = f"{path}.{option}" if path else option
            raise OptionError(option, value, "no such option", nearest(name, names))
    if path == "" and (missing := set(names) - set(node) - {"sweep"}):
        raise VsslError(f"{min(missing)}: every launch needs it; leave ~{min(missing)} out")


def _check_node(cfg: DictConfig, path: str) -> None:
    """Raise `OptionError` if what stands at a path or above it, if anything does, holds no options."""
    node: Any = cfg
    for place, name in enumerate(names := path.split("."), 1):
        if name not in node or ((node := node[name]) is None and name == "quick"):
            return
        if not isinstance(node, DictConfig):
            option = ".".join(names[:place])
            remedy = f"set one of them ({option}.NAME=...)"
            raise OptionError(option, node, "not a group of options", remedy)


def _values(cfg: DictConfig, group: str) -> dict[str, Any]:
    _check_node(cfg, group)
    values: Any = OmegaConf.to_container(cfg[group], resolve=True)
    return dict(values)
