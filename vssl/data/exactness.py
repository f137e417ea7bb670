"""Whether a decoder, asked for frame i, gives frame i: random access beside sequential decoding."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import Decoder, read_frames
from vssl.data.probe import Probe, probe, shown_packets
from vssl.errors import VsslError

READS = 8
"""Reads per file, spread over its length: some errors come up in half of the reads only."""

CLIP = 8
"""Frames per read."""

GRID = 32
"""Pictures are compared in this many rows and columns of their pixels."""

NOISE = 0.05
"""Grey levels by which a wrong picture may seem nearer than the right one: decoders round colours unlike."""

UNLIKE = 10.0
"""Grey levels by which the same picture differs between libraries at most: 3 of ten bits, 7 of two fields.
What differs more is turned or mirrored another way. Our own code gives the same picture to the bit."""


def exact(path: Path, decoder: Decoder) -> bool:
    """Whether random access through `decoder` gives the frames that decoding from the start gives.

    False too if the decoder cannot read the file. Raises `BadVideo` if nothing can.
    """
    return examine(path, decoder)[1]


def examine(path: Path, decoder: Decoder) -> tuple[Probe, bool]:
    """The facts of a file, and `exact`; from one pass over it, if each of its packets is a frame."""
    reads = _Reads(path, decoder, shown_packets(path))
    facts = probe(path, see=reads.see)
    if facts.frames != reads.num_frames:
        reads = _Reads(path, decoder, facts.frames)
        probe(path, see=reads.see)
    return facts, reads.are_right


class _Reads:
    """What a decoder gives for some frames of a file, compared with all of its frames as they pass by.

    It holds no more of them than it reads, however long the file is.
    """

    def __init__(self, path: Path, decoder: Decoder, num_frames: int) -> None:
        self.num_frames, self._seen = num_frames, 0
        clips = list(_clips(num_frames))
        self._frames_R = np.concatenate([*clips, np.zeros(0, np.int64)])
        self._own_R, self._nearest_R = np.full((2, len(self._frames_R)), np.inf)
        self._is_own_code = decoder == "pyav"
        self._shapes: set[tuple[int, ...]] = set()
        try:
            given = [
                self._noted(picture) for clip_T in clips for picture in read_frames(path, clip_T, decoder)
            ]
        except VsslError:
            given = []
        self._given_RHWC = np.stack(given) if given and len(self._shapes) == 1 else None

    def _noted(self, picture_HWC: NDArray[np.uint8]) -> NDArray[np.int16]:
        self._shapes.add(picture_HWC.shape)
        return _sparse(picture_HWC)

    def see(self, picture_HWC: NDArray[np.uint8]) -> None:
        """Compare with the next frame of the file."""
        own_R = self._frames_R == self._seen
        self._seen += 1
        if self._given_RHWC is None or (self._is_own_code and not own_R.any()):
            return
        if picture_HWC.shape not in self._shapes:
            self._given_RHWC = None
            return
        difference_RHWC = np.abs(self._given_RHWC - _sparse(picture_HWC))
        distance_R = difference_RHWC.mean(axis=(1, 2, 3), dtype=np.float32)
        self._nearest_R = np.minimum(self._nearest_R, distance_R)
        self._own_R[own_R] = distance_R[own_R]

    @property
    def are_right(self) -> bool:
        """Whether what was given for each frame is like it, and no other frame is nearer to it."""
        is_like_R = self._own_R <= (0 if self._is_own_code else UNLIKE)
        is_nearest_R = self._own_R <= self._nearest_R + NOISE
        return self._given_RHWC is not None and bool((is_like_R & is_nearest_R).all())


def _clips(num_frames: int) -> Iterable[NDArray[np.int64]]:
    """Frames as training asks for them: from the whole length, at steps of 1 to 4."""
    starts = np.linspace(num_frames - 1, 0, READS if num_frames else 0).round().astype(np.int64)
    clips = (start + (1 + n % 4) * np.arange(CLIP) for n, start in enumerate(starts))
    return (clip_T[clip_T < num_frames] for clip_T in clips)


def _sparse(picture_HWC: NDArray[np.uint8]) -> NDArray[np.int16]:
    rows, columns = (max(1, side // GRID) for side in picture_HWC.shape[:2])
    return picture_HWC[::rows, ::columns].astype(np.int16)
