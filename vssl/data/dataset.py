"""The one dataset: clips of a sampler, from videos of a source, with drawn augmentation."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from vssl.data.augmentation import Augmentation
from vssl.errors import VsslError
from vssl.types import ClipPlan, ClipSampler, VideoSource
from vssl.video import Video

log = logging.getLogger("vssl")

TRIES = 10
"""Videos that are tried for one sample; more bad ones in a row mean that the whole data set is gone."""

MAX_WORKERS = 256
"""Loader processes that can be watched."""


class Sample(NamedTuple):
    """A sample as `tensors`, and what they were made from: the video, the plan, and the frames it names."""

    video: Video
    plan: ClipPlan
    frames_KTHWC: NDArray[np.uint8]
    tensors: dict[str, Tensor]


class LazyVideos(Sequence[Video]):
    """Videos that are made when they are asked for, from their `numbers`.

    As objects, those of all Kinetics would take 100 MB in every loader process.
    """

    def __init__(self, video: Callable[[int], Video], numbers: NDArray[np.int64]) -> None:
        self.video, self.numbers = video, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: Any) -> Any:
        numbers = self.numbers[at]
        return LazyVideos(self.video, numbers) if isinstance(at, slice) else self.video(numbers)


@dataclass(eq=False)
class ClipDataset(Dataset[dict[str, Tensor]]):
    """Samples of a training stage; each is a pure function of (seed, epoch, index).

    Videos that are too short for the sampler are left out (`excluded` of them); the rest (`videos`)
    is passed over `repeat` times in an epoch, each time with other draws. With `replace_bad`, which is for
    training only, a video that cannot be read gives its place to another one, which the sample's own
    generator draws. Raises VsslError if no video is long enough.
    """

    source: VideoSource
    sampler: ClipSampler
    augmentation: Augmentation
    seed: int
    repeat: int
    replace_bad: bool

    def __post_init__(self) -> None:
        lengths = np.array([video.num_frames for video in self.source.videos], np.int64)
        long_enough = np.flatnonzero(lengths >= self.sampler.min_frames)
        if not len(long_enough):
            raise VsslError(
                f"the longest of {len(lengths)} videos has {lengths.max(initial=0)} frames, but "
                f"{type(self.sampler).__name__} needs {self.sampler.min_frames}; ask for shorter clips "
                "(sampler.num_frames) or take longer videos"
            )
        self.videos = LazyVideos(self.source.videos.__getitem__, long_enough)
        self.excluded = len(lengths) - len(self.videos)
        # What each loader process reads at the moment, for all of them to see: number of a video, or -1.
        self._reading = torch.full((MAX_WORKERS,), -1).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.videos) * self.repeat

    def __getitem__(self, at: tuple[int, int]) -> dict[str, Tensor]:
        """Return the tensors of the sample `at` = (epoch, index), all contiguous.

        `clips` uint8 [K,C,T,h,w]; the numbers that the augmentation drew, [K,...]; an int64 scalar per
        target of the sampler; `label` (-1 if the video has none) and `index`; `bad_video`, the number in
        `videos` of the one that could not be read and was replaced, or -1.
        """
        return self.sample(at).tensors

    def sample(self, at: tuple[int, int]) -> Sample:
        """Return the sample `at` = (epoch, index) together with its origin.

        One generator serves the sampler first, the augmentation of clip 0, 1, ... and the sampler's edit.
        With a bad video, it has served its sampler, and draws the next video to try.
        """
        epoch, index = at
        own = index % len(self.videos)
        rng = np.random.default_rng([self.seed, epoch, index])
        number, plan, frames_KTHWC = self._readable(own, rng, TRIES if self.replace_bad else 1)
        video = self.videos[number]
        tensors = self.augmentation.sample_clips(frames_KTHWC, rng)
        tensors["clips"], added = self.sampler.edit(tensors["clips"], rng)
        tensors |= added
        label = -1 if video.label is None else video.label
        bad = -1 if number == own else own
        numbers = {**plan.targets, "label": label, "index": index, "bad_video": bad}
        tensors |= {name: torch.tensor(value) for name, value in numbers.items()}
        return Sample(video, plan, frames_KTHWC, tensors)

    def _readable(
        self, number: int, rng: np.random.Generator, tries: int
    ) -> tuple[int, ClipPlan, NDArray[np.uint8]]:
        """This video, or else the first good one of those that `rng` draws: number, plan, frames."""
        plan = self.sampler.plan(self.videos[number].num_frames, rng)
        try:
            return number, plan, self._read(number, plan)
        except VsslError as error:
            if tries == 1:
                raise
            log.warning("another video takes the place of a bad one: %s", error)
        return self._readable(int(rng.integers(len(self.videos))), rng, tries - 1)

    def _read(self, number: int, plan: ClipPlan) -> NDArray[np.uint8]:
        """The planned frames [K,T,H,W,C] of a video."""
        worker = get_worker_info()
        slot = worker.id % MAX_WORKERS if worker else 0
        self._reading[slot] = number
        try:
            frames_NHWC = self.source.read(self.videos[number], plan.frames_KT.reshape(-1))
        finally:
            self._reading[slot] = -1
        return frames_NHWC.reshape(*plan.frames_KT.shape, *frames_NHWC.shape[1:])

    def reading(self) -> list[str]:
        """Names of the videos that are being read, in any process, at this moment."""
        return [self.videos[number].name for number in self._reading.tolist() if number >= 0]
