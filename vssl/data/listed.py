"""Videos of a real data set: those of one subset that a check has found to be usable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import Decoder, read_frames
from vssl.data.index import Index, check_selection, fingerprint, load, select
from vssl.data.lists import printable
from vssl.errors import VsslError
from vssl.types import Video

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
        index = load(Path(self.index))
        return _Videos(index, self._rows(index))

    @property
    def class_names(self) -> Sequence[str]:
        """All classes of the data set, also those without a video in the subset."""
        return load(Path(self.index)).classes

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side of the frames, the median of all videos."""
        index = load(Path(self.index))
        rows = self._rows(index)
        return int(np.median(np.minimum(index.height[rows], index.width[rows])))

    def prepare(self) -> None:
        """See that the index is what the plan was made with, and that the files are what was checked.

        Of many files, some are looked at. Raises VsslError for one of another size; one that is gone is left
        to who reads it.
        """
        index = load(Path(self.index))
        rows = self._rows(index)
        if fingerprint(index, rows) != self.fingerprint:
            raise VsslError(
                f"{self.index}: {self.name} was checked anew since this launch began; launch again"
            )
        looked_at = rows[:: max(1, len(rows) // LOOKS)]
        changed = [index.name(row) for row in looked_at if self._has_changed(index, row)]
        if changed:
            raise VsslError(
                f"{self.root}: {len(changed)} of {len(looked_at)} files have another size than when they "
                f"were checked, {printable(changed[0])} for one; run mode=check again"
            )

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames as RGB [T,H,W,C] with the decoder that the check found to be right for this file."""
        return read_frames(
            Path(self.root) / video.name, frames_T, self._decoders.get(video.name, self._usual)
        )

    def _has_changed(self, index: Index, row: int) -> bool:
        path = Path(self.root) / index.name(row)
        return bool(index.size[row]) and path.is_file() and path.stat().st_size != index.size[row]

    def _rows(self, index: Index) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = select(index, self.subset, self.split, self.validation, self.group)
        return rows

    @cached_property
    def _usual(self) -> Decoder:
        """The decoder of most files."""
        index = load(Path(self.index))
        names, counts = np.unique(index.decoder[self._rows(index)], return_counts=True)
        usual: Decoder = names[counts.argmax()].decode()
        return usual

    @cached_property
    def _decoders(self) -> dict[str, Decoder]:
        """The decoders of the others, by name; all names would be too much for every loader worker."""
        index = load(Path(self.index))
        rows = self._rows(index)
        others = rows[index.decoder[rows] != self._usual.encode()]
        return {index.name(row): index.decoder[row].decode() for row in others}


class _Videos(Sequence[Video]):
    """Rows of an index as videos; 240,000 of them as objects would take 100 MB in every loader worker."""

    def __init__(self, index: Index, rows: NDArray[np.int64]) -> None:
        self.columns, self.rows = index, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Video: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Video]: ...
    def __getitem__(self, at: int | slice) -> Video | Sequence[Video]:
        if isinstance(at, slice):
            return _Videos(self.columns, self.rows[at])
        row = self.rows[at]
        label = int(self.columns.label[row])
        return Video(self.columns.name(row), int(self.columns.frames[row]), None if label < 0 else label)
