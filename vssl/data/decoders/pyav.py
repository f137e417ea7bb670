"""PyAV: FFmpeg inside the package. Frames are found by their times, so that no seek can go wrong."""

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vssl.data.decode import BadVideo, check_range, undecodable
from vssl.data.mp4 import PARAMETERS, REFRESH, Pictures, kind_of, pictures

TIMED = ("mov", "matroska")
"""Containers whose times are those of the pictures. AVI has none: FFmpeg guesses, and DivX with B-frames
comes out of order."""

SKIPS = ("h264", "hevc")
"""Codecs whose decoders heed, for every packet anew, that its picture may be skipped."""

HELD = 2**26
"""Bytes up to which all packets of a file are held in memory while a clip is read."""

NOT_CONSTANT, CONSTANT = 9, 10
"""The matrices of BT.2020 (ITU-T H.273, table 4). FFmpeg converts the first one only; the other, of constant
luminance, is hardly used but by mistake, and was taken for it by FFmpeg before version 7."""

LENIENT = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""What lets PyAV open files with tags that are no UTF-8; from version 19 on, it always does."""

Size = tuple[int, int]
"""Width and height in pixels, as coded."""

_REFORMATTER = VideoReformatter()  # one for all: making one costs as much as converting a small frame


def read(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode frames; see `vssl.data.decode.read_frames`."""
    if (frames_THWC := _alone(path, frames_T)) is not None:
        return frames_THWC
    with _refusing(path):
        stream, table = _tabulated(path)
        with stream.container:
            if table is None:
                return np.stack(_counted(path, stream, frames_T))
            pictures = _look_up(path, stream, table, frames_T)
    if len({picture.shape for picture in pictures}) > 1:
        raise undecodable(path, "its pictures have more than one size")
    return np.stack(pictures)


def read_from_start(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    """As `read`, but decode everything before the last one of the frames, whatever the file says of times."""
    with _refusing(path):
        stream = open_video(path)
        with stream.container:
            return np.stack(_counted(path, stream, frames_T))


Reading = Literal["parts", "whole file", "from start"]
"""What it takes to read a clip: some parts of the file, all of it, or to decode all that comes before."""


def reading(path: Path) -> Reading:
    """What `read` does with a file that it can read."""
    if _alone(path, np.zeros(1, np.int64)) is not None:
        return "parts"
    stream, table = _tabulated(path)
    with stream.container:
        return table.reading if table else "from start"


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Say what a decoder refuses in one line."""
    try:
        yield
    except MemoryError:  # FFmpeg's is also an FFmpegError; no file is to blame for it
        raise
    except FFmpegError as error:
        raise undecodable(path, str(error.strerror)) from error
    except BadVideo as error:
        raise undecodable(path, error.what) from error


def _alone(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """The pictures of a file that needs no opening; None for any other, and for one that is damaged."""
    try:
        with open(path, "rb", buffering=0) as file:
            if (found := pictures(file.fileno())) is None:
                return None
            check_range(path, frames_T, len(found.sizes_N))
            shown = _decoded(file.fileno(), found, frames_T)
            return None if shown is None else np.stack(shown)
    except MemoryError:
        raise
    except (OSError, FFmpegError, ValueError):  # damaged; not one picture
        _decoder.cache_clear()  # it is in the middle of something
        return None


def _decoded(file: int, found: Pictures, frames_T: NDArray[np.int64]) -> list[NDArray[np.uint8]] | None:
    """The pictures; None where one of them is other than the file says, or tells how to decode others."""
    wanted, last, shown = set(frames_T.tolist()), -2, []
    context, needed = _decoder(found.setup, found.are_alone), found.needed(frames_T)
    places = zip(needed, found.sizes_N[needed].tolist(), found.starts_N[needed].tolist(), strict=True)
    for number, size, start in places:
        content = os.pread(file, size, start)
        is_first, kind = found.are_alone or number > last + 1, kind_of(content)
        if kind in PARAMETERS or (is_first and kind != REFRESH):
            return None
        if is_first and not found.are_alone:  # it refers to nothing that was seen before
            context.flush_buffers()
        [frame] = context.decode(av.Packet(content))
        if (frame.width, frame.height) != found.size:
            return None
        if number in wanted:
            shown.append(to_rgb(frame))
        last = number
    return shown


@lru_cache(maxsize=8)
def _decoder(setup: bytes, are_alone: bool) -> av.VideoCodecContext:
    """A decoder that stays: making one takes longer than decoding a picture.

    It refuses what is damaged; by default it would mend that with what it has seen before.
    """
    context = av.CodecContext.create("h264", "r")
    assert isinstance(context, av.VideoCodecContext)
    context.extradata, context.thread_count, context.options = setup, 1, {"err_detect": "explode"}
    return context


def open_video(path: Path) -> av.VideoStream:
    """Open a file, for one thread, at the stream that players show; `stream.container` is the file.

    Raises `BadVideo` if no video in it can be decoded, or FFmpegError.
    """
    container = av.open(str(path), **LENIENT)
    if not (streams := films(container)):
        raise BadVideo(path, "no video stream", "has no video stream", "take it out of the list")
    stream = max(streams, key=_prominence)
    if stream.codec_context is None:
        raise BadVideo(path, "damaged", "its codec is not known", "re-encode it")
    stream.codec_context.thread_count = 1
    return stream


def films(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The video streams of a file, without covers and thumbnails."""
    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & stills]


def _prominence(stream: av.VideoStream) -> int:
    """What FFmpeg chooses a stream by: its pixels, and 5,000,000 more for the one marked as the default."""
    context, is_default = stream.codec_context, stream.disposition & Disposition.default
    return 5_000_000 * bool(is_default) + (context.width * context.height if context else 0)


class Look(NamedTuple):
    """How a frame is shown: its size as coded, and the matrix by which it is turned and mirrored, if any."""

    size: Size
    matrix: bytes | None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Look":
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return cls((frame.width, frame.height), None if matrix is None else bytes(matrix))


def to_rgb(frame: av.VideoFrame, first: Look | None = None) -> NDArray[np.uint8]:
    """The RGB picture [H,W,C] of a decoded frame, turned and mirrored as its display matrix asks.

    first: the look of the file's first picture. One of another size is scaled to it, as FFmpeg does it; all
    are turned as that one, since pictures that ask for it themselves often do so once for all that follow.
    """
    (width, height), matrix = first or Look.of(frame)
    kind = None if (width, height) == (frame.width, frame.height) else "BICUBIC"
    if frame.colorspace == CONSTANT:
        frame.colorspace = NOT_CONSTANT
    try:
        # Without a number of threads it takes one per core, and spends four times the processor's time.
        picture = _REFORMATTER.reformat(frame, width, height, "rgb24", interpolation=kind, threads=1)
    except FFmpegError as error:
        colours = f"its colours, {frame.format.name} of matrix {int(frame.colorspace)}, cannot be converted"
        raise FFmpegError(error.errno or 0, colours) from error
    picture_HWC = np.asarray(picture.to_ndarray(), np.uint8)
    return picture_HWC if matrix is None else _upright(picture_HWC, matrix)


def _upright(picture_HWC: NDArray[np.uint8], matrix: bytes) -> NDArray[np.uint8]:
    """A picture whose point (x, y) is shown at (a x + c y, b x + d y); other angles as the nearest right one.

    matrix: a, b, u, c, d, v, x, y, w of ISO/IEC 14496-12, 6.2.2.
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    if max(abs(b), abs(c)) > max(abs(a), abs(d)):  # columns become rows
        picture_HWC, a, d = picture_HWC.transpose(1, 0, 2), c, b
    return picture_HWC[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


@dataclass(frozen=True)
class _Table:
    """When each frame is shown, and where decoding has to start for it.

    times: of all frames, rising; frame i is shown at the i-th. keys: of the key frames, rising.
    packets: the packets from the key frame of a number on, to the end of the file. may_skip: whether there
    may be pictures that no other picture needs. reading: what it takes.
    """

    times: list[int]
    keys: list[int]
    packets: Callable[[int], Iterable[av.Packet]]
    may_skip: bool
    reading: Reading

    def key_of(self, time: int) -> int:
        """Number of the last key frame that is shown no later: what refers to pictures before a key frame
        is also shown before it."""
        return max(0, bisect_right(self.keys, time) - 1)


def _tabulated(path: Path) -> tuple[av.VideoStream, _Table | None]:
    """An open file with its table, if there is one."""
    for tabulate in (_indexed, _demuxed):
        stream = open_video(path)
        if table := tabulate(path, stream):
            return stream, table
        stream.container.close()
    return open_video(path), None


def _indexed(path: Path, stream: av.VideoStream) -> _Table | None:
    """From the index of an mp4 or mov file, which knows times of decoding only; None if others are shown."""
    container = stream.container
    entries = list(stream.index_entries) if container.format.name.startswith("mov") else []
    times = [entry.timestamp for entry in entries]
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]
    if not keys or keys[0] != times[0] or len(set(times)) < len(times) or any(e.is_discard for e in entries):
        return None
    # A first picture that is shown as soon as it is decoded leaves no time to put others in order.
    first = next(container.demux(stream))
    if not first.pts == first.dts == times[0]:
        return None

    def packets(key: int) -> Iterator[av.Packet]:
        container.seek(keys[key], stream=stream)
        yield from container.demux(stream)

    return _Table(times, keys, packets, may_skip=False, reading="parts")


def _demuxed(path: Path, stream: av.VideoStream) -> _Table | None:
    """From all packets of a file; None if they have no usable times."""
    container = stream.container
    if not container.format.name.startswith(TIMED):
        return None
    is_held = container.size <= HELD
    held: list[av.Packet] = []
    marks: list[tuple[int | None, bool, bool]] = []
    for packet in container.demux(stream):
        if packet.size:
            marks.append((packet.pts, packet.is_keyframe, packet.is_discard))
        held += [packet] * is_held
    times = [time for time, _, is_discard in marks if time is not None and not is_discard]
    if any(time is None for time, *_ in marks) or len(set(times)) < len(times):
        return None
    keys = sorted((time, at) for at, (time, is_key, _) in enumerate(marks) if is_key and time is not None)
    starts = [at for _, at in keys] or [0]

    def packets(key: int) -> Iterable[av.Packet]:
        if is_held:
            return held[starts[key] :]
        anew = open_video(path)
        return islice(anew.container.demux(anew), starts[key], None)

    may_skip = stream.codec_context.codec.name in SKIPS
    return _Table(sorted(times), [time for time, _ in keys], packets, may_skip, "whole file")


def _look_up(
    path: Path, stream: av.VideoStream, table: _Table, frames_T: NDArray[np.int64]
) -> list[NDArray[np.uint8]]:
    check_range(path, frames_T, len(table.times))
    context = stream.codec_context
    pictures: list[NDArray[np.uint8]] = []
    for key, group in groupby([table.times[number] for number in frames_T.tolist()], table.key_of):
        times = list(group)
        found: dict[int | None, NDArray[np.uint8]] = {}
        context.flush_buffers()
        for packet in table.packets(key):
            if table.may_skip and packet.size:
                # A picture that nobody wants and no other picture needs is not decoded.
                context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
            found |= {frame.pts: to_rgb(frame) for frame in context.decode(packet) if frame.pts in times}
            if len(found) == len(times):
                break
        if len(found) < len(times):
            raise undecodable(path, f"{len(times) - len(found)} of its frames are damaged")
        pictures += [found[time] for time in times]
    return pictures


def _counted(path: Path, stream: av.VideoStream, frames_T: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """The pictures of these numbers, decoding from the first packet on."""
    wanted, count, first = frames_T.tolist(), 0, None
    found: list[NDArray[np.uint8]] = []
    for count, frame in enumerate(stream.container.decode(stream), start=1):
        first = first or Look.of(frame)
        if count - 1 == wanted[len(found)]:
            found.append(to_rgb(frame, first))
        if len(found) == len(wanted):
            break
    check_range(path, frames_T, count)
    return found
