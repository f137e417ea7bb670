"""The end of a video."""

import numpy as np
import pytest

from vssl.nn.frames import keep_inside


@pytest.mark.parametrize(
    ("out_of_bounds", "expected"),
    [("loop", [[3, 4, 0, 1, 2, 3, 4, 0]]), ("repeat_last", [[3, 4, 4, 4, 4, 4, 4, 4]])],
)
def test_a_video_of_five_frames(out_of_bounds, expected):
    frames_KT = np.arange(3, 11)[None]
    assert keep_inside(frames_KT, 5, out_of_bounds).tolist() == expected
