"""Frame numbers at the end of a video."""

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

OutOfBounds = Literal["loop", "repeat_last"]
"""How a clip goes on when its video ends: from the first frame again, or with the last frame repeated."""


def keep_inside(frames: NDArray[np.int64], num_frames: int, out_of_bounds: OutOfBounds) -> NDArray[np.int64]:
    """Bring frame numbers (0-based, any shape) into a video of `num_frames` frames.

    `loop` takes them modulo `num_frames`; `repeat_last` puts the last frame in place of every later one.
    """
    return frames % num_frames if out_of_bounds == "loop" else np.minimum(frames, num_frames - 1)


def play(start: int, pace_T: NDArray[np.int64], num_frames: int, lookahead: int) -> NDArray[np.int64]:
    """Step from frame to frame [T] and, as the released codes do, back to the first one: as soon as the video
    has no frame `lookahead` steps, at the pace just played, further on."""
    frames = [start]
    for played, pace in pairwise(pace_T.tolist()):
        # The pace just played is not the next one: that could leave the video.
        reach = max(lookahead * played, pace)
        frames.append(frames[-1] + pace if frames[-1] + reach < num_frames else 0)
    return np.array(frames, np.int64)
