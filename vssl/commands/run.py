"""mode=run: run the forest of all points, then show what came of it."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vssl import stop
from vssl.dispatch.job import open_context, watch
from vssl.errors import VsslError
from vssl.pipeline import Point, describe, merge, monitored
from vssl.report import table
from vssl.stage.build import build
from vssl.stage.run import Context, Outcome, check
from vssl.stage.spec import StageSpec, data_name
from vssl.stage.store import StageStore
from vssl.tracking.metrics import Launch, Tracker


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Run what is not done yet; raise `VsslError` at the end if a stage failed."""
    outputs = Path(cfg.outputs)
    outputs.mkdir(parents=True, exist_ok=True)
    stop.listen()
    _show_warnings()
    store = StageStore(outputs)
    forest = merge(point.chain for point in points)
    for spec in forest:
        if store.result(spec) is None:
            check(spec)
    dispatcher = _dispatcher(cfg)
    context, tracker = open_context(_plain(points, cfg))
    outcomes = run_forest(dispatcher, forest, context, tracker)
    if any(outcome.status in ("submitted", "queued") for outcome in outcomes):
        _let_go(outcomes)
        return
    _show(points, outcomes, store)
    print(f"\nresults: {store.root}\ntracking: {tracker.where()}")
    if failed := _count(outcomes, "failed"):
        skipped = _count(outcomes, "skipped")
        raise VsslError(f"{failed} of {len(forest)} stages failed, {skipped} skipped (table above)")


def run_forest(
    dispatcher: Any, forest: Sequence[StageSpec], context: Context, tracker: Tracker
) -> list[Outcome]:
    """Run the forest; whatever comes in between, Ctrl-C too, the launch ends in the tracker as well."""
    ok = False
    try:
        outcomes: list[Outcome] = dispatcher.run(forest, context)
        for outcome in outcomes:
            if outcome.status == "reused":
                tracker.reuse(watch(outcome.spec, context.store, tracker).stage)
        ok = not _count(outcomes, "failed")
    finally:
        tracker.end(ok)
    return outcomes


def _count(outcomes: Sequence[Outcome], status: str) -> int:
    return sum(outcome.status == status for outcome in outcomes)


def _show_warnings() -> None:
    """Warnings go to the console too; errors end up in the table, and their tracebacks in the logs."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    logging.getLogger("vssl").handlers = [handler]
    logging.getLogger("vssl").propagate = False


def _plain(points: Sequence[Point], cfg: DictConfig) -> dict[str, Any]:
    """What `open_context` takes, for this process and for workers in others."""
    launch = Launch(uuid.uuid4().hex, _launch_name(points), " ".join(["python", *sys.argv]))
    nodes = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in ("runtime", "tracking")}
    return {"outputs": cfg.outputs, "launch": asdict(launch), **nodes, "monitor": monitored(cfg)}


def _dispatcher(cfg: DictConfig) -> Any:
    return build(OmegaConf.to_container(cfg.dispatch, resolve=True), "dispatch")  # type: ignore[arg-type]


def _launch_name(points: Sequence[Point]) -> str:
    labels = list(dict.fromkeys(point.label for point in points))
    return f"{len(points)} points: {'; '.join(labels)}" if len(points) > 1 else labels[0]


def _show(points: Sequence[Point], outcomes: Sequence[Outcome], store: StageStore) -> None:
    """Tables of stages (unless all were there already) and of results."""
    table.outcome_table([_row(outcome, store) for outcome in outcomes])
    table.result_table(
        [
            table.Point(point.label, point.seed, _metrics(point.chain[-1], store), _tested_on(point))
            for point in points
        ]
    )


def _tested_on(point: Point) -> str:
    """The column of the point; with the videos that take the place of its data set, in a rehearsal."""
    data = data_name(point.chain[-1].recipe["data"])
    return (
        point.column
        if data.lower() == point.column.lower() or not point.column
        else f"{point.column}: {data}"
    )


def _let_go(outcomes: Sequence[Outcome]) -> None:
    """Show what runs elsewhere from here on."""
    table.job_table(
        [
            table.StatusRow(o.spec.name, o.spec.key, describe(o.spec), o.status, o.reason, "", None)
            for o in outcomes
        ]
    )
    print("\nthe same command with mode=status shows how they stand, mode=cancel takes them back")


def _row(outcome: Outcome, store: StageStore) -> table.Outcome:
    spec = outcome.spec
    log = str(store.folder(spec) / "log.txt") if outcome.status == "failed" else None
    return table.Outcome(
        spec.name, spec.key, describe(spec), outcome.status, outcome.reason, log, outcome.seconds
    )


def _metrics(spec: StageSpec, store: StageStore) -> dict[str, float] | None:
    result = store.result(spec)
    return result["metrics"] if result else None
