"""Decord: fast, but blind to AV1, and off by frames after a seek in DivX files, open GOPs and cuts."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import check_range, undecodable


def read(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode frames; see `vssl.data.decode.read_frames`."""
    import decord

    try:
        # The reader lives for one call: one that is opened before a fork hangs in the child, and an
        # idle one hoards decoded frames. More threads than one have hung, too.
        reader = decord.VideoReader(str(path), num_threads=1)
        check_range(path, frames_T, len(reader))
        frames_THWC: NDArray[np.uint8] = reader.get_batch(frames_T).asnumpy()
    except (decord.DECORDError, RuntimeError, UnicodeEncodeError) as error:  # the last: of the file's name
        # The first line of decord's message ends in the cause; its native stack trace follows.
        cause = str(error).partition("\n")[0].rpartition("] ")[2]
        raise undecodable(path, cause, "re-encode it as H.264 (decord cannot read AV1; pyav can)") from error
    return frames_THWC
