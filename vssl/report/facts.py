"""What a run was, in words: its protocol and its videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vssl.dispatch.states import State
from vssl.stage.spec import Recipe, StageSpec, class_name

_TOLD_ELSEWHERE = ("backbone", "backbone_parameters", "task", "start", "epochs", "effective_batch", "seed")


def facts(stages: Sequence[State]) -> dict[str, str]:
    """The protocol of a chain in words: what its recipes say, then what its last finished stage noted."""
    results = [stage.result for stage in stages if stage.result]
    noted = results[-1].protocol if results else {}
    backbone = class_name(stages[-1].spec.recipe.backbone)
    if "backbone_parameters" in noted:
        backbone += f", {noted['backbone_parameters']:,} parameters"
    told = {"backbone": backbone, **{stage.spec.name: _stage_words(stage.spec) for stage in stages}}
    for name, value in noted.items():
        if isinstance(value, str | int | float) and name not in _TOLD_ELSEWHERE:
            told[name.replace("_", " ")] = f"{value:,}" if type(value) is int else str(value)
    if results:
        told["device"] = ", ".join(dict.fromkeys(str(result.provenance["device"]) for result in results))
        told["code"] = ", ".join(dict.fromkeys(_code(result.provenance) for result in results))
    return told


def data_words(recipe: Recipe) -> str:
    """The data set of a recipe and which part of it."""
    part = recipe.data.get("subset") or recipe.data.get("appearance")
    return " ".join(filter(None, [recipe.data_name, part]))


def other_data(chain: Sequence[StageSpec], expected: Mapping[str, str]) -> str:
    """How a chain's videos differ from those of a published number, or "".

    Videos that were made up always do. `expected` names the data sets of `source` and `downstream`.
    """
    found = []
    for spec in chain:
        name = spec.recipe.data_name
        pretrains = spec.kind.trains and not spec.kind.labelled
        wanted = expected.get("source" if pretrains else "downstream", name)
        if spec.recipe.is_synthetic:
            found.append("synthetic videos")
        elif wanted != name:
            found.append(f"{name} instead of {wanted}")
    return "; ".join(dict.fromkeys(found))


def _stage_words(spec: StageSpec) -> str:
    recipe = spec.recipe
    words = f"{class_name(recipe.task)} on {data_words(recipe)}, {recipe.data['num_videos']:,} videos"
    if recipe.training:
        words += f", epochs {recipe.epochs}, batch {recipe.training['batch_size']}"
    return words


def _code(origin: Mapping[str, Any]) -> str:
    commit, changed, _ = str(origin["git_commit"]).partition("+changes")
    return f"vssl {origin['vssl']}, commit {commit[:12]}{changed}"
