"""Some of the videos of a source: a few of each class; or all but a held-out share, or that share."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vssl.checks import BELOW_1, Checked, at_least
from vssl.errors import OptionError, VsslError
from vssl.video import Video

if TYPE_CHECKING:
    from vssl.types import VideoSource  # it would import torch

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Part(Checked):
    """Which videos of a source are meant; `seed` draws them, from their names alone.

    per_class: at most so many of each class (None: all). Groups (people, films) come in one drawn order for
        all classes, and a class takes one video of each group in turn: the videos of all classes are of the
        same few groups, from which whole ones can still be held out. Videos without a class are left out.
    held_out: share of these videos that is held out, in whole groups, as near to it as groups allow. Classes
        take turns: where groups are of one class, as much is held out of one class as of another.
    side: whether the videos are meant that are left (`train`) or those that are held out (`val`).
    """

    per_class: int | None = field(metadata=at_least(1))
    held_out: float = field(metadata=BELOW_1)
    side: Literal["train", "val"]
    seed: int

    def rows(self, names: Sequence[str], labels: Sequence[int], groups: Sequence[str]) -> Rows:
        """Numbers of the videos that are meant, ascending. labels: -1 where a video has no class.

        Raises `OptionError` if there are not two groups to part.
        """
        rows = list(range(len(names)))
        if self.per_class is not None:
            rows = self._few(rows, names, labels, groups, self.per_class)
        if self.held_out:
            held = set(self._held(rows, labels, groups))
            rows = [row for row in rows if (row in held) == (self.side == "val")]
        return np.array(rows, np.int64)

    def guess(self, num_videos: int, classes: int | None) -> int:
        """How many videos are meant, where nothing is known of them but their number."""
        few = num_videos if self.per_class is None else min(num_videos, self.per_class * (classes or 1))
        return max(1, round(few * (self.held_out if self.side == "val" else 1 - self.held_out)))

    def _few(
        self, rows: list[int], names: Sequence[str], labels: Sequence[int], groups: Sequence[str], count: int
    ) -> list[int]:
        """The first `count` of each class: of each group one, then of each group a second one, ..."""
        drawn = sorted(rows, key=lambda row: self._draw("video", names[row]))
        turns = _turns((labels[row], groups[row]) for row in drawn)
        order = {group: self._draw("group", group) for group in set(groups)}
        taken: Counter[int] = Counter()
        few = []
        for _, row in sorted(zip(turns, drawn, strict=True), key=lambda one: (one[0], order[groups[one[1]]])):
            if labels[row] >= 0 and taken[labels[row]] < count:
                taken[labels[row]] += 1
                few.append(row)
        return sorted(few)

    def _held(self, rows: list[int], labels: Sequence[int], groups: Sequence[str]) -> list[int]:
        """The rows of as many groups as come nearest to the share; at least one group, and not all."""
        members: dict[str, list[int]] = {}
        for row in rows:
            members.setdefault(groups[row], []).append(row)
        if len(members) < 2:
            problem = f"{len(members)} group of {len(rows)} training videos cannot be cut in two"
            raise OptionError("held_out", self.held_out, problem, "take more videos, or another group")
        drawn = sorted(members, key=lambda group: self._draw("held out", group))
        turns = _turns(labels[members[group][0]] for group in drawn)
        order = [group for _, group in sorted(zip(turns, drawn, strict=True), key=lambda one: one[0])]
        sizes = np.cumsum([len(members[group]) for group in order])[:-1]
        count = int(np.abs(sizes - self.held_out * len(rows)).argmin()) + 1
        return [row for group in order[:count] for row in members[group]]

    def _draw(self, what: str, name: str) -> bytes:
        """A number to sort by that the seed and the name decide, whatever other videos there are."""
        text = f"{self.seed} {what} {name}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class SomeVideos:
    """Some of the videos of a source; a VideoSource."""

    def __init__(self, source: VideoSource, videos: Sequence[Video]) -> None:
        self.source, self.class_names, self.videos = source, source.class_names, videos
        self.short_side: int | None = getattr(source, "short_side", None)

    def prepare(self) -> None:
        """Prepare all of them."""
        self.source.prepare()

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames as the source does."""
        return self.source.read(video, frames_T)


def rows_of(source: VideoSource, part: Part, group: str | None) -> Rows:
    """Numbers of the videos of a source that are meant; `group` names the groups, see `group_names`."""
    names = [video.name for video in source.videos]
    labels = [-1 if video.label is None else video.label for video in source.videos]
    return part.rows(names, labels, group_names(names, group))


def part_of(source: VideoSource, part: Part, group: str | None, fingerprint: str) -> SomeVideos:
    """A part of a source. Raises `VsslError` if it is another one than had this fingerprint."""
    rows = rows_of(source, part, group)
    if fingerprint_of(rows) != fingerprint:
        raise VsslError(f"{source}: its videos have other names than when this launch began; launch again")
    return SomeVideos(source, [source.videos[row] for row in rows])


def fingerprint_of(rows: Rows) -> str:
    """Hash of the numbers of some videos; with the fingerprint of all, it says which videos they are."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16]


def group_names(names: Sequence[str], group: str | None) -> list[str]:
    """The group of each file: what the part (?P<group>...) of the regular expression `group` matches in its
    name. Files that it does not match, or all without it, are groups by themselves."""
    if not group:
        return list(names)
    matches = [re.search(group, name, re.IGNORECASE) for name in names]
    return [match["group"] if match else name for match, name in zip(matches, names, strict=True)]


def _turns(values: Iterable[object]) -> list[int]:
    """How many equal ones each value comes after."""
    seen: Counter[object] = Counter()
    turns = []
    for value in values:
        turns.append(seen[value])
        seen[value] += 1
    return turns
