"""What a video file really holds: found by decoding every frame of it, once, from the first to the last."""

import stat
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from vssl.data.decode import BadVideo, Cause
from vssl.data.decoders.pyav import Look, Size, films, open_video, to_rgb

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
"""What stands in bytes 4 to 8 of an mp4 or mov file, whole or not."""

STEADY = 0.1
"""Frames may come early or late by this share of the time between two of them; more is a variable rate."""

NO_TIME = -(2**63)
"""Stands for the time of a frame that has none."""


@dataclass(frozen=True)
class Probe:
    """Facts of one file.

    frames: pictures that a viewer is shown, which is how many the decoder gives from the first to the last,
    those that an edit list hides left out.
    packets: coded pictures in the file, those that nobody is shown included.
    hidden: packets that the file's edit list hides: more than 0 in a cut that was made without re-encoding.
    cut_off: packets of which the end is missing.
    header_frames: what the header says; 0 if it says nothing. Often wrong by one or two.
    fps: mean rate; variable_rate: whether the frames come at unequal times.
    width, height: in pixels, as shown: after turning; of the first picture, to which others are scaled.
    sizes: of the pictures as coded, in the order in which they come.
    interlaced: pictures that hold two moments, in every other row.
    codec: name such as h264, mpeg4, av1.
    streams: video streams in the file, of which number `stream`, from 0, is the one that all this is about.
    """

    frames: int
    packets: int
    hidden: int
    cut_off: int
    header_frames: int
    fps: float
    variable_rate: bool
    width: int
    height: int
    sizes: list[Size]
    interlaced: int
    codec: str
    streams: int
    stream: int


def probe(path: Path, see: Callable[[NDArray[np.uint8]], object] = lambda picture_HWC: None) -> Probe:
    """Decode the whole file, and show every picture (RGB [H,W,C]) to `see`, in the order of a viewer.

    Raises `BadVideo` with file, cause and remedy.
    """
    stream = _open(path)
    with stream.container as container:
        seen = _Seen()
        for picture_HWC in seen.pictures(path, stream):
            height, width = picture_HWC.shape[:2]
            see(picture_HWC)
        if not seen.times:
            raise BadVideo(path, "damaged", "none of its frames can be decoded", "take it out of the list")
        return Probe(
            frames=len(seen.times),
            packets=seen.packets,
            hidden=seen.hidden,
            cut_off=seen.cut_off,
            # A writer that does not yet know the number leaves one that cannot be, such as 2^30 or 2^32 - 1.
            header_frames=stream.frames if stream.frames <= path.stat().st_size else 0,
            fps=float(stream.average_rate or stream.guessed_rate or 0),
            variable_rate=_unsteady(seen.times),
            width=width,
            height=height,
            sizes=list(seen.sizes),
            interlaced=seen.interlaced,
            codec=stream.codec_context.codec.canonical_name,
            streams=len(films(container)),
            stream=container.streams.video.index(stream),
        )


class _Seen:
    """What passes by while a file is decoded: no more is kept of a frame than its time, in 8 bytes."""

    def __init__(self) -> None:
        self.packets = self.hidden = self.cut_off = self.interlaced = 0
        self.times = array("q")
        self.sizes: dict[Size, None] = {}
        self.first: Look | None = None

    def pictures(self, path: Path, stream: av.VideoStream) -> Iterator[NDArray[np.uint8]]:
        """The pictures that a viewer is shown; raises `BadVideo` where they break off."""
        try:
            for packet in stream.container.demux(stream):
                self.packets += packet.size > 0
                self.hidden += packet.is_discard
                self.cut_off += packet.is_corrupt
                for frame in packet.decode():
                    self.times.append(NO_TIME if frame.pts is None else frame.pts)
                    self.interlaced += frame.interlaced_frame
                    self.sizes.setdefault((frame.width, frame.height))
                    self.first = self.first or Look.of(frame)
                    yield to_rgb(frame, self.first)
        except MemoryError:  # FFmpeg's is also an FFmpegError; no file is to blame for it
            raise
        except FFmpegError as error:
            what = f"breaks off after {len(self.times)} frames ({error.strerror})"
            raise BadVideo(path, "damaged", what, "fetch it again or take it out of the list") from error


def shown_packets(path: Path) -> int:
    """Coded pictures that are shown: as many as there are frames in nearly all files, and soon counted."""
    stream, count = _open(path), 0
    with stream.container as container, suppress(FFmpegError):  # `probe` says it better
        for packet in container.demux(stream):
            count += packet.size > 0 and not packet.is_discard
    return count


def unreadable(path: Path, error: OSError) -> BadVideo:
    """The error for a file that the system does not hand out."""
    cause: Cause = "missing" if isinstance(error, FileNotFoundError) else "damaged"
    what = f"cannot be read ({error.strerror})"
    return BadVideo(path, cause, what, "check the folder of the data set, its permissions and its disk")


def _open(path: Path) -> av.VideoStream:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise BadVideo(path, "missing", "no regular file", "take it out of the list")
        with open(path, "rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise unreadable(path, error) from error
    if not beginning:
        raise BadVideo(path, "empty", "empty file", "fetch it again")
    try:
        return open_video(path)
    except MemoryError:
        raise
    except FFmpegError as error:
        if beginning[4:] in MP4_BOXES:
            what = f"ends before its table of frames ({error.strerror})"
            raise BadVideo(path, "truncated", what, "fetch it again") from error
        what = f"not a video ({error.strerror})"
        raise BadVideo(path, "not a video", what, "take it out of the list") from error


def _unsteady(times: Sequence[int]) -> bool:
    """Whether the steps in time differ; times that do not rise (DivX in AVI) are no times at all."""
    steps = np.diff(np.array(times))
    if NO_TIME in times or not len(steps) or steps.min() <= 0:
        return False
    usual = np.median(steps)
    return bool(np.abs(steps - usual).max() > max(1, STEADY * usual))
