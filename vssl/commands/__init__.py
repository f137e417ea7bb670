"""What `mode=` selects: one file per mode, each with `execute(points, cfg)`.

`points` are the chains of stages of all points of the launch; `cfg` is the first point's config, for what is
the same for all of them: outputs, dispatch, tracking, runtime. A mode that makes data ready, before there can
be a plan, says `PLANNED = False` and has `execute(cfg)`. A mode may bring a `plan(cfg)` of its own.
"""

import gc
import re
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from vssl import pipeline
from vssl.errors import OptionError, VsslError
from vssl.modules import check_module, load_module
from vssl.options import check_options
from vssl.pipeline import Point, absolute_outputs, naming_options, plain
from vssl.stage.spec import StageSpec, leaves

ONE_FOR_ALL = ["outputs", "runtime", "dispatch", "tracking"]
"""What a launch has one of, whatever its points are."""


def execute(composed: Sequence[tuple[DictConfig, list[str]]]) -> None:
    """Run the mode on the plans of all (config, overrides)."""
    configs = [cfg for cfg, _ in composed]
    check_configs(configs)
    module = load_module(__name__, "mode", configs[0].mode)
    if not getattr(module, "PLANNED", True):
        _look_for_garbage()
        for cfg in configs:
            with naming_options(cfg):
                module.execute(cfg)
        return
    _check_same(configs, ONE_FOR_ALL)
    points = planned(composed, getattr(module, "plan", pipeline.plan))
    _look_for_garbage()
    module.execute(points, configs[0])


def _look_for_garbage() -> None:
    """From now on, as not since `vssl.cli`, but never in what was made before."""
    if not gc.isenabled():  # or a sweeper launches again: what it frees at its end is not to stay
        gc.freeze()
        gc.enable()


def check_configs(configs: Sequence[DictConfig]) -> None:
    """Check the options that no group's class takes, and make `outputs` absolute."""
    check_module(__name__, "mode", configs[0].mode)
    if configs[0].get("only") is not None and "sweep" not in configs[0]:
        raise OptionError(
            "only", configs[0].only, "there is no sweep file", "say +sweeps=NAME, or leave it out"
        )
    _check_same(configs, ["mode"])
    own = str(configs[0].sweep.name) if "sweep" in configs[0] else None
    for cfg in configs:
        check_options(cfg, own)
        absolute_outputs(cfg)


def planned(
    composed: Sequence[tuple[DictConfig, list[str]]], plan: Callable[[DictConfig], list[StageSpec]]
) -> list[Point]:
    """The points of all (config, overrides), each with its stages."""
    for cfg, overrides in composed:
        _check_weights(cfg, overrides)
    return [
        Point(label, cfg.seed, plan(cfg), str(cfg.column or ""), cfg, overrides)
        for (cfg, overrides), label in zip(composed, _labels(composed), strict=True)
    ]


def _check_weights(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Raise `OptionError` for weights that are given where an override, also one of a sweep file, asks for
    pretraining: they would take its place without a word."""
    asked = [one for one in overrides if re.fullmatch(r"(auxiliary|pretext)=(?!none$|null$).+", one)]
    if cfg.init.weights and asked:
        remedy = f"leave out either this or {asked[0]}"
        raise OptionError("init.weights", cfg.init.weights, "nothing would be pretrained", remedy)


def _check_same(configs: Sequence[DictConfig], names: list[str]) -> None:
    """Raise `VsslError` for an option that differs between points if the launch takes the first one's."""
    first, *others = (dict(leaves({name: plain(cfg[name]) for name in names})) for cfg in configs)
    for other in others:
        differs = (path for path, value in {**other, **first}.items() if other.get(path, ...) != value)
        if (option := next(differs, None)) is not None:
            group = option.removesuffix("._target_")  # another one was chosen
            raise VsslError(f"{group}: points differ in it, but a launch has one; launch once for each value")


def _labels(composed: Sequence[tuple[DictConfig, list[str]]]) -> list[str]:
    """The given label, or the overrides in which a point differs from others, the seed apart."""
    everywhere = set.intersection(*(set(overrides) for _, overrides in composed))
    return [
        str(cfg.label or "")
        or ", ".join(o for o in overrides if o not in everywhere and not o.startswith("seed="))
        or "this run"
        for cfg, overrides in composed
    ]
