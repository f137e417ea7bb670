"""From the folders of stages to what a report says about them. Reads only; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vssl.errors import VsslError
from vssl.report.model import Column, Cost, Report, Row, Run, Stage
from vssl.stage.spec import PRETRAINING, StageSpec, class_name, data_name, is_synthetic
from vssl.stage.store import StageStore, describe
from vssl.tracking.metrics import read

Chain = Sequence[StageSpec]
State = tuple[str, str]
"""How a stage stands, in a word, and more about it."""

MAIN_METRICS = {"video_top1": "", "recall_at_1": "retrieval"}
"""The metrics that are shown of tests, if no sweep says which. Each has columns of its own, with this word in
their names."""
METRIC_OF = {"Retrieval": "recall_at_1"}
"""By the task of a test; all others have the first one."""


class Collector:
    """Reads stages of a store, each once. `states` says how those stand that are not done, by key."""

    def __init__(self, store: StageStore, states: Mapping[str, State]) -> None:
        self._store = store
        self._states = states
        self._stages: dict[str, Stage] = {}

    def run(self, chain: Chain, column: str, expected: Mapping[str, str]) -> Run:
        """What one chain came to. `expected`: names of the data sets of the published number, as
        `other_data` takes them."""
        last = chain[-1]
        result, folder = self._store.result(last), self._store.folder(last)
        confusion_NN, class_names = _confusion(folder)
        sheet = folder / "retrieval.png"
        return Run(
            column=column,
            seed=last.recipe["seed"],
            stages=[self._stage(spec) for spec in chain],
            metrics=result["metrics"] if result else None,
            facts=facts(chain, [self._store.result(spec) for spec in chain]),
            data=data_words(last.recipe["data"]),
            other_data=other_data(chain, expected),
            confusion_NN=confusion_NN if result else None,
            class_names=class_names,
            sheet=sheet.read_bytes() if result and sheet.exists() else None,
        )

    def _stage(self, spec: StageSpec) -> Stage:
        if spec.key not in self._stages:
            result = self._store.result(spec)
            state, detail = ("done", "") if result else self._states.get(spec.key, ("to do", ""))
            recipe = yaml.safe_dump(describe(spec), sort_keys=False, width=100)
            lines = read(self._store.folder(spec)) if "training" in spec.recipe else []
            cost = _cost(result) if result else None
            references = result.get("references", {}) if result else {}
            self._stages[spec.key] = Stage(
                spec.name, spec.key, state, detail, recipe, cost, lines, references
            )
        return self._stages[spec.key]


def all_finished(store: StageStore) -> Report:
    """A report of every finished test in the store; rows are chains that differ in more than the seed."""
    chains = [spec.chain for spec in _finished_tests(store)]
    if not chains:
        raise VsslError(
            f"{store.root}: no stage 'test' is done here; run something first, or give outputs=DIR"
        )
    collector = Collector(store, {})
    data = _data_labels([chain[-1].recipe["data"] for chain in chains])
    columns: dict[Column, None] = {}
    runs: dict[str, list[Run]] = {}
    for chain, label, tested_on in zip(chains, labels(chains), data, strict=True):
        column = main_column(chain, tested_on)
        columns[column] = None
        runs.setdefault(label, []).append(collector.run(chain, column.label, {}))
    rows = [Row(label, sorted(found, key=lambda run: run.seed)) for label, found in sorted(runs.items())]
    return Report("all", "All finished tests", "", list(columns), rows)


def main_column(chain: Chain, name: str) -> Column:
    """The column of a chain's result under the name of what it was tested on, if no sweep says which."""
    metric = METRIC_OF.get(class_name(chain[-1].recipe["task"]), "video_top1")
    return Column(f"{name} {MAIN_METRICS[metric]}".strip(), metric)


def _data_labels(tested_on: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of data sets, and the values in which those of one name differ."""
    flat = [dict(_leaves(data)) for data in tested_on]
    found = []
    for data, values in zip(tested_on, flat, strict=True):
        alike = [other for other in flat if data_name(other) == data_name(data)]
        differing = [p for p in values if any(other.get(p) != values[p] for other in alike)]
        words = [f"{_short(p, differing)}={values[p]}" for p in differing if p != "num_videos"]
        found.append(", ".join([data_name(data), *words]))
    return found


def labels(chains: Sequence[Chain]) -> list[str]:
    """What each chain is, in words: its tasks and its backbone, and the values in which it differs from
    others that have the same words; the seed and the data of the test apart."""
    words = [_words(chain) for chain in chains]
    flat = [_flat(chain) for chain in chains]
    found = []
    for word, values in zip(words, flat, strict=True):
        alike = [other for other, name in zip(flat, words, strict=True) if name == word]
        differing = [p for p in values if any(other.get(p) != values[p] for other in alike)]
        found.append(", ".join([word, *(f"{_short(p, differing)}={values[p]}" for p in differing)]))
    return found


def facts(chain: Chain, results: Sequence[Mapping[str, Any] | None]) -> dict[str, str]:
    """The protocol of a chain in words: what its recipes say, then what its last finished stage noted."""
    protocols: list[Mapping[str, Any]] = [result["protocol"] for result in results if result]
    said = protocols[-1] if protocols else {}
    backbone = class_name(chain[-1].recipe["backbone"])
    if "backbone_parameters" in said:
        backbone += f", {said['backbone_parameters']:,} parameters"
    told = {"backbone": backbone, **{spec.name: _stage_words(spec) for spec in chain}}
    for name, value in said.items():
        if isinstance(value, str | int | float) and name not in _TOLD_ELSEWHERE:
            told[name.replace("_", " ")] = f"{value:,}" if type(value) is int else str(value)
    origins = [result["provenance"] for result in results if result and "provenance" in result]
    if origins:
        told["device"] = ", ".join(dict.fromkeys(str(origin.get("device")) for origin in origins))
        told["code"] = ", ".join(dict.fromkeys(_code(origin) for origin in origins))
    return told


_TOLD_ELSEWHERE = ("backbone", "backbone_parameters", "task", "start", "epochs", "effective_batch", "seed")


def data_words(data: Mapping[str, Any]) -> str:
    """The data set of a recipe and which part of it."""
    part = data.get("subset") or data.get("appearance")
    return " ".join(filter(None, [data_name(data), part]))


def other_data(chain: Chain, expected: Mapping[str, str]) -> str:
    """In which way a chain's videos are not those of a published number, or "".

    Videos that were made up are never those. `expected` names the data sets of `source` and `downstream`.
    """
    found = []
    for spec in chain:
        name = data_name(spec.recipe["data"])
        wanted = expected.get("source" if spec.name in PRETRAINING else "downstream", name)
        if is_synthetic(spec.recipe["data"]):
            found.append("synthetic videos")
        elif wanted != name:
            found.append(f"{name} instead of {wanted}")
    return "; ".join(dict.fromkeys(found))


def _finished_tests(store: StageStore) -> list[StageSpec]:
    folders = sorted((store.root / "test").glob("*/result.json"))
    return [_spec(store, "test", path.parent.name) for path in folders]


def _spec(store: StageStore, name: str, key: str) -> StageSpec:
    """The stage that `recipe.yaml` describes, with its ancestors."""
    path = store.root / name / key / "recipe.yaml"
    try:
        recipe = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise VsslError(
            f"{path}: not there; copy that stage's folder too, or delete what rests on it"
        ) from error
    except yaml.YAMLError as error:
        raise VsslError(f"{path}: damaged; delete that folder and run again") from error
    parent = recipe.pop("parent")
    del recipe["stage"], recipe["key"]
    spec = StageSpec(name, recipe, _spec(store, *parent.split("/")) if parent else None)
    if spec.key != key:
        raise VsslError(
            f"{path}: is not the recipe of stage {key}; it was changed by hand, delete that folder"
        )
    return spec


def _cost(result: Mapping[str, Any]) -> Cost:
    """The cost of a result; a CPU has no GPU, whether the result says so or not."""
    cost = result.get("cost", {})
    on_cpu = result.get("provenance", {}).get("device") == "cpu"
    return Cost(
        seconds=cost.get("seconds"),
        gpus=cost.get("gpus", 0 if on_cpu else None),
        clips=cost.get("clips"),
        memory_bytes=cost.get("peak_memory_bytes"),
        energy_joules=cost.get("energy_joules"),
        inherited_seconds=cost.get("inherited_seconds", 0.0),
    )


def _confusion(folder: Path) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Share of each true class (row) that was taken for each class, and the classes' names.

    A class without any video has a row of zeros.
    """
    path = folder / "predictions.npz"
    if not path.exists():
        return None, []
    with np.load(path) as held:
        if "scores_VN" not in held:
            return None, []
        scores_VN, labels_V = held["scores_VN"], held["labels_V"]
        names = [str(name) for name in held["class_names"]] if "class_names" in held else []
    counts_NN = np.zeros((scores_VN.shape[1],) * 2)
    np.add.at(counts_NN, (labels_V, scores_VN.argmax(axis=1)), 1)
    return counts_NN / np.maximum(1, counts_NN.sum(axis=1, keepdims=True)), names


def _stage_words(spec: StageSpec) -> str:
    recipe: Mapping[str, Any] = spec.recipe
    data = recipe["data"]
    words = f"{class_name(recipe['task'])} on {data_words(data)}, {data['num_videos']:,} videos"
    if "training" in recipe:
        words += f", epochs {recipe['training']['epochs']}, batch {recipe['training']['batch_size']}"
    return words


def _words(chain: Chain) -> str:
    tasks = dict.fromkeys(class_name(spec.recipe["task"]) for spec in chain)
    return f"{' + '.join(tasks)}, {class_name(chain[-1].recipe['backbone'])}"


def _flat(chain: Chain) -> dict[str, object]:
    """All values of a chain's recipes by dotted path; seeds, and which videos are tested on, are left out."""
    found: dict[str, object] = {}
    for spec in chain:
        recipe = {name: value for name, value in spec.recipe.items() if name != "seed"}
        if spec.name == "test":
            del recipe["data"]
        found |= {f"{spec.name}.{path}": value for path, value in _leaves(recipe)}
    return found


def _leaves(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    leaves: list[tuple[str, object]] = []
    for name, value in node.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}{name}.")
        else:
            leaves.append((prefix + name, value))
    return leaves


def _short(path: str, paths: Sequence[str]) -> str:
    """The last word of a dotted path, if that is enough to tell it from the other paths."""
    last = path.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in paths) == 1 else path


def _code(origin: Mapping[str, Any]) -> str:
    commit = str(origin.get("git_commit", "unknown"))
    return (
        f"vssl {origin.get('vssl')}, commit {commit[:12]}{'+changes' if commit.endswith('+changes') else ''}"
    )
