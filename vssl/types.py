"""The vocabulary that every part of the framework shares.

Shape legend, used as suffixes of names:
    B batch, K clips per video, C channels, T frames, H height, W width, D features, N classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vssl.checks import Checked
from vssl.errors import VsslError
from vssl.result import References
from vssl.video import Video

Batch = dict[str, Tensor]
"""A collated batch: `clips` (uint8 from the loader, float after augmentation) [B,K,C,T,H,W], `label`
int64 [B] (-1 where a video has none), `index` [B] of the samples, `bad_video` [B] (the video that a sample
was to be made of but could not; -1 where all is well), one int64 [B] per target of the sampler, and the
numbers that the augmentation drew."""


class StepOutput(NamedTuple):
    """What an objective returns for one batch: a scalar loss to minimise and scalars to log."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Progress:
    """How far a training is: epochs done, fractions counting steps, and the share of all steps.

    What is done with the share depends on the training's length. That it was read is noted: a longer training
    does not continue such a one.
    """

    def __init__(self, epochs: float, share: float) -> None:
        self.epochs, self._share, self.share_was_read = epochs, share, False

    @property
    def share(self) -> float:
        """The share of all steps."""
        self.share_was_read = True
        return self._share


class Backbone(nn.Module, ABC):
    """A network from a clip to one feature vector; the only thing that crosses a stage boundary."""

    feature_dim: int

    @abstractmethod
    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Return globally pooled features [B, feature_dim]."""

    def feature_map(self, clips_BCTHW: Tensor) -> Tensor:
        """Return the last feature map [B, feature_dim, t, h, w], before global pooling.

        A backbone that has none need not define it, and raises `VsslError`.
        """
        raise VsslError(f"{type(self).__name__} has no feature map; choose features.feature=pooled")


class Objective(nn.Module, ABC):
    """A backbone with heads and a loss. `state_dict()` holds all that training has to remember."""

    backbone: Backbone

    @abstractmethod
    def forward(self, batch: Batch) -> StepOutput:
        """Return loss and metrics of one (micro-)batch whose clips are augmented floats."""

    def after_step(self, progress: Progress) -> None:
        """Run after each optimiser step; `progress` counts that step."""

    def keys(self) -> Tensor | None:
        """Embeddings [H,D] that the objective remembers, for a monitor to look at; None if it has none."""
        return None


@dataclass(frozen=True)
class ClipPlan:
    """The frames to read from one video (0-based indices, [K,T]) and the targets they imply."""

    frames_KT: NDArray[np.int64]
    targets: Mapping[str, int]


class ClipSampler(Checked, ABC):
    """Chooses frames and targets from a video. A frozen dataclass; all randomness comes from `rng`."""

    @property
    def classes(self) -> Mapping[str, int]:
        """Number of values of each target that `plan` returns, by name."""
        return {}

    @property
    def min_frames(self) -> int:
        """Videos with fewer frames are left out of training, and counted."""
        return 1

    @abstractmethod
    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        """Choose the frames of one sample from a video of `num_frames` >= `min_frames` frames."""

    def edit(self, clips_KCTHW: Tensor, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Change the pixels of a sample once they are cropped, before the device mirrors and colours them.

        Takes uint8 clips and returns such of the same shape, and tensors to add to the batch, by name.
        Nothing by default. Turning clips is no work for this: see `vssl.pretext.rotation`.
        """
        return clips_KCTHW, {}


class Task(Checked, ABC):
    """A way to train a backbone: which clips, and which loss. A frozen dataclass built from config."""

    min_batch: ClassVar[int] = 1
    """Samples that it needs at once: 2 where a batch norm sees one value of each."""

    sampler: ClipSampler

    @abstractmethod
    def objective(self, backbone: Backbone) -> Objective:
        """Attach this task's heads to a backbone of random weights, all drawn from torch's generator.

        The weights of an earlier stage are loaded into the backbone after this.
        """

    def references(self) -> References:
        """What to read the objective's metrics against, where it is known."""
        return {}

    def check(self, batch_size: int, drop_last: bool) -> None:
        """Raise `OptionError` for batches that the task cannot train with. The option is named from the task:
        such as `queue_size`."""

    def check_backbone(self, backbone: Backbone, side: int) -> None:
        """Raise `VsslError` for a backbone that the task cannot train on frames of `side` pixels.

        It lies on the meta device: it has shapes, and no values.
        """


class VideoSource(Protocol):
    """A set of videos that can be read by frame number. Pickles; holds no open file."""

    @property
    def videos(self) -> Sequence[Video]:
        """All videos, in a fixed order."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes that the labels number."""

    def prepare(self) -> None:
        """Make the data ready to read (write synthetic videos, load an index); idempotent."""

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode the given frames (any order, repeats allowed) as RGB [T,H,W,C].

        Raises `vssl.errors.VsslError` with file, cause and remedy if that is impossible.
        """
