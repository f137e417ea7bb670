"""One file per decoder, found by its name, each with `read(path, frames_T)`: frames of rising numbers.

The library is imported in that file alone, and late; one that is optional has `load()`, which raises
VsslError with what to install. What all of them promise is written in `vssl.data.decode`; here is how they
say no.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vssl.errors import VsslError

Cause = Literal["missing", "empty", "not a video", "no video stream", "truncated", "damaged"]
"""Why a file cannot be read to its end."""


class BadVideo(VsslError):
    """A file that cannot be read to its end: "<file>: <cause>; <remedy>"."""

    def __init__(self, path: Path, cause: Cause, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}; {remedy}")
        self.cause, self.what = cause, what


def check_range(path: Path, frames_T: NDArray[np.int64], num_frames: int) -> None:
    """Raise `VsslError` if a number lies outside of what the decoder finds in the file."""
    if frames_T[0] < 0 or frames_T[-1] >= num_frames:
        raise VsslError(
            f"{path}: frames {frames_T[0]} to {frames_T[-1]} were asked for, but it has {num_frames}; "
            "it has changed since its data set was checked: run mode=check again"
        )


def undecodable(path: Path, cause: str, remedy: str = "re-encode it as H.264") -> VsslError:
    """The error for a file that the decoder cannot read."""
    return VsslError(f"{path}: cannot be decoded ({cause}); {remedy} or take it out of the list")
