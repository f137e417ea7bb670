"""PyAV: FFmpeg inside the package. Frames are found by their times, so that no seek can go wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vssl.data.decoders import check_range, undecodable

TIMED = ("mov", "matroska")
"""Containers whose times are those of the pictures. AVI has none: FFmpeg guesses, and DivX with B-frames
comes out of order."""

SKIPS = ("h264", "hevc")
"""Codecs whose decoders heed, for every packet anew, that its picture may be skipped."""


def read(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode frames; see `vssl.data.decode.read_frames`."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise undecodable(path, "it has no video stream", "find another copy")
            container.streams.video[0].codec_context.thread_count = 1
            if not container.format.name.startswith(TIMED):
                return _count(path, container, frames_T)
            table = _indexed(container) or _demuxed(container)
            return _look_up(path, container, table, frames_T) if table else _count(path, container, frames_T)
    except FFmpegError as error:
        raise undecodable(path, str(error.strerror)) from error


class Converter:
    """Makes RGB pictures [H,W,C] of decoded frames, turned upright as their display matrix asks."""

    def __init__(self) -> None:
        # One for all frames: making one costs as much as converting a small frame.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        # Without a number of threads it takes one per core, and spends four times the processor's time.
        picture = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        picture_HWC = np.asarray(picture, np.uint8)
        return np.rot90(picture_HWC, round(frame.rotation / 90)) if frame.rotation else picture_HWC


Packets = Iterable[av.Packet | None]


class _Table:
    """When each frame is shown, and where decoding has to start for it.

    times: of all frames, rising; frame i is shown at the i-th. keys: times of the key frames, rising.
    packets: gives all packets from the key frame of a number on, and None at the end.

    For a frame, decoding starts at the last key frame that is shown no later: what refers to pictures
    before a key frame is also shown before it.
    """

    def __init__(self, times: list[int], keys: list[int], packets: Callable[[int], Packets]) -> None:
        self.times, self.keys, self.packets = times, keys, packets

    def key_of(self, time: int) -> int:
        """Number of the key frame at which decoding starts for the frame of a time."""
        return max(0, bisect_right(self.keys, time) - 1)


def _indexed(container: av.container.InputContainer) -> _Table | None:
    """From the index of the file, without reading its packets; None if pictures are not shown as they are coded."""
    stream = container.streams.video[0]
    entries = list(stream.index_entries)
    if not entries or stream.codec_context.has_b_frames or any(entry.is_discard for entry in entries):
        return None
    times = [entry.timestamp for entry in entries]
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]

    def packets(key: int) -> Packets:
        container.seek(keys[key], stream=stream)
        return container.demux(stream)

    return _Table(times, keys, packets) if keys[:1] == times[:1] else None
