"""The options that no group's class takes, with their types and ranges. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl.checks import check_above_0, check_at_least, check_between, check_share
from vssl.errors import OptionError
from vssl.stage.build import build_as


@dataclass(frozen=True)
class Launch:
    """Options at the top of the config."""

    mode: str
    seed: int
    outputs: str | None
    decoder: str
    stage: str | int | None
    label: str | int | float | None
    column: str | int | float | None

    def __post_init__(self) -> None:
        check_at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise OptionError("seed", self.seed, "too large", "choose a whole number below 2**63")


@dataclass(frozen=True)
class Plan:
    """Options of mode=plan."""

    clips_per_s: float | None

    def __post_init__(self) -> None:
        if self.clips_per_s is not None:
            check_above_0("clips_per_s", self.clips_per_s)


@dataclass(frozen=True)
class Init:
    """Where the first stage starts from."""

    weights: str | None


@dataclass(frozen=True)
class Check:
    """Options of mode=check."""

    max_bad: float
    min_frames: int
    timeout_s: float

    def __post_init__(self) -> None:
        check_share("max_bad", self.max_bad)
        check_at_least("min_frames", self.min_frames, 1)
        check_above_0("timeout_s", self.timeout_s)


@dataclass(frozen=True)
class Prepare:
    """Options of mode=prepare."""

    out: str | None
    size: int | list[int] | None
    crf: int
    gop: int
    timeout_s: float

    def __post_init__(self) -> None:
        sides = [self.size] * 2 if isinstance(self.size, int) else self.size or [1, 1]
        if len(sides) != 2 or min(sides) < 1:
            raise OptionError(
                "size", self.size, "no size", "give [height,width], or a number for the short side"
            )
        check_between("crf", self.crf, 0, 51)
        check_at_least("gop", self.gop, 1)
        check_above_0("timeout_s", self.timeout_s)


@dataclass(frozen=True)
class Convert:
    """Options of mode=convert."""

    family: str
    weights: str | None


@dataclass(frozen=True)
class Export:
    """Options of mode=export."""

    out: str | None


GROUPS = {
    "plan": Plan,
    "init": Init,
    "check": Check,
    "prepare": Prepare,
    "convert": Convert,
    "export": Export,
}


def read(cfg: DictConfig, group: str) -> Any:
    """The options of one of these groups. Raises `OptionError` for one that cannot be."""
    values: Any = OmegaConf.to_container(cfg[group], resolve=True)
    return build_as(GROUPS[group], values, group)


def check_options(cfg: DictConfig) -> None:
    """Raise `OptionError` for an option at the top, or of one of these groups, that cannot be."""
    build_as(Launch, {name: cfg[name] for name in Launch.__dataclass_fields__}, "")
    for group in GROUPS:
        read(cfg, group)
    for name in cfg.roots:
        if not isinstance(root := cfg.roots[name], str | None):
            raise OptionError(f"roots.{name}", root, "not text or null", "give the folder of the videos")
