"""What a stage tells while it runs, and to whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vssl.data.augmentation import Augmentation
from vssl.data.dataset import Sample
from vssl.engine.loop import Callback

Status = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Preview:
    """Some of the samples that a training sees in its first epoch, and what it makes of them."""

    title: str
    clip_names: Sequence[str]
    samples: Sequence[Sample]
    augmentation: Augmentation


class Picture(NamedTuple):
    """A frame [H,W,C] of a video (uint8), the name of its class, and whether it is right; None: a query."""

    frame_HWC: NDArray[np.uint8]
    caption: str
    right: bool | None


@dataclass(frozen=True)
class NeighbourSheet:
    """Some queries, each with its nearest neighbours, nearest first."""

    title: str
    rows: Sequence[Sequence[Picture]]


class StageCallback(Callback, Protocol):
    """A callback that is also shown pictures' worth of data, and told how the stage ended."""

    def show(self, what: Preview | NeighbourSheet) -> None:
        """Something to look at."""

    def close(self, status: Status) -> None:
        """The stage has ended, or is left for later; nothing follows."""


class Silent:
    """Callback of the processes that keep no record."""

    def log(self, *args: Any, **shown: Any) -> None:
        """Do nothing."""

    begin = advance = show = close = log
