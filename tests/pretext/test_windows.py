"""Windows: frames by hand, at every place that fits, independent or the same."""

import numpy as np
import pytest

from vssl.pretext.windows import Windows


def windows(**changes):
    settings = {
        "num_frames": 4,
        "num_clips": 3,
        "stride": 2,
        "starts": "independent",
        "out_of_bounds": "loop",
    }
    return Windows(**{**settings, **changes})


def plans(sampler, num_frames, count=2000):
    rng = np.random.default_rng(0)
    return np.array([sampler.plan(num_frames, rng).frames_KT for _ in range(count)])


@pytest.mark.parametrize("starts", ["independent", "same"])
def test_every_start_that_fits_is_as_likely(starts):
    frames_NKT = plans(windows(starts=starts), 10)
    assert frames_NKT.dtype == np.int64
    assert (frames_NKT == frames_NKT[:, :, :1] + [0, 2, 4, 6]).all()
    starts_NK = frames_NKT[:, :, 0]
    _, counts = np.unique(starts_NK, return_counts=True)
    assert len(counts) == 4  # 0 to 3: the last frame is number 9
    assert counts.min() > 0.2 * starts_NK.size
    assert (starts_NK == starts_NK[:, :1]).all() == (starts == "same")


@pytest.mark.parametrize(
    ("out_of_bounds", "expected"), [("loop", [0, 2, 4, 1]), ("repeat_last", [0, 2, 4, 4])]
)
def test_a_video_that_is_too_short(out_of_bounds, expected):
    assert plans(windows(out_of_bounds=out_of_bounds), 5, count=3).tolist() == [[expected] * 3] * 3


@pytest.mark.parametrize("starts", ["independent", "same"])
def test_the_pair_of_auxskd_is_two_independent_clips(starts):
    pairs = [windows(starts=starts).pair(30, np.random.default_rng(n), True).frames_KT for n in range(50)]
    assert {pair.shape for pair in pairs} == {(2, 4)}
    assert len({(pair[0, 0], pair[1, 0]) for pair in pairs}) > 30
