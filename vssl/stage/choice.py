"""Values of a protocol that are chosen: each candidate is trained without, and tested on, held-out training
videos; with the values of the best one, all training videos are trained on.

A candidate is two ordinary stages, and shared like any others. The stage that trains with the choice has the
rule in its recipe, and so in its key: `choose.options`, the values by option, and where the candidates lie in
the store (`choose.trainings`, `choose.tests`). What they come to it reads when it runs, and no key depends on
that. Needs no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from vssl.errors import OptionError, VsslError, as_typed, nearest
from vssl.result import Metric, StageResult
from vssl.stage.spec import Node, Recipe, StageSpec
from vssl.stage.store import StageStore, StoredStage, read_note, read_result

PARTS = ("training", "augmentation")
"""Parts of a protocol whose options can be chosen."""

BATCH, MICRO_BATCH = "training.batch_size", "training.micro_batch"


@dataclass(frozen=True)
class Choice:
    """What the tests of the candidates came to; None of one whose loss was no number any more.

    The best one has the best headline; of several with the same, the best of the other metrics, in the order
    in which the test declares them; of several that are the same in all, it is the first.
    """

    candidates: list[dict[str, Any]]
    tests: list[StageResult | None]

    @property
    def metric(self) -> Metric:
        """The headline of the tests. Raises `VsslError` if no candidate was tested."""
        metric = next((test.headline for test in self.tests if test), None)
        if metric is None:
            raise VsslError("protocol.choose: the loss of every candidate became no number; give others")
        return metric

    @property
    def reached(self) -> list[float | None]:
        """The headline of each candidate."""
        return [test.metrics[self.metric.name] if test else None for test in self.tests]

    @property
    def best(self) -> dict[str, Any]:
        """The values that are chosen, by option."""
        metrics = [self.metric, *(metric for test in self.tests if test for metric in test.declared)]
        ranked = [
            [(1 if one.larger_is_better else -1) * test.metrics[one.name] for one in metrics] if test else []
            for test in self.tests
        ]
        return self.candidates[ranked.index(max(ranked))]

    def facts(self) -> dict[str, Any]:
        """What a reader has to know: the values `chosen`, what `candidates` reached, and both in words."""
        pairs = list(zip(self.candidates, self.reached, strict=True))
        said = ", ".join(f"{_typed(values)}: {self._words(value)}" for values, value in pairs)
        return {
            "chosen": self.best,
            "candidates": [{**values, self.metric.name: value} for values, value in pairs],
            "choice": f"{', '.join(self.best)}={_typed(self.best)} by held-out {self.metric.label} ({said})",
        }

    def _words(self, value: float | None) -> str:
        return "diverged" if value is None else self.metric.words(self.metric.scaled(value))


def grid(options: Any) -> list[dict[str, Any]]:
    """All combinations of the values of `protocol.choose`, the last option changing fastest.

    Raises `OptionError` for what gives no choice.
    """
    lists = isinstance(options, Mapping) and all(isinstance(values, list) for values in options.values())
    if not lists or not options or any(len(values) < 2 for values in options.values()):
        remedy = "give options with two values or more, as {training.optimizer.lr:[0.01,0.1]}"
        raise OptionError("choose", options, "no choice", remedy)
    for path in options:
        if str(path).partition(".")[0] not in PARTS:
            remedy = f"choose options of {' or '.join(PARTS)}"
            raise OptionError("choose", options, f"{path} cannot be chosen", remedy)
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


def with_values(node: Node, values: Mapping[str, Any]) -> dict[str, Any]:
    """A node with other values, by dotted path. Raises `OptionError` for an option that it does not have."""
    changed = dict(node)
    for path, value in values.items():
        name, _, rest = path.partition(".")
        inner = changed.get(name)
        if name not in changed or (rest and not isinstance(inner, Mapping)):
            raise OptionError(path, value, "no such option", nearest(name, map(str, changed)))
        if not rest and isinstance(inner, Mapping):
            raise OptionError(path, value, "not one option but several", nearest("", map(str, inner)))
        try:
            changed[name] = with_values(inner or {}, {rest: value}) if rest else value
        except OptionError as error:
            raise error.below(name) from error
    return changed


def with_choice(node: Node, values: Mapping[str, Any]) -> dict[str, Any]:
    """As `with_values`; and where a micro-batch is the whole batch, it stays so, whatever size is chosen."""
    training = node["training"]
    if BATCH in values and training.get("micro_batch") == training.get("batch_size"):
        values = {MICRO_BATCH: values[BATCH], **values}
    return with_values(node, values)


def choosing(
    spec: StageSpec, options: Mapping[str, Any], pairs: Sequence[tuple[StageSpec, StageSpec]]
) -> StageSpec:
    """The stage with the rule that chooses the values of these options by the training and the test of each
    candidate."""
    trainings, tests = zip(*pairs, strict=True)
    rule = {"options": dict(options), "trainings": _places(trainings), "tests": _places(tests)}
    return replace(spec, recipe=replace(spec.recipe, choose=rule), candidates=tests)


def decided(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with these values in place of what is to be chosen."""
    parts = {name: getattr(recipe, name) for name in PARTS}
    return replace(recipe, choose=None, **with_choice(parts, values)) if values else recipe


def first(recipe: Recipe) -> Recipe:
    """The recipe as its first candidate has it, where values are to be chosen; any other as it is."""
    return decided(recipe, grid(recipe.choose["options"])[0]) if recipe.choose else recipe


def choice_of(spec: StageSpec, store: StageStore) -> Choice | None:
    """The choice of a stage, once its candidates are tested; None if it has none.

    A candidate whose loss was no number any more has lost. Raises `VsslError` if another one is not finished.
    """
    if not (rule := spec.recipe.choose):
        return None
    candidates, results = grid(rule["options"]), [read_result(store.root / test) for test in rule["tests"]]
    for values, result, training in zip(candidates, results, rule["trainings"], strict=True):
        note = read_note(store.root / training, "failed.json")
        if result is None and not (note and note.get("diverged")):
            raise VsslError(
                f"the candidate {_typed(values)} of {', '.join(values)} is not finished; see why in "
                f"{store.root / training}, the same command runs it again"
            )
    return Choice(candidates, results)


def chosen(spec: StageSpec, store: StageStore) -> Recipe:
    """The recipe as it is to be trained: with what is chosen, where there is a choice."""
    choice = choice_of(spec, store)
    return decided(spec.recipe, choice.best) if choice else spec.recipe


def as_trained(stage: StoredStage) -> Recipe:
    """The recipe of a finished stage, with what was chosen."""
    return decided(stage.spec.recipe, stage.finished.protocol.get("chosen", {}))


def candidates(choosing: Iterable[StageSpec]) -> set[StageSpec]:
    """The training and the test of each candidate of these stages."""
    return {one for spec in choosing for test in spec.candidates for one in test.chain[-2:]}


def without_lost(forest: Sequence[StageSpec], store: StageStore) -> list[StageSpec]:
    """The forest without the candidates that diverged, where all that choose from them are done."""
    done = {spec for spec in forest if store.result(spec) is not None}
    lost = candidates(done) - done - candidates(set(forest) - done)
    return [spec for spec in forest if spec not in lost]


def _places(specs: Sequence[StageSpec]) -> list[str]:
    return [f"{spec.name}/{spec.key}" for spec in specs]


def _typed(values: Mapping[str, Any]) -> str:
    return ", ".join(as_typed(value) for value in values.values())
