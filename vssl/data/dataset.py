"""The one dataset: clips of a sampler, from videos of a source, with drawn augmentation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vssl.data.augmentation import Augmentation
from vssl.errors import VsslError
from vssl.types import ClipPlan, ClipSampler, Video, VideoSource


class Sample(NamedTuple):
    """A sample as `tensors`, and what they were made from: the video, the plan, and the frames it names."""

    video: Video
    plan: ClipPlan
    frames_KTHWC: NDArray[np.uint8]
    tensors: dict[str, Tensor]


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Samples of a training stage; each is a pure function of (seed, epoch, index).

    Videos that are too short for the sampler are left out (`excluded` of them); the rest (`videos`)
    is passed over `repeat` times in an epoch, each time with other draws. Raises VsslError if no
    video is long enough.
    """

    def __init__(
        self, source: VideoSource, sampler: ClipSampler, augmentation: Augmentation, seed: int, repeat: int
    ) -> None:
        self.source = source
        self.sampler = sampler
        self.augmentation = augmentation
        self.seed = seed
        self.repeat = repeat
        self.videos: list[Video] = [v for v in source.videos if v.num_frames >= sampler.min_frames]
        self.excluded = len(source.videos) - len(self.videos)
        if not self.videos:
            raise VsslError(_too_short(source, sampler))

    def __len__(self) -> int:
        return len(self.videos) * self.repeat

    def __getitem__(self, at: tuple[int, int]) -> dict[str, Tensor]:
        """Return the tensors of the sample `at` = (epoch, index), all contiguous.

        `clips` uint8 [K,C,T,h,w]; the numbers that the augmentation drew, [K,...]; an int64 scalar per
        target of the sampler; `label` (-1 if the video has none) and `index`.
        """
        return self.sample(at).tensors

    def sample(self, at: tuple[int, int]) -> Sample:
        """Return the sample `at` = (epoch, index) together with its origin.

        One generator serves the sampler first and then the augmentation of clip 0, 1, ...
        """
        epoch, index = at
        video = self.videos[index % len(self.videos)]
        rng = np.random.default_rng([self.seed, epoch, index])
        plan = self.sampler.plan(video.num_frames, rng)
        frames_NHWC = self.source.read(video, plan.frames_KT.reshape(-1))
        frames_KTHWC = frames_NHWC.reshape(*plan.frames_KT.shape, *frames_NHWC.shape[1:])
        tensors = _stack([self.augmentation.sample(frames_THWC, rng) for frames_THWC in frames_KTHWC])
        label = -1 if video.label is None else video.label
        numbers = {**plan.targets, "label": label, "index": index}
        tensors |= {name: torch.tensor(value) for name, value in numbers.items()}
        return Sample(video, plan, frames_KTHWC, tensors)


def _stack(clips: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    # stack() copies into contiguous memory: strided clips pick other convolution kernels, and so
    # other weights, than those that a loader process has sent.
    stacked = {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}
    stacked["clips"] = stacked.pop("clip")
    return stacked


def _too_short(source: VideoSource, sampler: ClipSampler) -> str:
    longest = max((video.num_frames for video in source.videos), default=0)
    return (
        f"{source}: the longest of {len(source.videos)} videos has {longest} frames, but "
        f"{type(sampler).__name__} needs {sampler.min_frames}; ask for shorter clips or take longer videos"
    )
