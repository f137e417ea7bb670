"""mode=run: run the forest of all points, then show what came of it."""

import logging
import shlex
import sys
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vssl import stop
from vssl.checks import make_folder
from vssl.commands.report import sweep_of
from vssl.context import open_context
from vssl.dispatch.states import states
from vssl.errors import VsslError
from vssl.pipeline import Point, merge
from vssl.preflight import preflight
from vssl.report import table
from vssl.report.collect import of_points
from vssl.report.course import Course
from vssl.stage.choice import candidates
from vssl.stage.context import Context, Outcome
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.tracking.metrics import Launch, Tracker


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Run what is not done yet; raise `VsslError` at the end if a stage failed."""
    outputs = Path(cfg.outputs)
    make_folder("outputs", outputs)
    stop.listen()
    _show_warnings()
    store = StageStore(outputs)
    ready = preflight(points, cfg, store)
    labels = list(dict.fromkeys(point.label for point in points))
    name = f"{len(points)} points: {'; '.join(labels)}" if len(points) > 1 else labels[0]
    launch = Launch(uuid.uuid4().hex, name, " ".join(["python", *sys.argv]))
    to_do = [spec for spec in ready.forest if store.result(spec) is None]
    course = Course(ready.forest, store, {spec: ready.stages[spec].clips for spec in to_do})
    print(f"{course.far().words}; {sum(course.clips.values()):,} clips to do")
    plain = {"outputs": cfg.outputs, "launch": asdict(launch), **ready.nodes}
    context, tracker = open_context(plain, course)
    tracker.claim(outputs / "launches")
    outcomes = run_forest(ready.dispatcher, ready.forest, context, tracker)
    if any(outcome.status in ("submitted", "queued") for outcome in outcomes):
        table.job_table(outcomes)
        print(f"\nhow they stand: {_again('mode=status', 'watch=true')}")
        print(f"take them back: {_again('mode=cancel')}")
        return
    table.outcome_table(outcomes, store)
    found = states(merge(point.chain for point in points), store, None)
    table.result_table(of_points(points, sweep_of(cfg), found))
    print(f"\nresults: {store.root}\ntracking: {tracker.where()}")
    if len(points) > 1 or "sweep" in cfg:
        print(f"report: {_again('mode=report')}")
    if failed := _failed(outcomes):
        skipped = sum(one.status == "skipped" for one in outcomes)
        raise VsslError(
            f"{failed} of {len(outcomes)} stages failed, {skipped} skipped; the reasons stand above, and the "
            "same command runs them again"
        )


def run_forest(
    dispatcher: Any, forest: Sequence[StageSpec], context: Context, tracker: Tracker
) -> list[Outcome]:
    """Run the forest. Always closes the tracker's launch, even on Ctrl-C."""
    ok = False
    try:
        outcomes: list[Outcome] = dispatcher.run(forest, context)
        for outcome in outcomes:
            if outcome.status == "reused":
                tracker.reuse(context.store.stage(outcome.spec).tracked({}))
        ok = not _failed(outcomes)
    finally:
        tracker.end(ok)
    return outcomes


def _again(*words: str) -> str:
    """The command of this launch with other words for its mode, as a shell takes it."""
    own = [word for word in sys.argv[1:] if not word.startswith("mode=")]
    return shlex.join(["python", "launch.py", *own, *words])


def _failed(outcomes: Sequence[Outcome]) -> int:
    """How many failed, but for candidates that have lost by it."""
    lost = candidates(one.spec for one in outcomes if one.status in ("done", "reused"))
    return sum(one.status == "failed" and one.spec not in lost for one in outcomes)


def _show_warnings() -> None:
    """Warnings go to the console too; errors end up in the table, and their tracebacks in the logs."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno == logging.WARNING)
    logging.getLogger("vssl").handlers = [handler]
    logging.getLogger("vssl").propagate = False
