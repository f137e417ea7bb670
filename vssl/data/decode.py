"""Frames of a video file by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.errors import VsslError


def read_frames(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode the frames with the given 0-based numbers (any order, repeats allowed) as RGB [T,H,W,C].

    Each distinct frame is decoded once. Raises VsslError if the file is missing, is no video that
    decord can read, or has no frame of such a number.
    """
    reader = _open(path)
    distinct, position_T = np.unique(frames_T, return_inverse=True)
    if distinct[0] < 0 or distinct[-1] >= len(reader):
        raise VsslError(
            f"{path}: frames {distinct[0]} to {distinct[-1]} were asked for, but it has {len(reader)}; "
            "the index of this data set is out of date: build it again"
        )
    return _decode(path, reader, distinct)[position_T]


def _open(path: Path) -> Any:
    # The reader lives for one call: one that is opened before a fork hangs in the child, and an
    # idle one hoards decoded frames.
    import decord

    if not path.is_file():
        raise VsslError(f"{path}: no such file; check the folder of the data set or build its index again")
    try:
        return decord.VideoReader(str(path), num_threads=1)
    except (decord.DECORDError, RuntimeError) as error:
        raise VsslError(_unreadable(path, error)) from error


def _decode(path: Path, reader: Any, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    import decord

    try:
        frames_THWC: NDArray[np.uint8] = reader.get_batch(frames_T).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        raise VsslError(_unreadable(path, error)) from error
    return frames_THWC


def _unreadable(path: Path, error: Exception) -> str:
    # The first line of decord's message ends in the cause; its native stack trace follows.
    cause = str(error).partition("\n")[0].rpartition("] ")[2]
    return (
        f"{path}: cannot be decoded ({cause}); re-encode it as H.264 (decord cannot read AV1) "
        "or take it out of the list"
    )
