"""Change brightness, contrast, saturation and hue at random."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vssl.checks import SHARE, at_least, between
from vssl.data.operations import Operation
from vssl.data.operations.grey import grey_levels

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""Columns of `factors` and values of `order`."""

IDENTITY = np.array([1, 1, 1, 0], np.float32)
"""Factors that change nothing."""

CACHED_VALUES = 2**20
"""A CPU jitters this many values at a time: they stay in its cache, which halves the time."""


@dataclass(frozen=True)
class ColorJitter(Operation):
    """Colour jitter in the manner of torchvision's ColorJitter, in a random order of its four changes.

    Grey levels are whole numbers after every change, as in PIL. Deviation: hue is turned in float, where PIL
    rounds hue and saturation to 8 bits; the grey levels differ by 0.78 on average, by 17 at most.

    probability: of a frame (or of a clip, see `per`) to be jittered.
    brightness, contrast, saturation: factors are drawn from 1 - strength (0 at least) to 1 + strength.
    hue: the turn is drawn from -hue to hue, in shares of the colour wheel; at most half of it.
    per: "frame": own factors and order for every frame (auxSKD paper, "Pretraining Stages"); "clip": the same
        for all frames of a clip, where contrast changes about the mean of the whole clip (RSPNet).
    """

    probability: float = field(metadata=SHARE)
    brightness: float = field(metadata=at_least(0))
    contrast: float = field(metadata=at_least(0))
    saturation: float = field(metadata=at_least(0))
    hue: float = field(metadata=between(0, 0.5))
    per: Literal["frame", "clip"]

    @property
    def strengths(self) -> tuple[float, float, float, float]:
        """Brightness, contrast, saturation, hue."""
        return self.brightness, self.contrast, self.saturation, self.hue

    @property
    def jitters(self) -> bool:
        """Whether anything is ever changed. If not, nothing is drawn."""
        return self.probability > 0 and any(self.strengths)

    def draw(self, num_frames: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw how each frame of a clip is changed.

        Returns `factors` float32 [T,4] of brightness, contrast, saturation and hue, which are (1, 1, 1, 0)
        for a frame that stays the same, and `order` int64 [T,4], the order in which they apply.
        """
        if not self.jitters:
            return {}
        draws, strengths = num_frames if self.per == "frame" else 1, np.array(self.strengths)
        lowest = np.maximum(IDENTITY - strengths, (0, 0, 0, -1))
        factors = rng.uniform(lowest, IDENTITY + strengths, (draws, 4))
        jittered = rng.random((draws, 1)) < self.probability
        factors = np.where(jittered, factors, IDENTITY).astype(np.float32)
        order = rng.permuted(np.tile(np.arange(4), (draws, 1)), axis=1)
        drawn = {"factors": factors, "order": order}
        return {name: torch.from_numpy(v.repeat(num_frames // draws, axis=0)) for name, v in drawn.items()}

    def apply(self, pixels_NCTHW: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Jitter the clips in place."""
        if not self.jitters:
            return pixels_NCTHW
        on_cpu, num_clips = pixels_NCTHW.device.type == "cpu", len(pixels_NCTHW)
        at_once = max(1, CACHED_VALUES // pixels_NCTHW[0].numel()) if on_cpu else num_clips
        for start in range(0, num_clips, at_once):
            part = slice(start, start + at_once)
            _jitter(pixels_NCTHW[part], drawn["factors"][part], drawn["order"][part], self.per == "clip")
        return pixels_NCTHW

    def still(self) -> None:
        """Colours stay."""


# Below, `pixels` are clips [N,C,T,H,W] with grey levels 0..255 in float32, changed in place: allocating
# memory of this size takes longer than the arithmetic on it.


def _jitter(pixels: Tensor, factors_NT4: Tensor, order_NT4: Tensor, over_clip: bool) -> None:
    """Apply the four changes to every frame, each with its own factors in its own order.

    Turning the hue is slow, the other three (blends) are fast. So the hue of all frames is turned at once,
    between the blends that come before it in some frames and those that come after it in others.
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


def _blend(pixels: Tensor, change_NT: Tensor, factor_NT: Tensor, over_clip: bool) -> None:
    """Compute factor * pixels + (1 - factor) * reference, as PIL's ImageEnhance does.

    The reference is black for brightness, the mean grey level for contrast, and the grey level of the pixel
    for saturation.
    """
    grey_NTHW = grey_levels(pixels)
    mean_NT = grey_NTHW.mean((1, 2, 3) if over_clip else (2, 3), keepdim=True).add_(0.5).floor_()
    change, factor = change_NT[..., None, None], factor_NT[..., None, None]
    saturation = (1 - factor) * (change == SATURATION)
    contrast = (1 - factor) * (change == CONTRAST)
    # float32 may end just below the exact whole number, and floor would take the next lower one
    offset = contrast * mean_NT + 1e-3
    pixels.mul_(factor[:, None]).add_(grey_NTHW.mul_(saturation).add_(offset)[:, None])
    pixels.clamp_(0, 255).floor_()


def _turn_hue(pixels: Tensor, turns_NT: Tensor) -> None:
    """Move the hue by a share of the colour wheel; the largest and smallest channel values stay (HSV)."""
    red, green, blue = pixels.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)
    sextants = chroma.clamp_min(1).mul_(6)
    hue = (red - green).div_(sextants).add_(2 / 3)
    # lerp_ with a weight of 0 or 1 selects like where(), in half the time
    hue.lerp_((blue - red).div_(sextants).add_(1 / 3), (high == green).float())
    hue.lerp_((green - blue).div_(sextants), (high == red).float())
    hue.add_(turns_NT[..., None, None])
    for channel, opposite in enumerate((1 / 2, 5 / 6, 1 / 6)):
        # distance to the opposite colour, in turns: up to 1/6 the channel is low, from 1/3 on it is high
        distance = hue - opposite
        distance.sub_(distance.round()).abs_()
        pixels[:, channel] = high - distance.mul_(-6).add_(2).clamp_(0, 1).mul_(chroma)
    pixels.round_()
