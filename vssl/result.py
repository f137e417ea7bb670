"""What a finished stage says: its metrics and how to show them, its protocol, its cost. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vssl.words import MINUS, NONE, number

References = Mapping[str, Mapping[str, float]]
"""What to read a metric against, by its name: values by what they are, such as `chance`, what guessing comes
to, and `reachable`, the best that the targets allow."""


@dataclass(frozen=True)
class Metric:
    """A number that a protocol reports, and how people are shown it.

    name: in result.json. label: in tables. headline: the number that a table compares, with its deviation
    over the seeds. percent: a share of 1 that is shown in percent; other numbers are shown as they are.
    """

    name: str
    label: str
    headline: bool = False
    larger_is_better: bool = True
    percent: bool = True

    @property
    def unit(self) -> str:
        """What follows a number in a sentence."""
        return " %" if self.percent else ""

    def scaled(self, value: float) -> float:
        """A value as it is shown."""
        return 100 * value if self.percent else value

    def words(self, scaled: float) -> str:
        """A value that is scaled already, as text: one decimal of percent, else three digits."""
        return f"{scaled:.1f}" if self.percent else number(scaled)

    def signed(self, scaled: float) -> str:
        """The same with its sign."""
        return f"{MINUS if scaled < 0 else '+'}{self.words(abs(scaled))}"

    def between(self, ends: tuple[float, float] | None) -> str:
        """The ends of an interval, as text; a dash for None."""
        if ends is None:
            return NONE
        low, high = (f"{MINUS if end < 0 else ''}{self.words(abs(end))}" for end in ends)
        return f"[{low}, {high}]"


@dataclass(frozen=True)
class Cost:
    """What a stage took, on one process or on all of its processes together.

    `seconds` of wall time; in `waiting_seconds` of them a batch was waited for (a GPU may still have
    computed), `monitor_seconds` went into the monitor, and `inherited_seconds` were spent by the shorter
    training that this one continues. `loader_seconds`: processor time of all loader processes. `gpus`: 0 on
    a CPU. `peak_memory_bytes`: the most that tensors took on one GPU; on a CPU, that the process has ever
    taken. `energy_joules`: of the GPUs; None where there is no meter. `videos` and `clips` that were seen, as
    often as they were seen, and `steps` of a training.
    """

    seconds: float
    waiting_seconds: float = 0.0
    loader_seconds: float = 0.0
    gpus: int = 0
    peak_memory_bytes: int = 0
    energy_joules: float | None = None
    monitor_seconds: float = 0.0
    inherited_seconds: float = 0.0
    videos: int = 0
    clips: int = 0
    steps: int = 0

    @property
    def own(self) -> "Cost":
        """The same without the time of the training that was continued."""
        return replace(self, seconds=self.seconds - self.inherited_seconds, inherited_seconds=0.0)

    @property
    def gpu_hours(self) -> float:
        """Hours of wall time, times the GPUs."""
        return self.seconds * self.gpus / 3600

    @property
    def cpu_hours(self) -> float:
        """Hours of wall time of a stage without a GPU; 0 for one that had any."""
        return 0.0 if self.gpus else self.seconds / 3600


@dataclass(frozen=True)
class StageResult:
    """What `result.json` holds of a finished stage.

    metrics: of the test videos; none of a training. declared: how these are shown, the headline first.
    protocol: what a reader has to know beside the numbers. provenance: code, libraries, machine.
    references: what to read the metrics of the training against. bad_videos: those that were replaced.
    """

    metrics: Mapping[str, float]
    protocol: Mapping[str, Any]
    cost: Cost
    provenance: Mapping[str, Any]
    declared: Sequence[Metric] = ()
    references: References = field(default_factory=dict)
    bad_videos: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> Metric | None:
        """The metric that a table compares: the first one if none is marked."""
        return next((metric for metric in self.declared if metric.headline), next(iter(self.declared), None))

    @property
    def reached(self) -> str:
        """The headline in words, or ""."""
        if (metric := self.headline) is None or metric.name not in self.metrics:
            return ""
        return f"{metric.label} {metric.words(metric.scaled(self.metrics[metric.name]))}{metric.unit}"

    def to_plain(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "StageResult":
        """The result that `to_plain` wrote."""
        declared = [Metric(**metric) for metric in plain["declared"]]
        return cls(**{**plain, "cost": Cost(**plain["cost"]), "declared": declared})
