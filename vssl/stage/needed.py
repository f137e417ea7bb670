"""What in the folders of finished stages is still needed, and by whom."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vssl.engine.checkpoint import CHECKPOINT, WEIGHTS
from vssl.stage.features import FILE_NAME as FEATURES
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore, StoredStage, is_claimed
from vssl.stage.train import PREVIEW

OF_OTHERS = (WEIGHTS, CHECKPOINT, FEATURES)
"""What goes of stages that nobody asks for. The recipe, metrics, logs, predictions and the result stay."""


class Spare(NamedTuple):
    """A file that nothing needs, and why."""

    path: Path
    why: str


def spare_files(
    store: StageStore, asked: Sequence[StageSpec], needed: Collection[str] | None
) -> Iterator[Spare]:
    """Files of finished stages that no stage needs which is not done, be it in the store or `asked` for.

    needed: keys of the stages whose weights are needed, for whatever may come; None: those of all.
    A stage that is not done keeps all that it has, and so do the stages that it starts from.
    """
    stored = list(store.all())
    known = {stage.spec.key: stage.spec for stage in stored} | {spec.key: spec for spec in asked}
    done = {stage.spec.key for stage in stored if stage.result is not None and not is_claimed(stage.folder)}
    undone = [spec for key, spec in known.items() if key not in done]
    before_undone = {before.key for spec in undone for before in _before(spec, known)} | keys_of(undone)
    for stage in stored:
        key = stage.spec.key
        if key not in done:
            continue
        if (stage.folder / PREVIEW).exists():
            yield Spare(stage.folder / PREVIEW, "previews")
        if any(_may_continue(one, stage.spec) for one in undone):
            continue
        if needed is not None and key not in needed and key not in before_undone:
            yield from (Spare(path, "of stages that no sweep needs") for path in _files(stage, OF_OTHERS))
        elif not stage.spec.kind.labelled:  # the checkpoint of a classifier has the head that a test reads
            why = "checkpoints of finished stages from which no training of more epochs continues"
            yield from (Spare(path, why) for path in _files(stage, (CHECKPOINT,)))


def keys_of(specs: Sequence[StageSpec]) -> set[str]:
    """The stages, all that they rest on or choose from, and those whose weights they name as files."""
    ends = [*specs, *(test for spec in specs for test in spec.candidates)]
    files = (spec.paths[name] for spec in specs for name in ("init", "teacher") if name in spec.paths)
    return {one.key for spec in ends for one in spec.chain} | {Path(file).parent.name for file in files}


def _before(spec: StageSpec, known: dict[str, StageSpec]) -> Iterator[StageSpec]:
    """The stages that one starts from or chooses from, and those before them."""
    yield from spec.chain[:-1]
    for place in (spec.recipe.choose or {}).get("tests", []):
        if test := known.get(place.rpartition("/")[2]):
            yield from test.chain


def _may_continue(longer: StageSpec, spec: StageSpec) -> bool:
    """Whether a training may go on where another one ended; see `vssl.stage.train`."""
    if not longer.kind.trains or (longer.name, longer.parent) != (spec.name, spec.parent):
        return False
    return bool(longer.recipe.choose) or longer.shortened(0) == spec.shortened(0)


def _files(stage: StoredStage, names: Sequence[str]) -> Iterator[Path]:
    return (stage.folder / name for name in names if (stage.folder / name).exists())
