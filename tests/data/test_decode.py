from pathlib import Path

import av
import numpy as np
import pytest

from vssl.data.decode import read_frames
from vssl.errors import VsslError

BITS, BLOCK, FRAMES = 8, 16, 150


def numbered_frame(number):
    """Picture of a number: one white or black column per bit."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, BLOCK)
    return np.broadcast_to(row[None, :, None], (32, len(row), 3)).copy()


def numbers(frames_THWC):
    """Read the numbers back from the middle of every column."""
    bits = frames_THWC[:, 16, BLOCK // 2 :: BLOCK, 1] > 127
    return (bits * 2 ** np.arange(BITS)).sum(axis=1).tolist()


def write_video(path, num_frames):
    # x264's own settings: B-frames, and key frames far apart
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, BITS * BLOCK, "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    write_video(path, FRAMES)
    return path


def test_frame_i_is_frame_i_in_any_order_with_repeats(video):
    rng = np.random.default_rng(0)
    for _ in range(5):
        wanted = rng.integers(0, FRAMES, 40)
        assert numbers(read_frames(video, wanted)) == wanted.tolist()
    wanted = np.arange(FRAMES)[::-1]
    assert numbers(read_frames(video, wanted)) == wanted.tolist()


def test_frames_are_writable_rgb_bytes(video):
    frames = read_frames(video, np.array([1, 1]))
    assert frames.shape == (2, 32, BITS * BLOCK, 3)
    assert frames.dtype == np.uint8
    frames[0] = 0
    assert frames[1].any()


def test_channels_are_red_green_blue(tmp_path):
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        red = np.broadcast_to(np.array([220, 30, 60], np.uint8), (32, 32, 3)).copy()
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())
    means = read_frames(path, np.array([0])).mean(axis=(0, 1, 2))
    assert np.abs(means - [220, 30, 60]).max() < 6


@pytest.mark.parametrize("outside", [-1, FRAMES])
def test_a_number_outside_the_video_names_file_and_length(video, outside):
    with pytest.raises(VsslError, match=f"numbered.mp4: .*{outside}.* it has {FRAMES};"):
        read_frames(video, np.array([3, outside]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VsslError, match=r"gone.mp4: no such file; "):
        read_frames(tmp_path / "gone.mp4", np.array([0]))


@pytest.mark.parametrize("content", [b"", b"this is no video " * 100])
def test_a_file_that_is_no_video_is_named_in_one_line(tmp_path, content):
    path = Path(tmp_path / "garbage.mp4")
    path.write_bytes(content)
    with pytest.raises(VsslError, match=r"garbage.mp4: cannot be decoded \(.+\); re-encode") as error:
        read_frames(path, np.array([0]))
    assert "\n" not in str(error.value)


def test_a_truncated_video_is_an_error(video, tmp_path):
    path = tmp_path / "half.mp4"
    path.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(VsslError, match=r"half.mp4: cannot be decoded"):
        read_frames(path, np.array([0, FRAMES - 1]))
