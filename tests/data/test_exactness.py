"""What a check compares, and what it takes to compare it."""

import tracemalloc

import numpy as np
import pytest

from fake_videos import corner, write
from vssl.data import exactness
from vssl.data.decode import read_frames
from vssl.data.exactness import examine
from vssl.data.probe import shown_packets


def peak_bytes(path, decoder):
    tracemalloc.start()
    try:
        assert examine(path, decoder)[1]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_the_memory_of_a_comparison_does_not_grow_with_the_length(tmp_path, decoder):
    """A frame leaves its time alone behind; its picture, however sparse, would take 6 kB."""
    short, long = (write(tmp_path / f"{n}.mp4", n, options={"bf": "0"}) for n in (100, 1000))
    peak_bytes(short, decoder)  # what is imported late
    assert peak_bytes(long, decoder) - peak_bytes(short, decoder) < 900 * 400


def tinted(change):
    """A decoder that is right but for what `change` does to its pictures."""
    return lambda path, frames_T, decoder: change(read_frames(path, frames_T, "pyav"))


CHANGES = {
    "rounded otherwise": (lambda frames: np.where(frames > 100, frames - 3, frames + 3), True),
    "upside down": (lambda frames: frames[:, ::-1], False),
    "with red for blue": (lambda frames: frames[..., ::-1], False),
    "too small": (lambda frames: frames[:, ::2, ::2], False),
    "of two sizes": (lambda frames: frames[:, :31] if len(frames) < 8 else frames, False),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_picture_that_is_the_nearest_may_still_be_wrong(tmp_path, monkeypatch, kind):
    """In a film where little moves, every frame is the nearest to its own mirror image."""
    change, is_right = CHANGES[kind]
    path = corner(tmp_path / "v.mp4")
    assert examine(path, "decord")[1]
    monkeypatch.setattr(exactness, "read_frames", tinted(change))
    assert examine(path, "decord")[1] == is_right
    assert not examine(path, "pyav")[1]  # which rounds as the check does


def test_a_file_whose_packets_are_no_frames_is_compared_all_the_same(tmp_path, monkeypatch):
    path = write(tmp_path / "v.mp4", 40)
    assert shown_packets(path) == 40
    for wrong in (0, 37, 45):
        monkeypatch.setattr(exactness, "shown_packets", lambda path, wrong=wrong: wrong)
        assert examine(path, "pyav")[1]
