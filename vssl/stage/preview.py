"""What a stage trains on, for the eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset, Sample
from vssl.files import write_atomically
from vssl.report.sheet import Block, Clip, draw_sheet
from vssl.stage.spec import PRETRAINING, StageSpec, class_name, data_name

CLIP_NAMES = {"auxiliary": ("student clip", "teacher clip")}
"""What the clips of a stage are called, if not by number."""


def preview(spec: StageSpec, dataset: ClipDataset, samples: int) -> bytes:
    """Return a PNG sheet of some of the samples that training sees in epoch 0, from all over the data.

    Only the samples' own generators draw at random, so that training is what it is without this.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, samples).astype(int))
    recipe = spec.recipe
    words = f"{class_name(recipe['task'])} on {data_name(recipe['data'])}"
    title = f"{spec}: {words}, seed {recipe['seed']}, epoch 0"
    return draw_sheet(title, [_block(spec, dataset, index) for index in chosen.tolist()])


def leave_preview(spec: StageSpec, dataset: ClipDataset, folder: Path) -> None:
    """Write a small `preview.png` into the folder of a stage that trains without labels, once."""
    path = folder / "preview.png"
    if spec.name in PRETRAINING and not path.exists():
        write_atomically(path, preview(spec, dataset, samples=4))


def _block(spec: StageSpec, dataset: ClipDataset, index: int) -> Block:
    sample = dataset.sample((0, index))
    batch = {name: values[None] for name, values in sample.tensors.items()}
    augmented_KTHWC = _pictures(dataset.augmentation.apply(batch)[0], dataset.augmentation)
    num_clips = len(augmented_KTHWC)
    names = CLIP_NAMES.get(spec.name, [f"clip {k + 1} of {num_clips}" for k in range(num_clips)])
    parts = zip(names, sample.plan.frames_KT, sample.frames_KTHWC, augmented_KTHWC, strict=True)
    return Block(_caption(sample), [Clip(*part) for part in parts])


def _caption(sample: Sample) -> str:
    video = sample.video
    words = [video.name, f"{video.num_frames} frames"]
    words += [] if video.label is None else [f"class {video.label}"]
    targets = " ".join(f"{name}={value}" for name, value in sample.plan.targets.items())
    return ", ".join(words) + (f"; targets (from 0): {targets}" if targets else "")


def _pictures(clips_KCTHW: Tensor, augmentation: Augmentation) -> NDArray[np.uint8]:
    """What the network sees, as [K,T,H,W,C] in grey levels 0..255."""
    clips_KTHWC = clips_KCTHW.permute(0, 2, 3, 4, 1)
    if augmentation.mean is not None and augmentation.std is not None:
        clips_KTHWC = clips_KTHWC * clips_KTHWC.new_tensor(augmentation.std)
        clips_KTHWC = clips_KTHWC + clips_KTHWC.new_tensor(augmentation.mean)
    pixels: NDArray[np.uint8] = (
        (clips_KTHWC * (255 / augmentation.pixel_max)).round().clamp(0, 255).byte().numpy()
    )
    return pixels
