"""The samples that a training sees, as a sheet."""

from __future__ import annotations

from vssl.data.dataset import Sample
from vssl.report.sheet import Block, Clip, draw_sheet
from vssl.stage.callback import Preview


def draw_preview(preview: Preview) -> bytes:
    """Return a PNG: the clips of every sample, before and after augmentation."""
    return draw_sheet(preview.title, [_block(preview, sample) for sample in preview.samples])


def _block(preview: Preview, sample: Sample) -> Block:
    batch = {name: values[None] for name, values in sample.tensors.items()}
    levels_KCTHW = preview.augmentation.to_grey_levels(preview.augmentation.apply(batch)[0])
    augmented_KTHWC = levels_KCTHW.permute(0, 2, 3, 4, 1).numpy()
    num_clips = len(augmented_KTHWC)
    names = preview.clip_names or [f"clip {k + 1} of {num_clips}" for k in range(num_clips)]
    parts = zip(names, sample.plan.frames_KT, sample.frames_KTHWC, augmented_KTHWC, strict=True)
    return Block(_caption(sample), [Clip(*part) for part in parts])


def _caption(sample: Sample) -> str:
    video = sample.video
    words = [video.name, f"{video.num_frames} frames"]
    words += [] if video.label is None else [f"class {video.label}"]
    targets = " ".join(f"{name}={value}" for name, value in sample.plan.targets.items())
    return ", ".join(words) + (f"; targets (from 0): {targets}" if targets else "")
