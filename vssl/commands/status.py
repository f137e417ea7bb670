"""mode=status: how each stage stands. Trains nothing, writes nothing, imports neither torch nor MLflow."""

import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.cluster import Job, Slurm
from vssl.dispatch.states import State, states
from vssl.pipeline import Point, merge
from vssl.report.course import Course
from vssl.report.table import status_table
from vssl.report.watch import watch
from vssl.stage.choice import without_lost
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

SLURM_EVERY_S = 15.0
"""How often Slurm is asked at most: many users' tools ask it too."""


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Print a line for every stage, and totals; with `watch=true` once nothing can go on any more."""
    store = StageStore(Path(cfg.outputs))
    forest = without_lost(merge(point.chain for point in points), store)
    if not cfg.watch:
        status_table(states(forest, store, Slurm()))
        return
    try:
        status_table(follow(forest, store))
    except KeyboardInterrupt:  # the way to leave it; the stages go on
        print(Course(forest, store).far().words)


def follow(forest: Sequence[StageSpec], store: StageStore) -> list[State]:
    """Show how the stages stand until none can go on; return how they do then."""
    cluster, done = _Seldom(), dict[StageSpec, State]()

    def look() -> list[State]:
        left = [spec for spec in forest if spec not in done]
        parents = [spec.parent for spec in left if spec.parent]
        found = {one.spec: one for one in states(merge([parents, left]), store, cluster)}
        done.update({spec: one for spec, one in found.items() if one.status == "done"})
        return [done.get(spec) or found[spec] for spec in forest]

    return watch(look, Course(forest, store))


class _Seldom(Slurm):
    """A Slurm that is asked for its jobs now and then; in between they are what they were."""

    asked = float("-inf")

    def jobs(self) -> dict[str, Job]:
        if time.monotonic() - self.asked > SLURM_EVERY_S:
            self.known, self.asked = super().jobs(), time.monotonic()
        return self.known
