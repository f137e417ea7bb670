"""Whether a decoder, asked for frame i, gives frame i: random access beside sequential decoding."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import Decoder, read_frames
from vssl.data.probe import Probe, probe
from vssl.errors import VsslError

READS = 8
"""Reads per file, spread over its length: some errors come up in half of the reads only."""

CLIP = 8
"""Frames per read."""

GRID = 32
"""Pictures are compared in this many rows and columns of their pixels."""

NOISE = 0.05
"""Grey levels by which a wrong picture may seem nearer than the right one: decoders round colours unlike."""


def exact(path: Path, decoder: Decoder) -> bool:
    """Whether random access through `decoder` gives the frames that decoding from the start gives.

    False too if the decoder cannot read the file. Raises `BadVideo` if nothing can.
    """
    return examine(path, decoder)[1]


def examine(path: Path, decoder: Decoder) -> tuple[Probe, bool]:
    """The facts of a file, and `exact`, from one pass over it."""
    shown: list[NDArray[np.int16]] = []
    facts = probe(path, see=lambda picture_HWC: shown.append(_sparse(picture_HWC)))
    try:
        return facts, all(_right(path, decoder, clip_T, np.stack(shown)) for clip_T in _clips(facts.frames))
    except VsslError:
        return facts, False


def _clips(num_frames: int) -> list[NDArray[np.int64]]:
    """Frames as training asks for them: from the whole length, at steps of 1 to 4."""
    starts = np.linspace(num_frames - 1, 0, READS).round().astype(np.int64)
    clips = [start + (1 + n % 4) * np.arange(CLIP) for n, start in enumerate(starts)]
    return [clip_T[clip_T < num_frames] for clip_T in clips]


def _right(path: Path, decoder: Decoder, clip_T: NDArray[np.int64], shown_NHWC: NDArray[np.int16]) -> bool:
    """Whether no other frame of the file is nearer to what the decoder gives for frame i than frame i is."""
    given_THWC = np.stack([_sparse(picture_HWC) for picture_HWC in read_frames(path, clip_T, decoder)])
    if given_THWC.shape[1:] != shown_NHWC.shape[1:]:
        return False
    distance_TN = np.stack([np.abs(shown_NHWC - given_HWC).mean(axis=(1, 2, 3)) for given_HWC in given_THWC])
    own_T = distance_TN[np.arange(len(clip_T)), clip_T]
    return bool((own_T <= distance_TN.min(axis=1) + NOISE).all())


def _sparse(picture_HWC: NDArray[np.uint8]) -> NDArray[np.int16]:
    rows, columns = (max(1, side // GRID) for side in picture_HWC.shape[:2])
    return picture_HWC[::rows, ::columns].astype(np.int16)
