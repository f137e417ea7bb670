"""CtP, catch the patch: where does the patch go that was pasted into the clip?

Source: Wang et al., Unsupervised Visual Representation Learning by Tracking Patches in Video (CVPR 2021), and
the authors' released code. Otherwise than there:
- Colours change by the same factors in all frames of a clip (released: brightness and contrast drift over
  time).
- Crops are of frames of one size (released: of short sides of 112, 128 or 144).
- Sizes and ways are in shares of the frame's side, and so the same at the published 112 pixels.
The published nets keep the map of the last stage as large as the one before, and have an epsilon of 1e-3 in
batch
norm: backbone=r3d_18 backbone.last_spatial_stride=1 backbone.bn_eps=1e-3. Their R(2+1)D-18 is another net.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vssl.checks import at_least
from vssl.compat.torch_private import without_compiler
from vssl.errors import VsslError
from vssl.nn.frames import keep_inside
from vssl.nn.maps import map_size
from vssl.result import References
from vssl.types import Backbone, Batch, ClipPlan, ClipSampler, Objective, StepOutput, Task

with without_compiler():
    from torchvision.ops import roi_align

Floats = NDArray[np.float64]

SIDE = 112
"""Pixels in which the numbers below count."""

SCALES = (16, 24, 28, 32, 48, 64)
ASPECTS = (0.5, 0.67, 0.75, 1, 1.33, 1.5, 2)
STRETCH = 0.18
"""A patch is scale sqrt(aspect) wide and scale / sqrt(aspect) high, each times e to the power of
+-STRETCH."""

WAY, GROWTH = 3.0, 0.025
"""The most that the centre moves in a frame, along each axis, and the logarithm of the most that a side
grows."""

KEY_FRAMES = (0.5, 0.3, 0.2)
"""Probabilities of 0, 1 and 2 key frames between the first and the last one."""

PACES = (0.7, 0.15, 0.15)
"""Of an even pace, of one that rises, and of one that falls between two key frames."""

SHAPES = (0.5, 0.35, 0.15)
"""Of rectangles, ellipses and rhombuses."""

SOFT, SHOWN = 0.5, 0.8
"""Probabilities of a soft edge, and of each frame to show the patch."""

UNIT_CENTRE, UNIT_SIZE = 0.8, 0.04
"""What targets are divided by: pixels of the way, and logarithms of the growth."""

POOLED = 5
"""Height and width to which the map below a patch is brought."""

PARTS = {"centre": slice(0, 2), "size": slice(2, 4)}
"""Which of the four numbers of a frame are the way and the growth."""

DEPTH = 2
"""Time steps of the map that are put together."""


@dataclass(frozen=True)
class CTPSampler(ClipSampler):
    """A clip with frames at uneven distances, into which `edit` pastes patches that move.

    The stride s is uniform in 1..max_stride; frame i is start + i s and up to s-1 more, each its own. A video
    that is too short repeats its last frame. No targets but the boxes that `edit` adds.
    """

    num_frames: int = field(metadata=at_least(4))
    max_stride: int = field(metadata=at_least(1))
    num_patches: int = field(metadata=at_least(1))

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        stride = int(rng.integers(1, self.max_stride + 1))
        start = rng.integers(max(0, num_frames - (self.num_frames - 1) * stride - 1) + 1)
        frames_T = start + stride * np.arange(self.num_frames) + rng.integers(stride, size=self.num_frames)
        return ClipPlan(keep_inside(frames_T[None], num_frames, "repeat_last"), {})

    def pair(self, num_frames: int, rng: np.random.Generator, distinct: bool) -> ClipPlan:
        """Choose two independent clips, which get no patches. No source says how they are drawn for
        auxSKD."""
        clips = [self.plan(num_frames, rng).frames_KT for _ in range(2)]
        return ClipPlan(np.concatenate(clips), {})

    def edit(self, clips_KCTHW: Tensor, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Paste the patches. Adds `boxes`, float32 [K,P,T,4]: left, top, right and bottom in pixels."""
        frames, side = clips_KCTHW.shape[2], clips_KCTHW.shape[-1]
        boxes_KPT4, edited = [], []
        for clip_CTHW in clips_KCTHW:
            tracks = [draw_track(frames, side, rng) for _ in range(self.num_patches)]
            pixels_CTHW = clip_CTHW.float()
            tracks.sort(key=mean_area, reverse=True)  # so that larger ones do not cover the others
            for boxes_T4 in tracks:
                pixels_CTHW = paste(pixels_CTHW, boxes_T4, rng)
            edited.append(pixels_CTHW.round().to(clip_CTHW.dtype))
            boxes_KPT4.append(np.stack(tracks))
        return torch.stack(edited), {"boxes": torch.from_numpy(np.stack(boxes_KPT4)).float()}


def draw_track(frames: int, side: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Boxes [T,4] of one patch: left, top, right and bottom, in whole pixels of frames of `side`."""
    unit = side / SIDE
    aspect = np.sqrt(rng.choice(ASPECTS))
    size_2 = unit * rng.choice(SCALES) * np.array([aspect, 1 / aspect])
    size_2 = (size_2 * np.exp(rng.uniform(-STRETCH, STRETCH, 2))).clip(1, side - 1)
    centre_2 = size_2 / 2 + rng.uniform(0, side - size_2)
    keys, centres = draw_keys(frames, rng), [centre_2]
    for gap in np.diff(keys):
        moved_2 = centres[-1] + rng.uniform(-WAY, WAY, 2) * gap * unit
        centres.append(moved_2.clip(size_2 / 2, side - size_2 / 2))
    centre_T2 = between(keys, np.stack(centres), rng)
    keys, sizes = draw_keys(frames, rng), [size_2]
    for gap in np.diff(keys):
        sizes.append(sizes[-1] * np.exp(rng.uniform(-GROWTH, GROWTH, 2) * gap))
    size_T2 = between(keys, np.stack(sizes), rng)
    first_T2 = np.rint(centre_T2 - size_T2 / 2).clip(0, side - 1)
    last_T2 = np.rint(centre_T2 + size_T2 / 2).clip(first_T2 + 1, side)
    return np.concatenate([first_T2, last_T2], axis=1).astype(np.int64)


def mean_area(boxes_T4: NDArray[np.int64]) -> float:
    """Pixels that a patch covers, on average."""
    return float(np.prod(boxes_T4[:, 2:] - boxes_T4[:, :2], axis=1).mean())


def draw_keys(frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Key frames: the first, the last, and at most two between them, near where they part the clip evenly."""
    inner = int(rng.choice(len(KEY_FRAMES), p=KEY_FRAMES))
    around = frames // (inner + 1) // 3  # 0 of short clips, whose key frames part them evenly
    moved = [int(rng.integers(-around, around)) if around else 0 for _ in range(inner)]
    ticks = [frames * (n + 1) // (inner + 1) + moved[n] for n in range(inner)]
    return np.array([0, *ticks, frames - 1])


def between(keys_N: NDArray[np.int64], values_NC: Floats, rng: np.random.Generator) -> Floats:
    """Values [T,C] of all frames, from those at the key frames."""
    values_TC = values_NC[:1]
    for n, gap in enumerate(np.diff(keys_N)):
        share_G = np.arange(1, gap + 1) / gap
        pace = int(rng.choice(len(PACES), p=PACES))
        done_G = (share_G, share_G**2, 1 - (1 - share_G) ** 2)[pace]
        way_C = values_NC[n + 1] - values_NC[n]
        values_TC = np.concatenate([values_TC, values_NC[n] + done_G[:, None] * way_C])
    return values_TC


def paste(pixels_CTHW: Tensor, boxes_T4: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """Copy what the box of one random frame holds into the boxes of others, resized to them and blended."""
    frames = len(boxes_T4)
    source = int(rng.integers(frames))
    left, top, right, bottom = boxes_T4[source].tolist()
    patch_CHW = pixels_CTHW[:, source, top:bottom, left:right]
    shape, soft_from = int(rng.choice(len(SHAPES), p=SHAPES)), rng.uniform(0.30, 0.45)
    edge = soft_from if rng.random() < SOFT else None
    keys = draw_keys(frames, rng)
    strength_T = between(keys, rng.uniform(0.8, 1, (len(keys), 1)), rng)[:, 0]
    shown_T = rng.random(frames) < SHOWN
    shown_T[[0, source]] = True

    @cache  # many frames have a box of the same size
    def fitted(height: int, width: int) -> tuple[Tensor, Tensor]:
        size = (height, width)
        resized_1CHW = F.interpolate(patch_CHW[None], size, mode="bilinear", align_corners=False)
        return resized_1CHW[0], alpha(size, shape, edge)

    pasted_CTHW = pixels_CTHW.clone()
    for t in np.flatnonzero(shown_T).tolist():
        left, top, right, bottom = boxes_T4[t].tolist()
        fitted_CHW, alpha_HW = fitted(bottom - top, right - left)
        pasted_CTHW[:, t, top:bottom, left:right].lerp_(fitted_CHW, float(strength_T[t]) * alpha_HW)
    return pasted_CTHW


def alpha(size: tuple[int, int], shape: int, edge: float | None) -> Tensor:
    """How much of a patch is seen, [H,W]: 1 inside its shape, and from the share `edge` of it outwards
    less."""
    v_HW, u_HW = torch.meshgrid(_off_centre(size[0]), _off_centre(size[1]), indexing="ij")
    distance_HW = (torch.maximum(v_HW, u_HW), torch.hypot(v_HW, u_HW), v_HW + u_HW)[shape]
    inside_HW = (distance_HW < 0.5).float()
    return inside_HW if edge is None else inside_HW * ((0.5 - distance_HW) / (0.5 - edge)).clamp(0, 1)


@cache
def _off_centre(pixels: int) -> Tensor:
    """How far each pixel of a row lies from the middle, as a share of the row."""
    return ((torch.arange(pixels) + 0.5) / pixels - 0.5).abs()


@dataclass(frozen=True)
class CTP(Task):
    """Predict way and growth of each patch, from what the network makes of the place where it begins.

    head_hidden: hidden width of the head.
    """

    sampler: CTPSampler
    head_hidden: int = field(metadata=at_least(1))

    def objective(self, backbone: Backbone) -> Objective:
        return CTPObjective(backbone, self)

    def check_backbone(self, backbone: Backbone, side: int) -> None:
        if map_size(backbone, self.sampler.num_frames, side)[0] < DEPTH:
            problem = f"the map of {type(backbone).__name__} has one time step, and CtP takes two"
            raise VsslError(f"{problem}; choose a longer clip or another backbone")

    def references(self) -> References:
        """How much less is wrong than if no patch moved and none grew, as a share; and of what has changed
        since the first frame, how often the direction is right.

        How much can be known is open: boxes are in whole pixels, so that the exact size would explain 79 %
        of the growth in 112 pixels and 40 % in 32, and the exact centre 96 % and 90 % of the way. The box of
        the first frame alone tells the direction of 52 % of the ways in 112 pixels and of none of the growth;
        in 32 pixels, where rounding and borders count for more, of 53 % and 52 %.
        """
        chances = {"explained": 0.0, "direction_accuracy": 0.5}
        return {f"{part}_{name}": {"chance": c} for part in PARTS for name, c in chances.items()}


class CTPObjective(Objective):
    """The map at the box of a patch in the first frame, and an MLP that gives four numbers for every
    frame."""

    def __init__(self, backbone: Backbone, task: CTP) -> None:
        super().__init__()
        self.backbone = backbone
        width, frames = backbone.feature_dim, task.sampler.num_frames
        self.squeeze = nn.Conv3d(width, width, (DEPTH, 1, 1))
        nn.init.kaiming_normal_(self.squeeze.weight, nonlinearity="relu")
        self.hidden = nn.Linear(width * POOLED * POOLED, task.head_hidden)
        self.boxes = nn.Linear(task.head_hidden, 4 * frames)
        for layer in (self.hidden, self.boxes):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)

    def forward(self, batch: Batch) -> StepOutput:
        """Boxes are mirrored as the augmentation's operation `flip` has mirrored their clips."""
        clips_BCTHW = batch["clips"][:, 0]
        boxes_BPT4 = mirrored(batch["boxes"], batch.get("flip.chosen"), clips_BCTHW.shape[-1])[:, 0]
        target_BPT4 = targets(boxes_BPT4, clips_BCTHW.shape[-1])
        predicted_BPT4 = self._predict(clips_BCTHW, boxes_BPT4).view(target_BPT4.shape)
        loss = F.smooth_l1_loss(predicted_BPT4, target_BPT4, reduction="none").sum(dim=3).mean()
        guess_BPT4 = predicted_BPT4.detach()
        wrong_BPT4, still_BPT4 = (guess_BPT4 - target_BPT4).abs(), target_BPT4.abs()
        right_BPT4 = guess_BPT4 * target_BPT4 > 0
        metrics = {}
        for name, part in PARTS.items():
            wrong, still, right = (x[..., part].sum() for x in (wrong_BPT4, still_BPT4, right_BPT4))
            metrics[f"{name}_explained"] = 1 - wrong / still.clamp(min=1e-6)
            metrics[f"{name}_direction_accuracy"] = right / target_BPT4[..., part].count_nonzero().clamp(
                min=1
            )
        return StepOutput(loss, metrics)

    def _predict(self, clips_BCTHW: Tensor, boxes_BPT4: Tensor) -> Tensor:
        map_BDTHW = self.backbone.feature_map(clips_BCTHW)
        map_BDHW = F.relu(self.squeeze(map_BDTHW)).mean(dim=2)
        first_N4 = boxes_BPT4[:, :, 0].flatten(0, 1)
        numbers_B = torch.arange(len(boxes_BPT4), device=first_N4.device)
        numbers_N = numbers_B.repeat_interleave(boxes_BPT4.shape[1])
        rois_N5 = torch.cat([numbers_N[:, None], first_N4], dim=1)
        scale = map_BDHW.shape[-1] / clips_BCTHW.shape[-1]
        # Not in bfloat16, which has no whole numbers between 256 and 258, of pixels as of clips.
        exact = torch.promote_types(map_BDHW.dtype, rois_N5.dtype)
        whole = (map_BDHW.to(exact), rois_N5.to(exact))
        found = roi_align(*whole, POOLED, scale, sampling_ratio=2, aligned=True)
        predicted: Tensor = self.boxes(F.relu(self.hidden(found.flatten(1))))
        return predicted


def mirrored(boxes_BKPT4: Tensor, flipped_BK: Tensor | None, side: int) -> Tensor:
    """Boxes in clips of which some were mirrored from left to right."""
    if flipped_BK is None:
        return boxes_BKPT4
    left, top, right, bottom = boxes_BKPT4.unbind(-1)
    other_BKPT4 = torch.stack([side - right, top, side - left, bottom], dim=-1)
    return torch.where(flipped_BK[:, :, None, None, None], other_BKPT4, boxes_BKPT4)


def targets(boxes_BPT4: Tensor, side: int) -> Tensor:
    """Way of the centre since the first frame, in units of pixels, and logarithm of the growth, [B,P,T,4]."""
    first, last = boxes_BPT4[..., :2], boxes_BPT4[..., 2:]
    centre, size = (first + last) / 2, last - first
    way = (centre - centre[:, :, :1]) / (UNIT_CENTRE * side / SIDE)
    return torch.cat([way, (size / size[:, :, :1]).log() / UNIT_SIZE], dim=-1)
