"""Resize frames and take a square out of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from vssl.checks import at_least
from vssl.data.operations import Operation
from vssl.errors import OptionError, as_typed


@dataclass(frozen=True)
class Crop(Operation):
    """The operation that decides the size of the frames; every augmentation has exactly one.

    resize: height and width to which frames are resized; bilinear without antialiasing, as in OpenCV.
    size: side of the square crop, in pixels. All frames of a clip are cropped at the same place.
    """

    resize: list[int]
    size: int = field(metadata=at_least(1))

    on_bytes = True
    place: ClassVar[Literal["centre", "random"]] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.resize) != 2 or min(self.resize) < 1:
            raise OptionError("resize", self.resize, "not a size", "give [height,width], each 1 or more")
        if self.size > min(self.resize):
            problem = f"does not fit into resize={as_typed(self.resize)}"
            raise OptionError("size", self.size, problem, f"choose {min(self.resize)} or less")

    @property
    def prepared_size(self) -> int | list[int]:
        """The size of prepared videos, as `prepare.size` has it, by which the crops lose nothing."""
        return self.resize

    @abstractmethod
    def cut(self, frames_TCHW: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the crop of one clip, [T,C,size,size]."""

    def still(self) -> CenterCrop:
        """The centre crop of the same size."""
        return CenterCrop(self.resize, self.size)


@dataclass(frozen=True)
class CenterCrop(Crop):
    """The square in the centre of the resized frames."""

    place = "centre"

    def cut(self, frames_TCHW: Tensor, rng: np.random.Generator) -> Tensor:
        resized_TCHW = resize(frames_TCHW, self.resize)
        # Halves go to the even number, as in torchvision: at 128x171 a crop of 112 begins at column 30.
        top, left = (round((side - self.size) / 2) for side in resized_TCHW.shape[-2:])
        return resized_TCHW[..., top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class RandomCrop(Crop):
    """A square of the resized frames; every place is equally likely."""

    def cut(self, frames_TCHW: Tensor, rng: np.random.Generator) -> Tensor:
        resized_TCHW = resize(frames_TCHW, self.resize)
        top, left = rng.integers(np.array(resized_TCHW.shape[-2:]) - self.size + 1)
        return resized_TCHW[..., top : top + self.size, left : left + self.size]


def resize(frames_TCHW: Tensor, size: list[int]) -> Tensor:
    """Resize uint8 frames to [T,C,h,w]. Pixels are squares: the corners of the image keep their place.

    One surplus row or column is cut off instead: prepared videos of an odd size have it, because H.264 needs
    even sides.
    """
    height, width = size
    if frames_TCHW.shape[-2] - height in (0, 1) and frames_TCHW.shape[-1] - width in (0, 1):
        return frames_TCHW[..., :height, :width]
    return interpolate(frames_TCHW, list(size), mode="bilinear", align_corners=False, antialias=False)
