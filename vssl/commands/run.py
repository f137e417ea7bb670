"""mode=run: run the forest of all points, then show what came of it."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl.dispatch.watch import StageWatch
from vssl.errors import VsslError
from vssl.pipeline import Point, describe, merge
from vssl.report import table
from vssl.stage.build import build
from vssl.stage.provenance import git_commit
from vssl.stage.run import Context, Outcome, check
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.tracking.metrics import Tracker


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Run what is not done yet; raise `VsslError` at the end if a stage failed."""
    outputs = Path(cfg.outputs)
    outputs.mkdir(parents=True, exist_ok=True)
    _show_warnings()
    store = StageStore(outputs)
    forest = merge(point.chain for point in points)
    for spec in forest:
        check(spec)
    tracker: Tracker = _build(cfg, "tracking")
    tracker.begin(_launch_name(points), " ".join(["python", *sys.argv]))
    outcomes = _build(cfg, "dispatch").run(forest, _context(store, tracker, cfg))
    for outcome in outcomes:
        if outcome.status == "reused":
            tracker.reuse(_watch(outcome.spec, store, tracker).stage)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    tracker.end(ok=not failed)
    _show(points, outcomes, store)
    print(f"\nresults: {store.root}\ntracking: {tracker.where()}")
    if failed:
        skipped = sum(outcome.status == "skipped" for outcome in outcomes)
        raise VsslError(f"{len(failed)} of {len(forest)} stages failed, {skipped} skipped (table above)")


def _show_warnings() -> None:
    """Warnings go to the console too; errors end up in the table, and their tracebacks in the logs."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    logging.getLogger("vssl").handlers = [handler]
    logging.getLogger("vssl").propagate = False


def _build(cfg: DictConfig, group: str) -> Any:
    return build(OmegaConf.to_container(cfg[group], resolve=True), group)  # type: ignore[arg-type]


def _context(store: StageStore, tracker: Tracker, cfg: DictConfig) -> Context:
    return Context(
        store=store,
        runtime=_build(cfg, "runtime"),
        observe=lambda spec: _watch(spec, store, tracker),
        say=print,
    )


def _watch(spec: StageSpec, store: StageStore, tracker: Tracker) -> StageWatch:
    tags = {"git_commit": git_commit(), "host": socket.gethostname(), "what": describe(spec)}
    return StageWatch(spec, store.folder(spec), tracker, tags)


def _launch_name(points: Sequence[Point]) -> str:
    labels = list(dict.fromkeys(point.label for point in points))
    return f"{len(points)} points: {'; '.join(labels)}" if len(points) > 1 else labels[0]


def _show(points: Sequence[Point], outcomes: Sequence[Outcome], store: StageStore) -> None:
    """Tables of stages (unless all were there already) and of results."""
    table.outcome_table([_row(outcome, store) for outcome in outcomes])
    table.result_table(
        [table.Point(point.label, point.seed, _metrics(point.chain[-1], store)) for point in points]
    )


def _row(outcome: Outcome, store: StageStore) -> table.Outcome:
    spec = outcome.spec
    log = str(store.folder(spec) / "log.txt") if outcome.status == "failed" else None
    return table.Outcome(
        spec.name, spec.key, describe(spec), outcome.status, outcome.reason, log, outcome.seconds
    )


def _metrics(spec: StageSpec, store: StageStore) -> dict[str, float] | None:
    result = store.result(spec)
    return result["metrics"] if result else None
