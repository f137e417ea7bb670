"""How far a forest of stages is, from what lies in the store: stages, clips, the time that is left."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vssl.result import StageResult
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.words import duration

FRESH_S = 60.0
"""Whoever noted their progress so many seconds ago still works."""

Kind = tuple[str, str]
"""What stages have the same speed by: their name, and the class of their task."""


@dataclass(frozen=True)
class Far:
    """How far a forest is. share: of all clips; seconds: left at the speed so far; None: not known yet."""

    done: int
    total: int
    reused: int
    share: float | None
    seconds: float | None

    @property
    def words(self) -> str:
        """All of it in a line."""
        reused = f" ({self.reused} reused)" if self.reused else ""
        parts = [f"{self.done} of {self.total} stages done{reused}"]
        parts += [] if self.share is None else [f"{int(100 * self.share)}% of the clips"]
        left = "?" if self.seconds is None else duration(self.seconds)
        return ", ".join([*parts, *([f"ETA {left}"] if self.done < self.total else [])])


class Course:
    """The course of a forest.

    `clips` of each stage that a launch is to run, which reuses the others; without them as other stages have
    them for each video, and nothing is reused. It looks at results and notes alone: at no lock, so that the
    owner of a stage may ask too.
    """

    def __init__(
        self, forest: Sequence[StageSpec], store: StageStore, clips: Mapping[StageSpec, int] | None = None
    ) -> None:
        self.forest, self.store, self.clips = forest, store, clips or {}
        self.results: dict[StageSpec, StageResult] = {}
        self._look()
        self.reused = 0 if clips is None else len(self.results)

    def far(self) -> Far:
        """How far it is now."""
        notes = self._look()
        totals = self._totals(notes)
        done = {spec: totals.get(spec, 0.0) for spec in self.results}
        done |= {spec: note["done"] for spec, note in notes.items()}
        share = seconds = None
        if len(totals) == len(self.forest):
            share = sum(done.values()) / max(1.0, sum(totals.values()))
            left = {spec: totals[spec] - done.get(spec, 0.0) for spec in self.forest}
            seconds = self._seconds(left, notes)
        return Far(len(self.results), len(self.forest), self.reused, share, seconds)

    def _look(self) -> dict[StageSpec, Mapping[str, float]]:
        """Read what is new; return the notes of stages that have begun and are not done."""
        notes: dict[StageSpec, Mapping[str, float]] = {}
        for spec in self.forest:
            if spec in self.results:
                continue
            if (result := self.store.result(spec)) is not None:
                self.results[spec] = result
            elif (note := self.store.note(spec, "progress.json")) is not None:
                notes[spec] = note
        return notes

    def _totals(self, notes: Mapping[StageSpec, Mapping[str, float]]) -> dict[StageSpec, float]:
        """Clips of every stage of which that can be said."""
        known: dict[StageSpec, float] = dict(self.clips)
        known |= {spec: note["total"] for spec, note in notes.items()}
        known |= {spec: result.cost.clips for spec, result in self.results.items()}
        each = {_kind(spec): clips / _samples(spec) for spec, clips in known.items()}
        likely = {spec: each[_kind(spec)] * _samples(spec) for spec in self.forest if _kind(spec) in each}
        return {**likely, **{spec: known[spec] for spec in self.forest if spec in known}}

    def _seconds(
        self, left: Mapping[StageSpec, float], notes: Mapping[StageSpec, Mapping[str, float]]
    ) -> float | None:
        """The time for these clips, as fast as stages of each kind have been, as many at once as now."""
        speeds = self._speeds(notes)
        if not speeds:
            return None
        mean = len(speeds) / sum(1 / speed for speed in speeds.values())
        seconds = {spec: clips / speeds.get(_kind(spec), mean) for spec, clips in left.items()}
        active = [spec for spec, note in notes.items() if time.time() - note["time"] < FRESH_S]
        longest = max((seconds[spec] for spec in active), default=0.0)
        return max(longest, sum(seconds.values()) / max(1, len(active)))

    def _speeds(self, notes: Mapping[StageSpec, Mapping[str, float]]) -> dict[Kind, float]:
        """Clips per second of each kind; of what runs now where nothing of the kind is done."""
        running = {_kind(spec): note["rate"] for spec, note in notes.items() if note["rate"]}
        sums: dict[Kind, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for spec, result in self.results.items():
            sums[_kind(spec)][0] += result.cost.clips
            sums[_kind(spec)][1] += result.cost.seconds
        return running | {kind: clips / s for kind, (clips, s) in sums.items() if clips and s}


def _kind(spec: StageSpec) -> Kind:
    return spec.name, str(spec.recipe.task["_target_"])


def _samples(spec: StageSpec) -> float:
    """Samples of all epochs, more or less."""
    epochs = spec.recipe.epochs if spec.recipe.training else 1
    repeat: int = spec.recipe.data.get("repeat", 1)
    return max(1.0, spec.recipe.num_videos * repeat * epochs)
