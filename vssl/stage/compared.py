"""In which values stages differ: from those beside them, and from those that are finished."""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from vssl.errors import as_typed
from vssl.stage.spec import StageSpec, class_name, leaves
from vssl.stage.store import StageStore

MOST = 3
"""A finished stage that differs in more values is not near."""

OF_THE_SEED = ("seed", "data.part.fingerprint", "choose.trainings", "choose.tests")
"""What differs wherever the seed does."""

NOT_A_VALUE = ("data.fingerprint", "data.num_videos", "data.part.num_videos", *OF_THE_SEED[1:])


def values(spec: StageSpec, ignored: Collection[str] = NOT_A_VALUE) -> dict[str, Any]:
    """All values behind a stage, by path; those of the stages before it with their names in front."""
    found: dict[str, Any] = {}
    for one in spec.chain:
        own = leaves(one.recipe.to_plain())
        before = "" if one is spec else f"{one.name}."
        found |= {
            f"{before}{path.removeprefix('task.')}": value for path, value in own if path not in ignored
        }
    return found


def differences(specs: Sequence[StageSpec]) -> list[list[str]]:
    """For each stage what tells it from others of the same words: its pretraining, and values as typed."""
    groups = [((spec.name, spec.recipe.words), _pretraining(spec)) for spec in specs]
    pretrainings = Counter(words for words, _ in set(groups))
    found = differing([values(spec) for spec in specs], groups)
    return [
        [after, *own] if pretrainings[words] > 1 else own
        for (words, after), own in zip(groups, found, strict=True)
    ]


def _pretraining(spec: StageSpec) -> str:
    tasks = [class_name(one.recipe.task) for one in spec.chain if one is not spec and not one.kind.labelled]
    return f"after {', '.join(tasks)}" if tasks else "from scratch"


def differing(found: Sequence[Mapping[str, Any]], groups: Sequence[Hashable]) -> list[list[str]]:
    """For each mapping the values, as `path=value`, in which it differs from others of its group."""
    alike = defaultdict(list)
    for own, group in zip(found, groups, strict=True):
        alike[group].append({(path, repr(value)) for path, value in own.items()})
    shared = {group: set.intersection(*members) for group, members in alike.items()}
    return [
        _typed({path: value for path, value in own.items() if (path, repr(value)) not in shared[group]})
        for own, group in zip(found, groups, strict=True)
    ]


def _typed(found: Mapping[str, Any]) -> list[str]:
    """As typed; of an object of another class that class alone."""
    others = [path.removesuffix("._target_") for path in found if path.endswith("._target_")]
    inside = tuple(f"{one}." for one in others)
    outer = [one for one in others if not one.startswith(inside)]
    told = {one: class_name({"_target_": found[f"{one}._target_"]}) for one in outer}
    told |= {path: value for path, value in found.items() if not path.startswith(inside)}
    return [f"{short(path, told)}={as_typed(value)}" for path, value in told.items()]


def short(path: str, paths: Iterable[str]) -> str:
    """The last word of a dotted path, if that is enough to tell it from the other paths."""
    last = path.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in paths) == 1 else path


def nearest_finished(forest: Sequence[StageSpec], store: StageStore) -> dict[StageSpec, str]:
    """Why a stage is to do although something near it is done: `: like 3f9c1a but lr 0.03 -> 0.01`.

    The nearest finished stage of its name is the one that differs in the fewest values, up to `MOST`.
    """
    left = [spec for spec in forest if store.result(spec) is None and not spec.is_provisional]
    found = {}
    for name in dict.fromkeys(spec.name for spec in left):
        finished = {stage.spec: values(stage.spec) for stage in store.finished(name)}
        known = {near: _items(other) for near, other in finished.items()}
        for spec in left if finished else []:
            if spec.name == name:
                own = values(spec)
                items = _items(own)
                differ = {near: len(items ^ others) for near, others in known.items()}
                near = min(differ, key=differ.__getitem__)
                changed = [*_changes(own, finished[near]), *_other_videos(spec, near)]
                if len(changed) <= MOST:
                    found[spec] = f": like {near.key[:6]} but {', '.join(changed)}"
    return found


def _items(found: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Values as a set: to compare many with many, the paths of all would be looked up too often."""
    return frozenset((path, repr(value)) for path, value in found.items())


def _other_videos(spec: StageSpec, near: StageSpec) -> list[str]:
    """Whether any stage behind them has other videos, though they were chosen alike."""
    for one, other in zip(spec.chain, near.chain, strict=False):
        chosen, others = (_chosen(stage.recipe.data) for stage in (one, other))
        if chosen == others and one.recipe.data != other.recipe.data:
            return ["other videos"]
    return []


def _chosen(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if f"data.{name}" not in NOT_A_VALUE}


def _changes(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [
        f"{path} {_said(other, path)} -> {_said(own, path)}"
        for path in {**own, **other}
        if own.get(path, ...) != other.get(path, ...)
    ]


def _said(values: Mapping[str, Any], path: str) -> str:
    return as_typed(values[path]) if path in values else "absent"
