"""Videos of a real data set: those of one subset that a check has found to be usable."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vssl.data.dataset import LazyVideos
from vssl.data.decode import Decoder, read_frames
from vssl.data.index import Column, Index, check_selection, fingerprint, load, select
from vssl.data.lists import printable
from vssl.errors import VsslError
from vssl.video import Video

LOOKS = 5000
"""Files whose size is looked at before a stage begins; a network disk takes up to a millisecond for each."""


@dataclass(frozen=True)
class ListedVideos:
    """A VideoSource of files below `root`, by the index that mode=check wrote.

    name: what people call the data set. root: folder of the videos. index: file of the index.
    subset: train, test, or val, which is cut from train. split: official split, from 1.
    validation: share of train that is held out as val, in whole groups. group: regular expression whose part
    (?P<group>...) names the group of a file; null: every file by itself.
    num_videos, fingerprint: what the plan found in the index.
    """

    name: str
    root: str
    index: str
    subset: Literal["train", "test", "val"]
    split: int
    validation: float
    group: str | None
    num_videos: int
    fingerprint: str

    def __post_init__(self) -> None:
        check_selection(self.subset, self.split, self.validation, self.group)

    @cached_property
    def videos(self) -> Sequence[Video]:
        """The usable videos of the subset; made when they are asked for."""
        index, rows = self._chosen
        return LazyVideos(partial(_video, index), rows)

    @property
    def class_names(self) -> Sequence[str]:
        """All classes of the data set, also those without a video in the subset."""
        return load(Path(self.index)).classes

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side of the frames, the median of all videos."""
        index, rows = self._chosen
        return int(np.median(np.minimum(index.height[rows], index.width[rows])))

    def prepare(self) -> None:
        """See that the index is what the plan was made with, and that the files are what was checked.

        Of many files, some are looked at. Raises VsslError for one of another size; one that is gone is left
        to who reads it.
        """
        index, rows = self._chosen
        if fingerprint(index, rows) != self.fingerprint:
            raise VsslError(
                f"{self.index}: {self.name} was checked anew since this launch began; launch again"
            )
        looked_at, changed = rows[:: max(1, len(rows) // LOOKS)], []
        for row in looked_at:
            path = Path(self.root) / index.name(row)
            if index.size[row] and path.is_file() and path.stat().st_size != index.size[row]:
                changed.append(index.name(row))
        if changed:
            raise VsslError(
                f"{self.root}: {len(changed)} of {len(looked_at)} files have another size than when they "
                f"were checked, {printable(changed[0])} for one; run mode=check again"
            )

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames as RGB [T,H,W,C] with the decoder that the check found to be right for this file."""
        usual, others = self._decoders
        return read_frames(Path(self.root) / video.name, frames_T, others.get(video.name, usual))

    @property
    def _chosen(self) -> tuple[Index, Column]:
        index = load(Path(self.index))
        return index, select(index, self.subset, self.split, self.validation, self.group)

    @cached_property
    def _decoders(self) -> tuple[Decoder, dict[str, Decoder]]:
        """The decoder of most files, and those of the others by name: all would be too much for a worker."""
        index, rows = self._chosen
        decoders, counts = np.unique(index.decoder[rows], return_counts=True)
        usual = decoders[counts.argmax()]
        others = rows[index.decoder[rows] != usual]
        return usual.decode(), {index.name(row): index.decoder[row].decode() for row in others}


def _video(index: Index, row: int) -> Video:
    label = int(index.label[row])
    return Video(index.name(row), int(index.frames[row]), None if label < 0 else label)
