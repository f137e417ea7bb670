"""PRP, playback rate perception: at which rate does the clip play, and what lies between its frames?

Source: Yao et al., Video Playback Rate Perception for Self-supervised Spatio-Temporal Representation Learning
(CVPR 2020), and the authors' released code. Otherwise than there:
- The rate is drawn among those that the video is long enough for (released: the video is replaced by another
  one, so that long videos are overrepresented at high rates), and every start is as likely.
- All videos train and the last weights stay, at a constant learning rate, the same for all layers (released:
  800 videos held out, a tenth of the rate where their loss stays, and ten times of it for the layer of the
  rates).
Users could not reproduce its fine-tuning with the released code and weights (issue 11 there, unanswered).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least, between
from vssl.errors import VsslError
from vssl.nn.maps import map_size
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task

LEAST, MOST = 0.8, 2.0
"""Weights of the pixels that change the least and the most."""

SHOWN = 4
"""Frames of each piece of the video from which its motion is seen."""


@dataclass(frozen=True)
class PRPSampler(ClipSampler):
    """A clip at twice the density that the network sees, and frames that tell where something moves.

    The network sees T frames, every s-th of a window of s T; s is 1, 2, 4, ... Row 0 has 2 T frames of the
    window at half that step, of which the network sees every second one; at rate 1 each frame stands twice.
    Row 1 has four frames, evenly spaced from the first to the last, of each T frames of the window (s
    pieces), filled up with the last one. Target: `rate`, log2 s, uniform over those with windows that fit.

    num_frames, num_rates: T, and how many values s has.
    """

    num_frames: int = field(metadata=at_least(SHOWN))
    num_rates: int = field(metadata=between(1, 8))

    def __post_init__(self) -> None:
        super().__post_init__()
        # The longest window has num_frames / 2 pieces at most: their frames have to fit into row 1.
        limit = int(np.log2(2 * self.num_frames / SHOWN)) + 1
        between(1, limit)["check"]("num_rates", self.num_rates)

    @property
    def classes(self) -> Mapping[str, int]:
        return {"rate": self.num_rates}

    @property
    def min_frames(self) -> int:
        return self.num_frames

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        rate = int(rng.integers(min(int(np.log2(num_frames / self.num_frames)), self.num_rates - 1) + 1))
        window_N = self._window(num_frames, 2**rate, rng)
        pieces = window_N.reshape(2**rate, self.num_frames)
        shown = np.linspace(0, self.num_frames - 1, SHOWN).astype(np.int64)
        motion = pieces[:, shown].reshape(-1)
        filled = np.pad(motion, (0, 2 * self.num_frames - len(motion)), mode="edge")
        dense = np.repeat(window_N, 2) if rate == 0 else window_N[:: 2 ** (rate - 1)]
        return ClipPlan(np.stack([dense, filled]), {"rate": rate})

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two clips of T frames, as the network sees them; where the video is long enough for it and
        `distinct` is asked for, at different rates. No source says how they are drawn for auxSKD."""
        fitting = min(int(np.log2(num_frames / self.num_frames)), self.num_rates - 1) + 1
        rates_2 = rng.choice(fitting, 2, replace=not distinct or fitting == 1)
        clips = [self._window(num_frames, 2**rate, rng)[:: 2**rate] for rate in rates_2.tolist()]
        return ClipPlan(np.stack(clips), {})

    def _window(self, num_frames: int, step: int, rng: np.random.Generator) -> NDArray[np.int64]:
        length = self.num_frames * step
        frames_N: NDArray[np.int64] = rng.integers(num_frames - length + 1) + np.arange(length)
        return frames_N


@dataclass(frozen=True)
class PRP(Task):
    """Classify the rate, and reconstruct the clip at twice its density, where something moves above all.

    reconstruction_weight, rate_weight: of the two losses.
    """

    sampler: PRPSampler
    reconstruction_weight: float = field(metadata=at_least(0))
    rate_weight: float = field(metadata=at_least(0))

    def objective(self, backbone: Backbone) -> Objective:
        return PRPObjective(backbone, self)

    def check_backbone(self, backbone: Backbone, side: int) -> None:
        drawn = tuple(16 * one for one in map_size(backbone, self.sampler.num_frames, side))
        if drawn != (wanted := (2 * self.sampler.num_frames, side, side)):
            problem = f"PRP draws {drawn} from the maps of {type(backbone).__name__}, not {wanted}"
            remedy = "choose a backbone whose map has an eighth of the frames and a sixteenth of the sides"
            raise VsslError(f"{problem}; {remedy}")

    def references(self) -> References:
        """The rates are equally frequent in videos that are long enough for all."""
        return {"rate_accuracy": {"chance": 1 / self.sampler.num_rates, "reachable": 1.0}}


class PRPObjective(Objective):
    """Two heads on the last feature map: one for the rate, and a decoder that gives pixels from 0 to 1 and
    more.

    The decoder doubles time, height and width four times: it takes maps of an eighth of the T frames and of a
    sixteenth of their sides.
    """

    def __init__(self, backbone: Backbone, task: PRP) -> None:
        super().__init__()
        self.task = task
        self.backbone = backbone
        width = backbone.feature_dim
        self.classify = _convolution(width, width)
        self.rate = nn.Linear(width, task.sampler.num_rates)
        widths = [width, width // 2, width // 4, width // 8]
        steps = [_doubled(before, after) for before, after in pairwise(widths)]
        self.decode = nn.Sequential(_convolution(width, width), *steps, _doubled(width // 8, 3))

    def forward(self, batch: Batch) -> StepOutput:
        """Augmentation must show both rows alike, and pixels from 0 to 1."""
        (dense_BCTHW, motion_BCTHW), rate_B = batch["clips"].unbind(1), batch["rate"]
        map_BDTHW = self.backbone.feature_map(dense_BCTHW[:, :, ::2])
        logits_BN = self.rate(self.classify(map_BDTHW).mean(dim=(2, 3, 4)))
        drawn_BCTHW = self.decode(map_BDTHW)
        weights_BCTHW = motion_weights(motion_BCTHW, rate_B, self.task.sampler)
        errors_BT = (weights_BCTHW * (drawn_BCTHW - dense_BCTHW).square()).mean(dim=(1, 3, 4))
        # At rate 1 there is nothing between the frames: every second one counts.
        even_T = torch.arange(errors_BT.shape[1], device=errors_BT.device) % 2 == 0
        counts_BT = (even_T | (rate_B[:, None] > 0)).to(errors_BT.dtype)
        reconstruction = ((errors_BT * counts_BT).sum(dim=1) / counts_BT.sum(dim=1)).mean()
        rate_loss = F.cross_entropy(logits_BN, rate_B)
        loss = self.task.reconstruction_weight * reconstruction + self.task.rate_weight * rate_loss
        metrics = {
            "reconstruction_loss": reconstruction.detach(),
            "rate_loss": rate_loss.detach(),
            "rate_accuracy": (logits_BN.argmax(dim=1) == rate_B).float().mean(),
        }
        return StepOutput(loss, metrics)


def _convolution(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(width, out, 3, padding=1), nn.BatchNorm3d(out), nn.ReLU(inplace=True))


def _doubled(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose3d(width, width, 2, stride=2), *_convolution(width, out))


@torch.no_grad()
def motion_weights(motion_BCTHW: Tensor, rate_B: Tensor, sampler: PRPSampler) -> Tensor:
    """Weights [B,C,2T,H,W] of the pixels, from the frames of row 1: those of each sample's own rate."""
    weights = motion_BCTHW
    for rate in range(sampler.num_rates):
        own_B1111 = (rate_B == rate)[:, None, None, None, None]
        weights = torch.where(own_B1111, _weights(motion_BCTHW, 2**rate, 2 * sampler.num_frames), weights)
    return weights


def _weights(motion_BCTHW: Tensor, pieces: int, frames: int) -> Tensor:
    """The same, if all samples have so many pieces.

    Squared differences of a piece's frames, averaged over its time and over a quarter of the sides in steps
    of a sixteenth; of each channel brought to LEAST..MOST, and resized. A piece without any change weighs 1.
    """
    side = motion_BCTHW.shape[-1]
    pieces_BPCTHW = torch.stack(motion_BCTHW[:, :, : pieces * SHOWN].chunk(pieces, dim=2), dim=1)
    changes_NCTHW = pieces_BPCTHW.flatten(0, 1).diff(dim=2).square()
    window, step = max(1, side // 4), max(1, side // 16)
    coarse = F.avg_pool3d(changes_NCTHW, (SHOWN - 1, window, window), (SHOWN - 1, step, step))
    least, most = coarse.amin(dim=(2, 3, 4), keepdim=True), coarse.amax(dim=(2, 3, 4), keepdim=True)
    scaled = (coarse - least + 1e-6) / (most - least + 1e-6) * (MOST - LEAST) + LEAST
    size = [frames // pieces, side, side]
    fine_NCTHW = F.interpolate(scaled, size, mode="trilinear", align_corners=False)
    is_still_N1111 = (changes_NCTHW == 0).flatten(1).all(dim=1)[:, None, None, None, None]
    fine_NCTHW = fine_NCTHW.masked_fill(is_still_N1111, 1.0)
    return torch.cat(fine_NCTHW.view(-1, pieces, *fine_NCTHW.shape[1:]).unbind(1), dim=2)
