"""What is wrong with a video file, if anything, and which decoder reads it rightly."""

import hashlib
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from vssl.data.decode import FROM_START, BadVideo, Decoder, read_frames
from vssl.data.decoders.pyav import HELD, Reading, reading
from vssl.data.exactness import exact, examine
from vssl.data.index import DIGEST_BYTES
from vssl.data.probe import MP4_BOXES, Probe, unreadable
from vssl.errors import VsslError

SLACK = 2
"""Frames by which the header of a sound file may be wrong: DivX files often are."""

UNKNOWN = {0, *(2**bits - 1 for bits in (31, 32, 63, 64))}
"""What writers that cannot go back (into a pipe, say) leave as the length of what follows."""

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""How a Matroska (mkv, webm) file begins, and what marks the part of it that holds all else."""


class Finding(NamedTuple):
    """What a check finds out about one file; `verdict` is a key of `vssl.data.index.VERDICTS`."""

    verdict: str
    detail: str = ""
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    decoder: str = ""
    digest: str = ""
    size: int = 0


def examine_file(path: Path, first: Decoder) -> Finding:
    """Read a file once as a whole, and again in pieces through the decoder `first`; if that gives other
    frames than reading from the start, find a decoder that does not.

    A file that the system does not hand out has no digest: another time it may.
    """
    try:
        return _found(path, first)._replace(digest=_digest(path))
    except OSError as error:
        bad = unreadable(path, error)
        return Finding(bad.cause, bad.what)


def _found(path: Path, first: Decoder) -> Finding:
    try:
        facts, is_right = examine(path, first)
        # The optional decoders are not turned to unasked.
        decoder = first if is_right else next(filter(partial(exact, path), {"pyav"} - {first}), FROM_START)
    except BadVideo as error:
        cut = error.cause in ("not a video", "damaged") and _bytes_lost(path) > 0
        return Finding("truncated" if cut else error.cause, error.what)
    takes = reading(path) if decoder == "pyav" else "parts"
    if takes == "from start":
        decoder = FROM_START  # as pyav does it, without looking for a table each time
    other = "" if is_right else decoder
    remarks = list(_remarks(path, facts, first, other, takes)) or [("ok", "")]
    looks = (facts.frames, facts.fps, facts.width, facts.height, facts.codec, decoder)
    return Finding(remarks[0][0], "; ".join(detail for _, detail in remarks), *looks)


def _remarks(
    path: Path, facts: Probe, first: Decoder, other: Decoder, takes: Reading
) -> Iterator[tuple[str, str]]:
    """What is to be said about a file that decodes, the worst first: a verdict and the facts behind it.

    first, other: the decoder that was asked for, and the one that is right instead of it, if it is not.
    """
    lost, size = _bytes_lost(path), path.stat().st_size
    is_whole = facts.frames >= facts.header_frames > 0 and not facts.cut_off
    says = f"{facts.frames} frames decode, the header says {facts.header_frames or 'nothing'}"
    ends = f"{lost:,} bytes are missing at its end"
    shapes = ", ".join(f"{width}x{height}" for width, height in facts.sizes)
    chosen = f"number {facts.stream + 1} of {facts.streams} is read, {facts.width}x{facts.height}"
    how = f"read through {other}" if other != FROM_START else "decoded from its start for each clip"
    opens = not other or first == "pyav" or _opens(path, first)
    unequal = abs(facts.header_frames - facts.frames) > SLACK and facts.header_frames
    all_remarks = [
        (lost and not is_whole, "truncated", f"{ends}; {says}"),
        (not opens, "codec", f"{first} cannot read {facts.codec}: {how}"),
        (facts.hidden, "stream-copied cut", f"{facts.packets} pictures, of which {facts.frames} are shown"),
        (opens and other, "random access is wrong", f"{first} gives other frames after a seek: {how}"),
        (takes == "whole file" and size > HELD, "long", f"each clip reads all its {size / 1e6:,.0f} MB"),
        (len(facts.sizes) > 1, "changing size", f"{shapes}; all are scaled to the first"),
        (facts.streams > 1, "several video streams", chosen),
        (facts.interlaced, "interlaced", f"{facts.interlaced} of {facts.frames} frames hold two moments"),
        (facts.variable_rate, "variable frame rate", f"{facts.fps:.3g} frames per second on average"),
        (lost and is_whole, "header is wrong", f"{ends}, but all frames are there"),
        (unequal, "header is wrong", says),
    ]
    return ((verdict, detail) for applies, verdict, detail in all_remarks if applies)


def _opens(path: Path, decoder: Decoder) -> bool:
    try:
        read_frames(path, np.zeros(1, np.int64), decoder)
    except VsslError:
        return False
    return True


def _bytes_lost(path: Path) -> int:
    """Bytes between the end of the file and the end that its container claims."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        kind = file.read(4)
        if kind == b"RIFF":  # its first chunk is all of an AVI below 1 GB
            length = int.from_bytes(file.read(4), "little")
            end = 0 if length in UNKNOWN else 8 + length
        else:
            end = _matroska_end(file) if kind == EBML else _mp4_end(file, size)
    return max(0, end - size)


def _mp4_end(file: BinaryIO, size: int) -> int:
    """End of the last box that begins inside of the file; 0 if these are no boxes."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        known = head[4:8].isalnum() if end else head[4:8] in MP4_BOXES
        if length < 8 or length in UNKNOWN or not known:  # a length of 0 means: to the end of the file
            return 0
        end += length
    return end


def _matroska_end(file: BinaryIO) -> int:
    """End of the segment that follows the header; 0 if its length is not told."""
    file.seek(_matroska_number(file), 1)
    if file.read(4) != SEGMENT:
        return 0
    length = _matroska_number(file)
    return file.tell() + length if length >= 0 else 0


def _matroska_number(file: BinaryIO) -> int:
    """A length, in as many bytes as its first one has leading zeros and one more; -1: unknown (all ones)."""
    first = int.from_bytes(file.read(1), "big")  # 0 at the end of the file
    more = 8 - first.bit_length()
    ones = (1 << 7 * (more + 1)) - 1
    value = (first << 8 * more | int.from_bytes(file.read(more), "big")) & ones
    return value if value < ones else -1


def _digest(path: Path) -> str:
    """Hash of the content; of nothing for what is no regular file."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if stat.S_ISREG(path.stat().st_mode):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
