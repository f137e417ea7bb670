"""torchcodec, which is optional: it needs the shared libraries of FFmpeg on the machine."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vssl.data.decode import check_range, undecodable
from vssl.errors import OptionError


def read(path: Path, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decode frames; see `vssl.data.decode.read_frames`. Raises VsslError without the library."""
    video_decoder = load()
    try:
        # Opened per call, as it does not survive a fork; "approximate" gives wrong frames at a variable rate.
        decoder = video_decoder(str(path), dimension_order="NHWC", seek_mode="exact", num_ffmpeg_threads=1)
        check_range(path, frames_T, len(decoder))
        frames_THWC: NDArray[np.uint8] = decoder.get_frames_at(frames_T.tolist()).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        raise undecodable(path, textwrap.shorten(str(error), 200)) from error
    return frames_THWC


def load() -> Any:
    """The library's decoder class; raises `OptionError` with the library's own reason if it does not load."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        remedy = "pip install torchcodec, in a version for this torch, and the libraries of FFmpeg (apt-get "
        remedy += "install ffmpeg), or choose decoder=pyav"
        raise OptionError("decoder", "torchcodec", textwrap.shorten(str(error), 200), remedy) from error
    return VideoDecoder
