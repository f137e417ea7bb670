"""What `mode=` selects: one file per mode, each with `execute(points, cfg)`.

`points` are the chains of stages of all points of the launch; `cfg` is the first point's config, for what is
the same for all of them: outputs, dispatch, tracking, runtime. A mode that makes data ready, before there can
be a plan, says `PLANNED = False` and has `execute(cfg)`. A mode may bring a `plan(cfg)` of its own.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from omegaconf import DictConfig

from vssl import pipeline
from vssl.errors import VsslError, nearest
from vssl.pipeline import Point, absolute_outputs


def execute(composed: Sequence[tuple[DictConfig, list[str]]]) -> None:
    """Run the mode on the plans of all (config, overrides)."""
    modes = [module.name for module in pkgutil.iter_modules(__path__)]
    mode = composed[0][0].mode
    if mode not in modes:
        raise VsslError(f"mode={mode}: no such mode; {nearest(mode, modes)}")
    for cfg, _ in composed:
        absolute_outputs(cfg)
    module = importlib.import_module(f"{__name__}.{mode}")
    if not getattr(module, "PLANNED", True):
        for cfg, _ in composed:
            module.execute(cfg)
        return
    plan = getattr(module, "plan", pipeline.plan)
    points = [
        Point(label, cfg.seed, plan(cfg), cfg.column or "")
        for (cfg, _), label in zip(composed, _labels(composed), strict=True)
    ]
    module.execute(points, composed[0][0])


def _labels(composed: Sequence[tuple[DictConfig, list[str]]]) -> list[str]:
    """The given label, or the overrides in which a point differs from others, the seed apart."""
    everywhere = set.intersection(*(set(overrides) for _, overrides in composed))
    return [
        cfg.label
        or ", ".join(o for o in overrides if o not in everywhere and not o.startswith("seed="))
        or "this run"
        for cfg, overrides in composed
    ]
