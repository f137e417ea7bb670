"""What a sweeper that tunes values is told of a point: the headline of a test on held-out training videos.

A point that is tested on the test set is refused: values that are chosen by it fit it. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from vssl.errors import VsslError
from vssl.pipeline import Point, merge, plan
from vssl.result import Metric
from vssl.stage.store import StageStore

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELD_OUT = ("protocol.tested_on", "downstream.validation", "downstream.test.subset")
"""Options with which training videos take the place of the test set."""


@dataclass(frozen=True)
class Reached:
    """What points reached on average, by which metric.

    Both are None of points that are not done, and, if one `diverged`, of those whose loss became no number.
    """

    value: float | None = None
    metric: Metric | None = None
    diverged: bool = False

    @property
    def is_known(self) -> bool:
        """Whether nothing has to be run to know it."""
        return self.value is not None or self.diverged

    @property
    def score(self) -> float | None:
        """The value, the larger the better."""
        smaller = self.metric and not self.metric.larger_is_better
        return -self.value if self.value is not None and smaller else self.value

    @property
    def words(self) -> str:
        """The value as it is shown."""
        if self.metric is None or self.value is None:
            return "diverged" if self.diverged else "not done"
        return f"{self.metric.words(self.metric.scaled(self.value))}{self.metric.unit}"


def points_of(composed: Sequence[tuple[DictConfig, list[str]]]) -> list[Point]:
    """The points to tune by. Raises `VsslError` for one that is tested on the test set."""
    from vssl.commands import check_configs, planned

    check_configs([cfg for cfg, _ in composed])
    points = planned(composed, plan)
    for point in points:
        if not any(spec.recipe.is_held_out for spec in point.chain):
            raise VsslError(
                "hydra/sweeper: values would be chosen by the test set; say protocol.tested_on=held_out "
                "protocol.held_out=0.25 to choose them by a quarter of the training videos"
            )
    return points


def wait_for(points: Sequence[Point]) -> None:
    """Show how the stages of these points stand until none can go on, where they run on a cluster."""
    from vssl.commands.status import follow

    if not reached(*points).is_known:
        follow(merge(point.chain for point in points), StageStore(Path(points[0].cfg.outputs)))


def reached(*points: Point) -> Reached:
    """What these points reached, as far as the store knows."""
    found = [_of_point(point) for point in points]
    values = [one.value for one in found if one.value is not None]
    if len(values) == len(found):
        return Reached(mean(values), found[0].metric)
    return Reached(diverged=any(one.diverged for one in found))


def _of_point(point: Point) -> Reached:
    store = StageStore(Path(point.cfg.outputs))
    test = store.result(point.chain[-1])
    if test is not None and (metric := test.headline) is not None:
        return Reached(test.metrics[metric.name], metric)
    notes = [store.note(spec, "failed.json") for spec in point.chain]
    return Reached(diverged=any(note and note.get("diverged") for note in notes))
