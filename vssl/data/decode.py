"""Frames of a video file by number: the door to all decoders."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vssl.errors import VsslError
from vssl.modules import check_module, load_module

Decoder = str
"""Name of a module of `vssl.data.decoders`."""

FROM_START = "from_start"
"""The decoder that is right by what it does, and gives what `pyav` gives wherever that is right."""

_DECODERS = "vssl.data.decoders"

Cause = Literal["missing", "empty", "not a video", "no video stream", "truncated", "damaged"]
"""Why a file cannot be read to its end."""


class BadVideo(VsslError):
    """A file that cannot be read to its end: "<file>: <cause>; <remedy>"."""

    def __init__(self, path: Path, cause: Cause, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}; {remedy}")
        self.cause, self.what = cause, what


def undecodable(path: Path, cause: str, remedy: str = "re-encode it as H.264") -> VsslError:
    """The error for a file that a decoder cannot read."""
    return VsslError(f"{path}: cannot be decoded ({cause}); {remedy} or take it out of the list")


def check_range(path: Path, frames_T: NDArray[np.int64], num_frames: int) -> None:
    """Raise `VsslError` if a number lies outside of what a decoder finds in the file."""
    if frames_T[0] < 0 or frames_T[-1] >= num_frames:
        raise VsslError(
            f"{path}: frames {frames_T[0]} to {frames_T[-1]} were asked for, but it has {num_frames}; "
            "it has changed since its data set was checked: run mode=check again"
        )


def check_decoder(name: object) -> None:
    """Raise `OptionError` if there is no decoder of this name."""
    check_module(_DECODERS, "decoder", name)


def load_decoder(name: Decoder) -> ModuleType:
    """The module of a decoder; raises `OptionError` if there is none, or if its library is not installed."""
    module = load_module(_DECODERS, "decoder", name)
    if hasattr(module, "load"):
        module.load()
    return module


def read_frames(path: Path, frames_T: NDArray[np.int64], decoder: Decoder) -> NDArray[np.uint8]:
    """Decode the frames with the given 0-based numbers (any order, repeats allowed) as RGB [T,H,W,C].

    Frame i is the i-th picture that a viewer is shown when the file is played from its start: in the order of
    showing, not of coding; each coded picture once, however long it stays; without those that an edit list
    hides, so that a cut begins at its frame 0; turned upright as the file asks. Whether a decoder
    keeps to that on a file is what `vssl.data.exactness` finds out.

    Each distinct frame is decoded once. Raises VsslError if the file is missing, is no video that the
    decoder can read, or has no frame of such a number.
    """
    if not path.is_file():
        raise VsslError(f"{path}: no such file; put it back, or run mode=check again")
    distinct_T, position_T = np.unique(frames_T, return_inverse=True)
    module = importlib.import_module(f"{_DECODERS}.{decoder}")
    frames_THWC: NDArray[np.uint8] = module.read(path, distinct_T)
    in_order = np.array_equal(distinct_T, frames_T)
    return frames_THWC if in_order else frames_THWC[position_T]
