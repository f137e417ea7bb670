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

    def sample_clips(self, frames_KTHWC: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Tensor]:
        """Do so with all clips of a sample, first clip 0: `clips` uint8 [K,C,T,h,w], and numbers [K,...]."""
        clips = [self.sample(frames_THWC, rng) for frames_THWC in frames_KTHWC]
        # stack() copies into contiguous memory: strided clips pick other convolution kernels, and so
        # other weights, than those that a loader process has sent.
        tensors = {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}
        return {"clips": tensors.pop("clip"), **tensors}

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


class Views(Augmentation):
    """An augmentation for each clip of a sample, such as a strong one for a student and a weak one for a
    teacher.

    views: by name, in the order of the clips. The first one stands for all where nothing is random.
    Raises `OptionError` for views of another size or range of values.
    """

    def __init__(self, **views: Augmentation) -> None:
        first = next(iter(views.values()))
        super().__init__(first.pixel_max, first.mean, first.std, **first.operations)
        self.views = views
        for name, view in views.items():
            for part in ("pixel_max", "mean", "std"):
                if getattr(view, part) != getattr(first, part):
                    problem = f"{next(iter(views))} has {getattr(first, part)}"
                    raise OptionError(f"{name}.{part}", getattr(view, part), problem, "give both the same")
            if view.crop.size != first.crop.size:
                problem = f"{next(iter(views))} has {first.crop.size}"
                raise OptionError(f"{name}.crop.size", view.crop.size, problem, "give both the same")

    def sample_clips(self, frames_KTHWC: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Tensor]:
        if len(frames_KTHWC) != len(self.views):
            problem = f"{len(self.views)} views, and {len(frames_KTHWC)} clips of a sample"
            raise OptionError("augmentation", ",".join(self.views), problem, "give one for each clip")
        pairs = zip(self.views.items(), frames_KTHWC, strict=True)
        drawn = {name: view.sample(frames_THWC, rng) for (name, view), frames_THWC in pairs}
        clips = torch.stack([one.pop("clip") for one in drawn.values()])
        numbers = {f"{name}.{key}": value[None] for name, one in drawn.items() for key, value in one.items()}
        return {"clips": clips, **numbers}

    def apply(self, batch: Batch) -> Tensor:
        seen = []
        for number, (name, view) in enumerate(self.views.items()):
            own = {
                key.removeprefix(f"{name}."): value
                for key, value in batch.items()
                if key.startswith(f"{name}.")
            }
            seen.append(view.apply({**own, "clips": batch["clips"][:, number : number + 1]}))
        return torch.cat(seen, dim=1)


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
