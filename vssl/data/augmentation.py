"""Augmentation in two halves: the loader draws numbers, the device applies them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from vssl.errors import VsslError
from vssl.types import Batch

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""Columns of `jitter` and values of `jitter_order`."""

IDENTITY = np.array([1, 1, 1, 0], np.float32)
"""Jitter factors that change nothing."""

TRIES, ASPECT = 10, 4 / 3
"""A random resized crop is drawn this many times until one fits; its aspect is 3/4 to 4/3."""

CACHED_VALUES = 2**20
"""A CPU jitters this many values at a time: they stay in its cache, which halves the time."""


@dataclass(frozen=True)
class Augmentation:
    """Resize, crop, flip, grey-scale, colour jitter and value range of clips.

    The recipe of auxSKD (paper, "Pretraining Stages"; magnitudes from its released code) stands in
    conf/augmentation/frame_jitter.yaml.

    resize: height and width that frames are resized to, bilinear without antialiasing as in OpenCV.
    crop: side of the square crop in pixels; one place per clip, random or the centre.
    crop_area: smallest and largest share of a frame's area for a random resized crop, which is taken
        from the frame as it is and then resized to `crop`, in place of `resize`; null: none.
    flip: probability of a horizontal flip of a clip.
    jitter_probability: probability that a frame (or a clip, see `jitter_per`) is jittered.
    brightness, contrast, saturation, hue: strengths, as in torchvision's ColorJitter.
    jitter_per: "frame": own factors and order for every frame; "clip": one set for all, and contrast
        turns about the mean of the clip.
    grey: probability that a clip loses its colours, before the jitter.
    pixel_max: what white becomes; mean, std: per channel, in these units.
    """

    resize: list[int]
    crop: int
    random_crop: bool
    crop_area: list[float] | None
    flip: float
    jitter_probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    jitter_per: Literal["frame", "clip"]
    grey: float
    pixel_max: float
    mean: list[float] | None
    std: list[float] | None

    def __post_init__(self) -> None:
        if self.crop > min(self.resize):
            raise VsslError(f"augmentation.crop={self.crop} does not fit into resize={list(self.resize)}")
        if self.crop_area is not None:
            _check_crop_area(self.crop_area, self.random_crop)
        if not 0 <= self.hue <= 0.5:
            raise VsslError(f"augmentation.hue={self.hue} is outside 0 to 0.5 (half a turn of the wheel)")
        if self.jitter_per not in ("frame", "clip"):
            raise VsslError(f"augmentation.jitter_per={self.jitter_per}: choose frame or clip")
        if (self.mean is None) != (self.std is None):
            raise VsslError("augmentation: give both of mean and std, or neither")

    @property
    def jitters(self) -> bool:
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return self.jitter_probability > 0 and any(strengths)

    def sample(self, frames_THWC: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Tensor]:
        """Resize and crop one clip, and draw what `apply` shall do to it.

        Returns `clip` uint8 [C,T,h,w]; `flip` and `grey` bool; `jitter` float32 [T,4], the factors of
        brightness, contrast, saturation and hue (1, 1, 1, 0 for a frame that stays as it is);
        `jitter_order` int64 [T,4], the order in which the four are applied. How many numbers are
        drawn depends on the configuration and T only.
        """
        clip_CTHW = self._crop(frames_THWC, rng)
        flip, grey = rng.random(2) < (self.flip, self.grey)
        jitter_T4, order_T4 = self._draw_jitter(len(frames_THWC), rng)
        return {
            "clip": clip_CTHW,
            "flip": torch.tensor(bool(flip)),
            "grey": torch.tensor(bool(grey)),
            "jitter": torch.from_numpy(jitter_T4),
            "jitter_order": torch.from_numpy(order_T4),
        }

    def _crop(self, frames_THWC: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        if self.crop_area is None:
            frames_TCHW = resize(frames_THWC, self.resize)
            room_2 = np.array(frames_TCHW.shape[-2:]) - self.crop
            top, left = rng.integers(room_2 + 1) if self.random_crop else room_2 // 2
            cropped_TCHW = frames_TCHW[:, :, top : top + self.crop, left : left + self.crop]
        else:
            height, width = frames_THWC.shape[1:3]
            rows, columns = random_region(height, width, self.crop_area, rng)
            cropped_TCHW = resize(frames_THWC[:, rows, columns], [self.crop, self.crop])
        return cropped_TCHW.transpose(0, 1).contiguous()

    def _draw_jitter(
        self, num_frames: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Factors [T,4] and orders [T,4] of one clip."""
        draws = num_frames if self.jitter_per == "frame" else 1
        factors = np.tile(IDENTITY, (draws, 1))
        order = np.tile(np.arange(4), (draws, 1))
        if self.jitters:
            strength = np.array([self.brightness, self.contrast, self.saturation, self.hue])
            drawn = rng.uniform(
                np.maximum(IDENTITY - strength, (0, 0, 0, -1)), IDENTITY + strength, (draws, 4)
            )
            jittered = rng.random((draws, 1)) < self.jitter_probability
            factors = np.where(jittered, drawn, factors).astype(np.float32)
            order = rng.permuted(order, axis=1)
        times = num_frames // draws
        return factors.repeat(times, axis=0), order.repeat(times, axis=0)

    def apply(self, batch: Batch) -> Tensor:
        """Return the clips of a batch as the network sees them, float32 [B,K,C,T,h,w].

        Runs on the device of the batch, over all frames at once, and never makes the host wait for it.
        Grey levels are whole numbers after every operation, as in PIL.
        """
        clips_BKCTHW = batch["clips"]
        pixels = _flip(clips_BKCTHW, batch["flip"]).flatten(0, 1).float()
        if self.grey:
            grey = batch["grey"].flatten()[:, None, None, None, None]
            pixels = torch.where(grey, _grey(pixels)[:, None], pixels)
        if self.jitters:
            self._jitter_clips(pixels, batch["jitter"].flatten(0, 1), batch["jitter_order"].flatten(0, 1))
        return self._scale(pixels).view_as(clips_BKCTHW)

    def _jitter_clips(self, pixels: Tensor, factors_NT4: Tensor, order_NT4: Tensor) -> None:
        on_cpu = pixels.device.type == "cpu"
        clips = max(1, CACHED_VALUES // pixels[0].numel()) if on_cpu else len(pixels)
        for start in range(0, len(pixels), clips):
            part = slice(start, start + clips)
            _jitter(pixels[part], factors_NT4[part], order_NT4[part], self.jitter_per == "clip")

    def _scale(self, pixels: Tensor) -> Tensor:
        if self.pixel_max != 255:
            pixels.mul_(self.pixel_max / 255)
        if self.mean is not None and self.std is not None:
            for channel, mean, std in zip(pixels.unbind(1), self.mean, self.std, strict=True):
                channel.sub_(mean).div_(std)
        return pixels


def random_region(
    height: int, width: int, area: list[float], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a random part of a frame.

    As torchvision's RandomResizedCrop: the area is uniform, the aspect log-uniform. If no draw fits into the
    frame, the part is the largest one in the centre with an aspect inside the limits.
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


def _check_crop_area(area: list[float], random_crop: bool) -> None:
    if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
        raise VsslError(f"augmentation.crop_area={list(area)}: give two shares, such as [0.4, 1.0], or null")
    if not random_crop:
        raise VsslError("augmentation.crop_area is a random crop: set random_crop=true, or crop_area=null")


def resize(frames_THWC: NDArray[np.uint8], size: list[int]) -> Tensor:
    """Frames as [T,C,h,w]. Pixels are squares: the corners of the image stay where they are.

    One row or column too many is cut off: prepared videos of an odd size have it, as they need even sides.
    """
    frames_TCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)
    height, width = size
    if frames_TCHW.shape[-2] - height in (0, 1) and frames_TCHW.shape[-1] - width in (0, 1):
        return frames_TCHW[..., :height, :width]
    return interpolate(frames_TCHW, list(size), mode="bilinear", align_corners=False, antialias=False)


# Below, `pixels` are clips [N,C,T,H,W] with grey levels 0..255 in float32, N = B*K, changed in place:
# fresh memory of this size costs more than the arithmetic on it.


def _jitter(pixels: Tensor, factors_NT4: Tensor, order_NT4: Tensor, over_clip: bool) -> None:
    """Apply the four operations to every frame, each with its own factors in its own order.

    Turning the hue is dear, the other three (blends) are cheap. So the hue of all frames is turned at
    once, between the blends that some frames want before it and those that others want after it.
    """
    blends_NT4 = factors_NT4.gather(-1, order_NT4)
    hue_passed_NT4 = (order_NT4 == HUE).cumsum(-1)
    before_NT4 = blends_NT4.where(hue_passed_NT4 == 0, 1.0)
    after_NT4 = blends_NT4.where((hue_passed_NT4 == 1) & (order_NT4 != HUE), 1.0)
    for step in (0, 1, 2):
        _blend(pixels, order_NT4[..., step], before_NT4[..., step], over_clip)
    _turn_hue(pixels, factors_NT4[..., HUE])
    for step in (1, 2, 3):
        _blend(pixels, order_NT4[..., step], after_NT4[..., step], over_clip)


def _blend(pixels: Tensor, operation_NT: Tensor, factor_NT: Tensor, over_clip: bool) -> None:
    """factor * pixels + (1 - factor) * reference, which is black for brightness, the mean grey level
    for contrast and the grey level of the pixel for saturation (as PIL's ImageEnhance does it)."""
    grey_NTHW = _grey(pixels)
    mean_NT = grey_NTHW.mean((1, 2, 3) if over_clip else (2, 3), keepdim=True).add_(0.5).floor_()
    operation, factor = operation_NT[..., None, None], factor_NT[..., None, None]
    saturation = (1 - factor) * (operation == SATURATION)
    contrast = (1 - factor) * (operation == CONTRAST)
    # float32 may end just below the whole number that is exact; floor would take the next lower one
    offset = contrast * mean_NT + 1e-3
    pixels.mul_(factor[:, None]).add_(grey_NTHW.mul_(saturation).add_(offset)[:, None])
    pixels.clamp_(0, 255).floor_()


def _flip(clips_BKCTHW: Tensor, flip_BK: Tensor) -> Tensor:
    """Mirror some of the clips of whole numbers; where() takes fifteen times as long on a CPU."""
    bits = flip_BK.to(torch.uint8).mul_(255)[..., None, None, None, None]
    return clips_BKCTHW.flip(-1).bitwise_xor_(clips_BKCTHW).bitwise_and_(bits).bitwise_xor_(clips_BKCTHW)


def _grey(pixels: Tensor) -> Tensor:
    """Grey levels [N,T,H,W] (ITU-R 601-2), rounded."""
    red, green, blue = pixels.unbind(1)
    return (green * 0.587).add_(red, alpha=0.299).add_(blue, alpha=0.114).add_(0.5).floor_()


def _turn_hue(pixels: Tensor, turns_NT: Tensor) -> None:
    """Move the hue by a share of the colour wheel; largest and smallest channel value stay (HSV)."""
    red, green, blue = pixels.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)
    sextants = chroma.clamp_min(1).mul_(6)
    hue = (red - green).div_(sextants).add_(2 / 3)
    # lerp_ with a weight of 0 or 1 chooses, as where() would in twice the time
    hue.lerp_((blue - red).div_(sextants).add_(1 / 3), (high == green).float())
    hue.lerp_((green - blue).div_(sextants), (high == red).float())
    hue.add_(turns_NT[..., None, None])
    for channel, opposite in enumerate((1 / 2, 5 / 6, 1 / 6)):
        # distance to the opposite colour, in turns: up to 1/6 the channel is low, from 1/3 on it is high
        distance = hue - opposite
        distance.sub_(distance.round()).abs_()
        pixels[:, channel] = high - distance.mul_(-6).add_(2).clamp_(0, 1).mul_(chroma)
    pixels.round_()
