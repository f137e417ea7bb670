"""Take a random part of the frames and resize it."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vssl.data.operations.crop import Crop, resize
from vssl.errors import OptionError

TRIES, ASPECT = 10, 4 / 3
"""A part is drawn this many times until one fits; its aspect is 3/4 to 4/3."""


@dataclass(frozen=True)
class RandomResizedCrop(Crop):
    """A random part of the frames as they were read, resized to `size` x `size`.

    area: smallest and largest share of the frame's area that the part may take.
    `resize` is used only without randomness, when this becomes a centre crop.
    """

    area: list[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] <= 1:
            remedy = "give two numbers above 0 and up to 1, the smaller one first, such as [0.4,1.0]"
            raise OptionError("area", self.area, "not a range of shares", remedy)

    @property
    def prepared_size(self) -> int:
        """The short side, the aspect kept: 256 for crops of 112, as RSPNet transcodes its videos."""
        return round(self.size * 16 / 7)

    @property
    def enlarges_below(self) -> float:
        """Short side of frames below which the smallest parts have fewer pixels than `size`."""
        return self.size / math.sqrt(self.area[0])

    def cut(self, frames_TCHW: Tensor, rng: np.random.Generator) -> Tensor:
        height, width = frames_TCHW.shape[-2:]
        rows, columns = random_region(height, width, self.area, rng)
        return resize(frames_TCHW[..., rows, columns], [self.size, self.size])


def random_region(
    height: int, width: int, area: list[float], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a random part of a frame.

    As in torchvision's RandomResizedCrop, the area is uniform and the aspect log-uniform. If no draw fits
    into the frame, the part is the largest one in the centre whose aspect is inside the limits.
    """
    frame_2 = np.array([height, width])
    areas = rng.uniform(area[0], area[1], TRIES) * height * width
    aspects = np.exp(rng.uniform(-math.log(ASPECT), math.log(ASPECT), TRIES))
    places_N2 = rng.random((TRIES, 2))
    sizes_N2 = np.rint(np.sqrt(np.stack([areas / aspects, areas * aspects], axis=1))).astype(int)
    fits_N = ((sizes_N2 >= 1) & (sizes_N2 <= frame_2)).all(axis=1)
    if fits_N.any():
        size_2, place_2 = sizes_N2[fits_N][0], places_N2[fits_N][0]
        corner_2 = (place_2 * (frame_2 - size_2 + 1)).astype(int)
    else:
        size_2 = np.minimum(frame_2, np.rint(frame_2[::-1] * ASPECT).astype(int))
        corner_2 = (frame_2 - size_2) // 2
    (top, left), (bottom, right) = corner_2, corner_2 + size_2
    return slice(top, bottom), slice(left, right)
