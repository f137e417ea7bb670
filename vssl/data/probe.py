"""What a video file really holds: found by decoding every frame of it, once, from the first to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.error import FFmpegError

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
        self.cause = cause


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
    rotation: degrees in which the pictures are turned anticlockwise to stand upright: 0, 90, 180 or 270.
    codec: name such as h264, mpeg4, av1; duration_s: seconds that the header says.
    """

    frames: int
    packets: int
    hidden: int
    header_frames: int
    fps: float
    variable_rate: bool
    width: int
    height: int
    rotation: int
    codec: str
    duration_s: float


def probe(path: Path, see: Callable[[av.VideoFrame], object] = lambda frame: None) -> Probe:
    """Decode the whole file, and show every frame to `see`, in the order of a viewer.

    Raises `BadVideo` with file, cause and remedy.
    """
    _check_file(path)
    with _open(path) as container:
        if not container.streams.video:
            raise BadVideo(path, "no video stream", "has no video stream", "take it out of the list")
        walk = _Walk(path, container)
        for frame in walk.frames():
            see(frame)
        return walk.facts()


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise BadVideo(path, "missing", "no such file", "check the folder of the data set")
    if path.stat().st_size == 0:
        raise BadVideo(path, "empty", "empty file", "fetch it again")


def _open(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except FFmpegError as error:
        with open(path, "rb") as file:
            begins_as_mp4 = file.read(8)[4:] in MP4_BOXES
        if begins_as_mp4:
            what = f"ends before its table of frames ({error.strerror})"
            raise BadVideo(path, "truncated", what, "fetch it again") from error
        what = f"not a video ({error.strerror})"
        raise BadVideo(path, "not a video", what, "take it out of the list") from error


class _Walk:
    """One pass over all frames, which gathers the facts."""

    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path, self.container = path, container
        self.stream = container.streams.video[0]
        self.stream.codec_context.thread_count = 1
        self.packets = self.hidden = self.quarters = 0
        self.times: list[int | None] = []
        self.sizes: set[tuple[int, int]] = set()

    def frames(self) -> Iterator[av.VideoFrame]:
        try:
            for packet in self.container.demux(self.stream):
                self.packets += packet.size > 0
                self.hidden += packet.is_discard
                for frame in packet.decode():
                    self.quarters = round(frame.rotation / 90) % 4
                    self.times.append(frame.pts)
                    self.sizes.add((frame.width, frame.height))
                    yield frame
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
        length = stream.duration * stream.time_base if stream.duration else None
        return Probe(
            frames=len(self.times),
            packets=self.packets,
            hidden=self.hidden,
            header_frames=stream.frames,
            fps=float(stream.average_rate or stream.guessed_rate or 0),
            variable_rate=_unsteady(self.times),
            width=sides[self.quarters % 2],
            height=sides[1 - self.quarters % 2],
            rotation=90 * self.quarters,
            codec=stream.codec_context.codec.canonical_name,
            duration_s=float(length or (self.container.duration or 0) / av.time_base),
        )


def _unsteady(times: list[int | None]) -> bool:
    """Whether the steps in time differ; times that do not rise (DivX in AVI) are no times at all."""
    known = np.array([time for time in times if time is not None])
    steps = np.diff(known)
    if len(known) != len(times) or not len(steps) or steps.min() <= 0:
        return False
    usual = np.median(steps)
    return bool(np.abs(steps - usual).max() > max(1, STEADY * usual))
