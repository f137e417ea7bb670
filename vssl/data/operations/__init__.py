"""The operations that an augmentation is made of, one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vssl.checks import SHARE, Checked


class Operation(Checked, ABC):
    """One step of an augmentation: a frozen dataclass that overrides what it needs.

    The loader calls `cut` and `draw` for every clip, and the device calls `apply` for a whole batch. How
    many numbers the first two take from `rng` must not depend on the values drawn, nor on the frames' size.
    """

    on_bytes: ClassVar[bool] = False
    """Whether `apply` accepts uint8 clips. Otherwise they are converted to float32 first."""

    def cut(self, frames_TCHW: Tensor, rng: np.random.Generator) -> Tensor:
        """Change the geometry of the uint8 frames of one clip, on the host."""
        return frames_TCHW

    def draw(self, num_frames: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw the numbers that `apply` needs for one clip of so many frames, by name."""
        return {}

    def apply(self, pixels_NCTHW: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Change the clips of a batch, on their device; N counts clips.

        pixels_NCTHW: RGB, grey levels 0..255; float32 ones may be changed in place.
        drawn: what `draw` returned for each clip, stacked to [N,...].
        Must not make the host wait for the device (no `.item()`, no branch on a value).
        """
        return pixels_NCTHW

    @abstractmethod
    def still(self) -> Operation | None:
        """The same operation without randomness; None if nothing is left of it."""


@dataclass(frozen=True)
class ForSomeClips(Operation):
    """Changes whole clips, each with the given probability, and without randomness none."""

    probability: float = field(metadata=SHARE)

    def draw(self, num_frames: int, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"chosen": torch.tensor(rng.random() < self.probability)}

    def apply(self, pixels_NCTHW: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        if not self.probability:
            return pixels_NCTHW
        return self.change(pixels_NCTHW, drawn["chosen"][:, None, None, None, None])

    @abstractmethod
    def change(self, pixels_NCTHW: Tensor, chosen_N1111: Tensor) -> Tensor:
        """Return the clips, those changed of which `chosen_N1111` (bool) is true."""

    def still(self) -> None:
        return None
