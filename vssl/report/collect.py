"""From the stages of a store to a report. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vssl.dispatch.states import State, states
from vssl.errors import VsslError
from vssl.pipeline import Point, merge
from vssl.report.baseline import with_baselines
from vssl.report.model import Column, Curves, Report, Row, Run
from vssl.result import Metric
from vssl.stage.compared import OF_THE_SEED, differing, values
from vssl.stage.spec import StageSpec, class_name, leaves
from vssl.stage.store import StageStore

Chain = Sequence[StageSpec]

UNKNOWN = Metric("", "result")
"""Of tests while nobody knows what they will report."""


def of_points(points: Sequence[Point], sweep: Mapping[str, Any], found: Iterable[State]) -> Report:
    """The report of a sweep file's points, or of points that have no file; `found`: their stages."""
    of_spec = {state.spec: state for state in found}
    chains = [[of_spec[spec] for spec in point.chain] for point in points]
    entries = {entry["label"]: entry for entry in sweep.get("rows") or []}
    column_entries = {entry["label"]: entry for entry in sweep.get("columns") or []}
    wanted = [column_entries.get(point.column, {}).get("metric", sweep.get("metric")) for point in points]
    columns = _columns([point.column for point in points], [chain[-1] for chain in chains], wanted)
    runs: dict[str, dict[object, Run]] = {}
    for point, chain, column in zip(points, chains, columns, strict=True):
        expected = _published_with(sweep, entries.get(point.label, {}), column_entries.get(point.column, {}))
        runs.setdefault(point.label, {})[point.column, chain[-1].spec] = Run(column, chain, expected)
    rows = [_row(label, list(one.values()), entries.get(label, {}), sweep) for label, one in runs.items()]
    name = sweep.get("name", "sweep")
    return Report(
        name=name,
        title=sweep.get("title", name),
        source=sweep.get("source", ""),
        columns=list(dict.fromkeys(columns)),
        rows=[*with_baselines(rows, sweep), *not_run(sweep)],
        x_label=sweep.get("x_label", ""),
        curves=Curves(**sweep["curves"]) if sweep.get("curves") else None,
        is_quick=any(point.cfg.get("quick") is not None for point in points),
    )


def _row(label: str, runs: Sequence[Run], entry: Mapping[str, Any], sweep: Mapping[str, Any]) -> Row:
    return Row(
        label,
        runs,
        published=entry.get("published") or {},
        series=entry.get("series") or "",
        x=entry.get("x"),
        test_videos=entry.get("test_videos", sweep.get("test_videos")) or {},
    )


def not_run(sweep: Mapping[str, Any]) -> list[Row]:
    """The rows of a published table that nothing here can run, as the sweep file lists them."""
    entries = sweep.get("not_run") or []
    return [Row(one["label"], [], one.get("published") or {}, not_run=one["reason"]) for one in entries]


def all_finished(store: StageStore) -> Report:
    """A report of every finished test in the store; rows are chains that differ in more than the seed.

    Tests of candidates stand in what was chosen from them.
    """
    chains = [stage.spec.chain for stage in store.finished("test") if not stage.spec.recipe.is_candidate]
    if not chains:
        raise VsslError(
            f"{store.root}: no stage 'test' is done here; run something first, or give outputs=DIR"
        )
    named = zip(labels(chains), _data_labels(chains), chains, strict=True)
    points = [Point(label, chain[-1].recipe.seed, list(chain), column) for label, column, chain in named]
    points.sort(key=lambda point: (point.label, point.seed))
    sweep = {"name": "all", "title": "All finished tests"}
    return of_points(points, sweep, states(merge(chains), store, None))


def labels(chains: Sequence[Chain]) -> list[str]:
    """What each chain is, in words: its tasks and its backbone, and the values in which it differs from
    others that have the same words; the seed and the data of the test apart."""
    words = []
    for chain in chains:
        tasks = dict.fromkeys(class_name(spec.recipe.task) for spec in chain)
        words.append(f"{' + '.join(tasks)}, {class_name(chain[-1].recipe.backbone)}")
    found = [values(chain[-1], ignored=OF_THE_SEED).items() for chain in chains]
    return _told_apart(words, [{path: v for path, v in own if not path.startswith("data.")} for own in found])


def _data_labels(chains: Sequence[Chain]) -> list[str]:
    """Names of the data sets of tests, and the values in which those of one name differ."""
    recipes = [chain[-1].recipe for chain in chains]
    found = [dict(leaves({**recipe.data, "num_videos": 0})) for recipe in recipes]
    return _told_apart([recipe.data_name for recipe in recipes], found)


def _told_apart(words: Sequence[str], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The words, each with the values in which it differs from others of the same words."""
    return [", ".join([word, *differs]) for word, differs in zip(words, differing(found, words), strict=True)]


def _columns(labels: Sequence[str], tests: Sequence[State], wanted: Sequence[str | None]) -> list[Column]:
    """The column of each test: that of its headline, or of the metric that is wanted.

    A test without a result goes where others of its task are.
    """
    known = {metric.name: metric for test in tests if test.result for metric in test.result.declared}
    tasks = [class_name(test.spec.recipe.task) for test in tests]
    own = [test.result.headline if test.result else None for test in tests]
    of_task = {task: metric for task, metric in zip(tasks, own, strict=True) if metric}
    metrics = [
        known.get(name, Metric(name, name.replace("_", " ")))
        if name
        else metric or of_task.get(task, UNKNOWN)
        for name, task, metric in zip(wanted, tasks, own, strict=True)
    ]
    pairs = set(zip(labels, metrics, strict=True))
    shared = {label for label in labels if sum(label == other for other, _ in pairs) > 1}
    return [
        Column(label, metric, metric.label if label in shared and metric is not UNKNOWN else "")
        for label, metric in zip(labels, metrics, strict=True)
    ]


def _published_with(*entries: Mapping[str, Any]) -> dict[str, str]:
    """Which `source` and `downstream` the overrides of a sweep, a row and a column choose. Numbers that were
    published are of fine-tuned networks."""
    overrides = [str(line) for entry in entries for line in entry.get("overrides") or []]
    chosen = dict(line.partition("=")[::2] for line in overrides)
    found: dict[str, str] = {group: chosen[group] for group in ("source", "downstream") if group in chosen}
    return found | ({"protocol": "finetune"} if any(entry.get("published") for entry in entries) else {})
