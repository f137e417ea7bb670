"""Videos transcoded to what training reads fastest: small, one key frame every few frames, no sound."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from vssl.data.decode import BadVideo
from vssl.data.decoders.pyav import open_video
from vssl.data.journal import State, noted, state_of
from vssl.data.lists import walk
from vssl.data.operations.crop import resize
from vssl.data.probe import probe, unreadable
from vssl.errors import VsslError
from vssl.files import owned, remove_leftovers, write_atomically

LISTS = (".txt", ".csv", ".json")
"""Files that are copied beside the videos."""

JOURNAL = ".journal.jsonl"
"""In the folder of prepared videos: what was made of which state of each file."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the system says where no file can be written any more."""

WHOLE = 0.95
"""A file with a smaller share of the frames that its header promises is cut off; headers err a little."""


@dataclass(frozen=True)
class PreparedFormat:
    """What prepared videos are like.

    size: height and width in pixels; or the short side, if it is longer than that. H.264 needs even sides:
        an odd one is made so by repeating the last row or column, which training cuts off again.
    crf: constant rate factor of x264 (0 lossless, 51 worst). gop: frames from one key frame to the next.
    """

    size: int | list[int]
    crf: int
    gop: int

    def sides(self, height: int, width: int) -> list[int]:
        """Height and width of the pictures of a video that now has these; a short side makes both even."""
        if not isinstance(self.size, int):
            return list(self.size)
        scale = min(1.0, self.size / min(height, width))
        return [2 * max(1, round(side * scale / 2)) for side in (height, width)]


def transcode(source: Path, target: Path, look: PreparedFormat) -> None:
    """Write `source` as H.264 in mp4, whatever its name, so that frame i stays frame i.

    All frames that a viewer is shown are kept, turned upright, and come at the mean of the source's rate.
    They are resized as training does it: what changes for a training is the compression only.
    A kill leaves no half-written target. Raises `BadVideo` if the source cannot be decoded to its end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".part.{os.getpid()}")  # the name of a video may be as long as any can be
    try:
        with av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"}) as container:
            writer = _Writer(source, container, look)
            facts = probe(source, see=writer.add)
            container.mux(writer.stream.encode())
        if facts.frames + facts.hidden < WHOLE * facts.header_frames:
            what = f"{facts.frames} frames decode, the header says {facts.header_frames}"
            raise BadVideo(source, "truncated", what, "fetch it again")
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


class _Writer:
    """Encodes frames into a new file, from the first one's size on."""

    def __init__(self, source: Path, container: av.container.OutputContainer, look: PreparedFormat) -> None:
        self.source, self.container, self.look = source, container, look
        self.count = 0

    def add(self, picture_HWC: NDArray[np.uint8]) -> None:
        """Append a picture, resized as in training, then made even."""
        if not self.count:
            self.sides = self.look.sides(*picture_HWC.shape[:2])
            self.stream = self._begin()
        frame_CHW = torch.from_numpy(np.ascontiguousarray(picture_HWC)).permute(2, 0, 1)
        small_HWC = resize(frame_CHW[None], self.sides)[0].permute(1, 2, 0).numpy()
        odd_rows, odd_columns = (side % 2 for side in self.sides)
        even_HWC = np.pad(small_HWC, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(even_HWC, format="rgb24")
        frame.pts = self.count
        frame.time_base = 1 / self.stream.codec_context.framerate
        self.count += 1
        self.container.mux(self.stream.encode(frame))

    def _begin(self) -> av.VideoStream:
        stream = open_video(self.source)
        with stream.container:
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        gop = str(self.look.gop)
        # Without loop filter and arithmetic coding, decoding takes two thirds of the time and the file
        # one sixth more. A scene cut makes no key frame of its own.
        speed = {"preset": "medium", "tune": "fastdecode", "bf": "0", "sc_threshold": "0", "threads": "1"}
        options = {**speed, "crf": str(self.look.crf), "g": gop, "keyint_min": gop}
        rate = max(Fraction(1), rate.limit_denominator(1001))
        stream = self.container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = (side + side % 2 for side in self.sides)
        stream.pix_fmt = "yuv420p"
        return stream


def transcode_file(name: str, root: Path, out: Path, look: PreparedFormat) -> tuple[State | None, str]:
    """Transcode one file of a folder into another, in a process of its own.

    Return its state, if that decides what comes of it, and why it failed, if so. Raises VsslError if nothing
    more can be written.
    """
    torch.set_num_threads(1)
    state = state_of(root / name)
    try:
        transcode(root / name, out / name, look)
    except BadVideo as error:
        is_of_file = not isinstance(error.__cause__, OSError)  # else another time the system may hand it out
        return state if is_of_file else None, str(error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        remedy = "free some space: the same command goes on where it was"
        raise VsslError(f"{out}: cannot be written ({error.strerror}); {remedy}") from error
    return state, ""


def to_prepare(names: Sequence[str], root: Path, out: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the files that are new or have changed, by the journal; and why the same ones failed before.

    A copy whose source has gone is kept.
    """
    outcomes = {name: (state, reason) for name, state, reason in noted(out / JOURNAL)}
    left, failed = [], {}
    for name in names:
        now, (then, reason) = state_of(root / name), outcomes.get(name, (None, ""))
        copy = state_of(out / name)
        if reason and then == now:
            failed[name] = reason
        elif copy is None or (now is not None and now != then and (then or now[1] > copy[1])):
            left.append(name)
    return left, failed


def copy_lists(root: Path, out: Path) -> dict[str, str]:
    """Copy what is no video but may list some; return why files failed, by name."""
    failed = {}
    for name in walk(root):
        if name.endswith(LISTS) and (root / name).is_file():
            try:
                content = (root / name).read_bytes()
            except OSError as error:
                failed[name] = str(unreadable(root / name, error))
                continue
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out / name, content)
    return failed


@contextmanager
def claimed(out: Path, look: PreparedFormat) -> Iterator[None]:
    """Own the folder of prepared videos while the block runs, without what a killed process left there.

    Raises `VsslError` if another process owns it, or if what it holds was prepared to look otherwise.
    """
    with owned(out, "preparing videos", "prepare.out"):
        for folder, _, _ in os.walk(out):
            remove_leftovers(Path(folder))
        noted, wanted = out / ".prepared.json", json.loads(json.dumps(asdict(look)))
        found = json.loads(noted.read_text()) if noted.exists() else wanted
        if found != wanted:
            raise VsslError(
                f"{out}: holds videos prepared with {found}, not {wanted}; choose another prepare.out, or "
                "delete it"
            )
        write_atomically(noted, json.dumps(wanted))
        yield
