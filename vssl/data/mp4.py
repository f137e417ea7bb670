"""Where the pictures of an mp4 file lie, if they are shown in the order in which they are decoded.

Such are synthetic videos and those that `mode=prepare` writes. Half of the time of reading a clip went into
opening the file and into seeking, and both can be done without. Of ISO/IEC 14496-12, only what FFmpeg writes
for them is read.
"""

import os
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

UPRIGHT = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""The display matrix of a picture that is shown as it is."""

SAMPLE_ENTRY, DESCRIPTION = 78, {b"avcC", b"pasp", b"btrt"}
"""Bytes of a visual sample entry before its boxes; those boxes that leave pixels alone."""

LAST_SLICE = REFRESH = 5
PARAMETERS = {7, 8, 13, 15}
"""Types of the units of a coded picture (ITU-T H.264, 7.4.1): those up to 5 are its slices, before which all
others stand, 5 those of a picture with which decoding begins anew; the last four say how whatever follows is
to be decoded."""

Boxes = dict[bytes, bytes]


@dataclass(frozen=True)
class Pictures:
    """Coded pictures in the order in which they are shown.

    setup: what an H.264 decoder reads first. size: width and height in pixels, to which FFmpeg crops what
    decodes. keys_K: numbers of the key frames, rising from 0.
    """

    setup: bytes
    size: tuple[int, int]
    starts_N: NDArray[np.int64]
    sizes_N: NDArray[np.int64]
    keys_K: NDArray[np.int64]

    @property
    def are_alone(self) -> bool:
        """Whether no picture refers to another one."""
        return len(self.keys_K) == len(self.sizes_N)

    def needed(self, frames_T: NDArray[np.int64]) -> list[int]:
        """The numbers, rising, of all pictures that are decoded for these: each from its key frame on."""
        if self.are_alone:
            return list(frames_T.tolist())
        firsts_T = self.keys_K[np.searchsorted(self.keys_K, frames_T, "right") - 1]
        return sorted(set[int]().union(*map(range, firsts_T.tolist(), (frames_T + 1).tolist())))


def pictures(file: int) -> Pictures | None:
    """The pictures of an open file.

    None unless it is an mp4 file of H.264 alone, in which all of them are shown as they are decoded, upright,
    from the first to the last, in the colours that they themselves tell of, and none is missing.
    """
    length = os.fstat(file).st_size
    try:
        found = _of_movie(_movie(file, length))
        is_there = (found.starts_N + found.sizes_N).max() <= length
    except (KeyError, IndexError, struct.error, ValueError):  # a box is missing, too short, twice or unusual
        return None
    return found if is_there else None


def kind_of(picture: bytes) -> int:
    """The type of the unit that tells most of a coded picture: `REFRESH` if it refers to no other one, one of
    `PARAMETERS` if it changes how the next ones are decoded, those of another file too."""
    at, kind = 0, LAST_SLICE + 1
    while at + 4 < len(picture) and kind > LAST_SLICE and kind not in PARAMETERS:
        kind = picture[at + 4] & 31
        at += 4 + int.from_bytes(picture[at : at + 4], "big")
    return kind


def _movie(file: int, length: int) -> bytes:
    """The content of the movie box of an mp4 file, whichever it is; raises `ValueError` if there is none."""
    begin, end, kind = 0, 0, b""
    while kind != b"moov":
        begin = end
        size, kind = struct.unpack(">I4s", os.pread(file, 8, begin))
        end = begin + size
        if size < 8 or end > length or (begin == 0) != (kind == b"ftyp"):
            raise ValueError("other than an mp4 file")
    return os.pread(file, size - 8, begin + 8)


def _of_movie(movie: bytes) -> Pictures:
    boxes = _boxes(movie)
    track = _boxes(boxes[b"trak"])
    media = _boxes(track[b"mdia"])
    table = _boxes(_boxes(media[b"minf"])[b"stbl"])
    [(kind, entry)] = _boxes(table[b"stsd"][8:]).items()
    described = _boxes(entry[SAMPLE_ENTRY:])
    is_upright = UPRIGHT in track[b"tkhd"] and UPRIGHT in boxes[b"mvhd"]
    is_whole = b"edts" not in track or _shows_all(track[b"edts"], boxes[b"mvhd"], media[b"mdhd"])
    # ctts would give the times of pictures that are out of order, mvex announces more of them.
    are_in_order = b"ctts" not in table and b"mvex" not in boxes
    has_sizes = not any(table[b"stsz"][4:8])  # else all pictures have this one
    has_lengths = described[b"avcC"][4] & 3 == 3  # of four bytes, before each unit of a picture
    is_plain = kind == b"avc1" and described.keys() <= DESCRIPTION and has_lengths
    if not (is_upright and is_whole and are_in_order and has_sizes and is_plain):
        raise ValueError("other than one picture after the other")
    sizes_N = _numbers(table[b"stsz"][4:], ">u4")
    width, height = struct.unpack_from(">24xHH", entry)
    keys_K = _keys(table, len(sizes_N))
    return Pictures(described[b"avcC"], (width, height), _starts(table, sizes_N), sizes_N, keys_K)


def _keys(table: Boxes, count: int) -> NDArray[np.int64]:
    """Numbers of the key frames, which are all of them if none is named."""
    if b"stss" not in table:
        return np.arange(count)
    keys_K = _numbers(table[b"stss"], ">u4") - 1
    if keys_K[0] != 0 or (np.diff(keys_K) <= 0).any() or keys_K[-1] >= count:
        raise ValueError("key frames that cannot be")
    return keys_K


def _shows_all(edits: bytes, movie: bytes, media: bytes) -> bool:
    """Whether an edit list only says that the track is shown from its first picture to its last."""
    version, count, length, first, rate = struct.unpack_from(">B3xIIiI", _boxes(edits)[b"elst"])
    [movie_rate] = struct.unpack_from(">12xI", movie)
    media_rate, media_length = struct.unpack_from(">12xII", media)
    versions = {version, movie[0], media[0]}
    whole = Fraction(length, movie_rate) >= Fraction(media_length, media_rate)
    return versions == {0} and count == 1 and first == 0 and rate == 0x10000 and whole


def _starts(table: Boxes, sizes_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pictures lie one after the other in chunks, of which runs have the same number of pictures."""
    starts_C = _numbers(table[b"stco"], ">u4") if b"stco" in table else _numbers(table[b"co64"], ">u8")
    runs_R3 = _numbers(table[b"stsc"], ">u4", 3).reshape(-1, 3)
    chunks_R = np.append(runs_R3[1:, 0], len(starts_C) + 1) - runs_R3[:, 0]
    pictures_C = np.repeat(runs_R3[:, 1], chunks_R)
    if pictures_C.sum() != len(sizes_N):
        raise ValueError("chunks of other pictures")
    before_N = np.cumsum(sizes_N) - sizes_N
    first_C = np.cumsum(pictures_C) - pictures_C
    return np.asarray(before_N + np.repeat(starts_C - before_N[first_C], pictures_C))


def _numbers(content: bytes, kind: str, columns: int = 1) -> NDArray[np.int64]:
    """A table behind its number of rows."""
    [rows] = struct.unpack_from(">4xI", content)
    return np.frombuffer(content, np.dtype(kind), rows * columns, 8).astype(np.int64)


def _boxes(content: bytes) -> Boxes:
    """The boxes in a box, by name. Raises `ValueError` for two of one name: two tracks, say."""
    found: Boxes = {}
    at = 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        if size < 8 or kind in found:  # 0 and 1: lengths of files beyond 4 GB
            raise ValueError("an unusual box")
        found[kind] = content[at + 8 : at + size]
        at += size
    return found
