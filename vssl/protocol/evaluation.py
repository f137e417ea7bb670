"""What a protocol measures: its metrics, what they rest on, and the facts that a reader has to know."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from torch import Tensor

from vssl.checks import Checked
from vssl.result import Metric


class EvalResult(NamedTuple):
    """Metrics of the test videos, and the arrays that they rest on, by the name that tells their shape."""

    metrics: dict[str, float]
    arrays: Mapping[str, Tensor]


class Evaluation(Checked, ABC):
    """Measures test videos. A frozen dataclass; another protocol is another subclass."""

    @property
    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """How tables, reports and trackers show the metrics, the headline first."""

    def facts(self) -> dict[str, Any]:
        """What a reader has to know beside the numbers: the values of the protocol."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, str | int | float | list)}
