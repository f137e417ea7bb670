"""Augmentation in two halves: the loader draws numbers, the device applies them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vssl.checks import check_above_0
from vssl.data.operations import Operation
from vssl.data.operations.crop import Crop
from vssl.errors import OptionError
from vssl.types import Batch


class Augmentation:
    """Operations on clips, in their order, and the range of values that the network sees.

    pixel_max: the value of white; black is 0.
    mean, std: subtracted and divided by, one number per channel in units of `pixel_max`; null: neither.
    operations: by name; null leaves one out. One of them is a `Crop`, which decides the size of the frames.

    A new operation needs no more than its own file:
    `+pretext.augmentation.blur={_target_: vssl.data.operations.blur.Blur, sigma: 1}`.
    """

    def __init__(
        self,
        pixel_max: float,
        mean: list[float] | None,
        std: list[float] | None,
        **operations: Operation | None,
    ) -> None:
        check_above_0("pixel_max", pixel_max)
        _check_mean_and_std(mean, std)
        self.pixel_max, self.mean, self.std = pixel_max, mean, std
        self.operations = {name: one for name, one in operations.items() if one is not None}
        self.crop = _only_crop(self.operations)

    def without_randomness(self) -> Augmentation:
        """The same size of frames and range of values, with nothing random."""
        still = {name: operation.still() for name, operation in self.operations.items()}
        return Augmentation(self.pixel_max, self.mean, self.std, **still)

    def sample(self, frames_THWC: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Tensor]:
        """Cut one clip out of its frames, and draw the numbers for `apply`.

        Returns `clip` uint8 [C,T,h,w], and each number that an operation drew as `operation.number`, such as
        `jitter.factors`. How many are drawn depends on the configuration and on T only.
        """
        frames_TCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)
        numbers = {}
        for name, operation in self.operations.items():
            frames_TCHW = operation.cut(frames_TCHW, rng)
            drawn = operation.draw(len(frames_TCHW), rng)
            numbers.update({f"{name}.{number}": value for number, value in drawn.items()})
        return {"clip": frames_TCHW.transpose(0, 1).contiguous(), **numbers}

    def apply(self, batch: Batch) -> Tensor:
        """Return the clips of a batch as the network sees them, float32 [B,K,C,T,h,w].

        Runs on the device of the batch, over all frames at once, and never makes the host wait for it.
        """
        clips_BKCTHW = batch["clips"]
        pixels_NCTHW = clips_BKCTHW.flatten(0, 1)
        for name, operation in self.operations.items():
            if not operation.on_bytes:
                pixels_NCTHW = pixels_NCTHW.float()
            pixels_NCTHW = operation.apply(pixels_NCTHW, _drawn(name, batch))
        pixels_NCTHW = self._scale(pixels_NCTHW.float())
        return pixels_NCTHW.view(*clips_BKCTHW.shape[:2], *pixels_NCTHW.shape[1:])

    def _scale(self, pixels_NCTHW: Tensor) -> Tensor:
        if self.pixel_max != 255:
            pixels_NCTHW.mul_(self.pixel_max / 255)
        if self.mean is not None and self.std is not None:
            for channel, mean, std in zip(pixels_NCTHW.unbind(1), self.mean, self.std, strict=True):
                channel.sub_(mean).div_(std)
        return pixels_NCTHW

    def to_grey_levels(self, clips_BKCTHW: Tensor) -> Tensor:
        """Undo the range of values: what `apply` returned, as uint8 from 0 to 255."""
        if self.mean is not None and self.std is not None:
            mean_C111, std_C111 = clips_BKCTHW.new_tensor([self.mean, self.std])[..., None, None, None]
            clips_BKCTHW = clips_BKCTHW * std_C111 + mean_C111
        return (clips_BKCTHW * (255 / self.pixel_max)).round().clamp(0, 255).byte()


def _drawn(operation: str, batch: Batch) -> dict[str, Tensor]:
    """The numbers that an operation drew for the clips of a batch, [N,...] by name."""
    prefix = f"{operation}."
    own = [name for name in batch if name.startswith(prefix)]
    return {name.removeprefix(prefix): batch[name].flatten(0, 1) for name in own}


def _check_mean_and_std(mean: list[float] | None, std: list[float] | None) -> None:
    for name, value in {"mean": mean, "std": std}.items():
        if value is not None and len(value) != 3:
            raise OptionError(name, value, "not one number per channel", "give three: [red,green,blue]")
    if (mean is None) != (std is None):
        absent = "mean" if mean is None else "std"
        raise OptionError(absent, None, "mean and std go together", "give three numbers, or set both to null")
    if std is not None and min(std) <= 0:
        raise OptionError("std", std, "too small", "choose numbers above 0")


def _only_crop(operations: Mapping[str, Operation]) -> Crop:
    crops = {name: one for name, one in operations.items() if isinstance(one, Crop)}
    if not crops:
        remedy = "give the node of one, such as vssl.data.operations.crop.CenterCrop"
        raise OptionError("crop", None, "no crop decides the size of the frames", remedy)
    first, *others = crops
    for name in others:
        kind = type(crops[name]).__name__
        raise OptionError(name, kind, f"a second crop beside {first}", f"set {name}=null or {first}=null")
    return crops[first]
