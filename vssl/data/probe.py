"""What a video file really holds: found by decoding every frame of it, once, from the first to the last."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vssl.data.decoders.pyav import Converter
from vssl.errors import VsslError

Cause = Literal["missing", "empty", "not a video", "no video stream", "truncated", "damaged"]
"""Why a file cannot be read to its end."""

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
"""What stands in bytes 4 to 8 of an mp4 or mov file, whole or not."""

STEADY = 0.1
"""Frames may come early or late by this share of the time between two of them; more is a variable rate."""


class BadVideo(VsslError):
    """A file that cannot be read to its end: "<file>: <cause>; <remedy>"."""

    def __init__(self, path: Path, cause: Cause, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}; {remedy}")
        self.cause, self.what = cause, what


@dataclass(frozen=True)
class Probe:
    """Facts of one file.

    frames: pictures that a viewer is shown, which is how many the decoder gives from the first to the last,
        those that an edit list hides left out.
    packets: coded pictures in the file, those that nobody is shown included.
    hidden: packets that the file's edit list hides: more than 0 in a cut that was made without re-encoding.
    header_frames: what the header says; 0 if it says nothing. Often wrong by one or two.
    fps: mean rate; variable_rate: whether the frames come at unequal times.
    width, height: in pixels, as shown: after turning.
    codec: name such as h264, mpeg4, av1.
    """

    frames: int
    packets: int
    hidden: int
    header_frames: int
    fps: float
    variable_rate: bool
    width: int
    height: int
    codec: str


def probe(path: Path, see: Callable[[NDArray[np.uint8]], object] = lambda picture_HWC: None) -> Probe:
    """Decode the whole file, and show every picture (RGB [H,W,C]) to `see`, in the order of a viewer.

    Raises `BadVideo` with file, cause and remedy.
    """
    with _open(path, _beginning(path)) as container:
        if not container.streams.video:
            raise BadVideo(path, "no video stream", "has no video stream", "take it out of the list")
        walk = _Walk(path, container)
        for picture_HWC in walk.pictures():
            see(picture_HWC)
        return walk.facts()


def unreadable(path: Path, error: OSError) -> BadVideo:
    """The error for a file that the system does not hand out."""
    cause: Cause = "missing" if isinstance(error, FileNotFoundError) else "damaged"
    what = f"cannot be read ({error.strerror})"
    return BadVideo(path, cause, what, "check the folder of the data set, its permissions and its disk")


def _beginning(path: Path) -> bytes:
    """What a file begins with."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise BadVideo(path, "missing", "no regular file", "take it out of the list")
        with open(path, "rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise unreadable(path, error) from error
    if not beginning:
        raise BadVideo(path, "empty", "empty file", "fetch it again")
    return beginning


def _open(path: Path, beginning: bytes) -> av.container.InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except FFmpegError as error:
        if beginning[4:] in MP4_BOXES:
            what = f"ends before its table of frames ({error.strerror})"
            raise BadVideo(path, "truncated", what, "fetch it again") from error
        what = f"not a video ({error.strerror})"
        raise BadVideo(path, "not a video", what, "take it out of the list") from error


class _Walk:
    """One pass over all frames, which gathers the facts."""

    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path, self.container = path, container
        self.stream = container.streams.video[0]
        if self.stream.codec_context is None:
            raise self._damaged("its codec is not known", "re-encode it")
        self.stream.codec_context.thread_count = 1
        self.to_rgb = Converter()
        self.packets = self.hidden = self.quarters = 0
        self.times: list[int | None] = []
        self.sizes: set[tuple[int, int]] = set()

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        try:
            for packet in self.container.demux(self.stream):
                self.packets += packet.size > 0
                self.hidden += packet.is_discard
                for frame in packet.decode():
                    self.quarters = round(frame.rotation / 90) % 4
                    self.times.append(frame.pts)
                    self.sizes.add((frame.width, frame.height))
                    yield self.to_rgb(frame)
        except FFmpegError as error:
            what = f"breaks off after {len(self.times)} frames ({error.strerror})"
            raise self._damaged(what, "fetch it again or take it out of the list") from error

    def _damaged(self, what: str, remedy: str) -> BadVideo:
        return BadVideo(self.path, "damaged", what, remedy)

    def facts(self) -> Probe:
        if not self.times:
            raise self._damaged("none of its frames can be decoded", "take it out of the list")
        if len(self.sizes) > 1:
            raise self._damaged(f"changes its size ({sorted(self.sizes)})", "re-encode it")
        stream, [sides] = self.stream, self.sizes
        return Probe(
            frames=len(self.times),
            packets=self.packets,
            hidden=self.hidden,
            header_frames=stream.frames,
            fps=float(stream.average_rate or stream.guessed_rate or 0),
            variable_rate=_unsteady(self.times),
            width=sides[self.quarters % 2],
            height=sides[1 - self.quarters % 2],
            codec=stream.codec_context.codec.canonical_name,
        )


def _unsteady(times: list[int | None]) -> bool:
    """Whether the steps in time differ; times that do not rise (DivX in AVI) are no times at all."""
    known = np.array([time for time in times if time is not None])
    steps = np.diff(known)
    if len(known) != len(times) or not len(steps) or steps.min() <= 0:
        return False
    usual = np.median(steps)
    return bool(np.abs(steps - usual).max() > max(1, STEADY * usual))
