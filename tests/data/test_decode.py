import resource
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import EXTRA, needs_extra
from fake_videos import BITS, BLOCK, audio, cut, numbers, write
from vssl.data import decoders, exactness
from vssl.data.decode import check_decoder, read_frames
from vssl.data.decoders import torchcodec
from vssl.data.exactness import exact, examine
from vssl.data.prepare import PreparedFormat, transcode
from vssl.errors import VsslError

FRAMES = 150
FIRST = 47  # of the cut
SHORT = {"g": "30", "bf": "2"}


def why_no_torchcodec():
    try:
        torchcodec.load()
    except VsslError as error:
        return str(error)
    return None


NO_TORCHCODEC = why_no_torchcodec()
DECODERS = [
    "decord",
    "pyav",
    pytest.param("torchcodec", marks=pytest.mark.skipif(bool(NO_TORCHCODEC), reason=str(NO_TORCHCODEC))),
]
each_decoder = pytest.mark.parametrize("decoder", DECODERS)


def prepare(source, target):
    """As `mode=prepare` does it."""
    transcode(source, target, PreparedFormat([32, 128], 20, 1))
    return target


OPEN_GOPS = {"x265-params": "keyint=30:bframes=3:b-adapt=0:scenecut=0:open-gop=1:log-level=none"}
WRITE = {
    "constant rate": lambda path: write(path / "v.mp4", FRAMES),
    "B-frames": lambda path: write(path / "v.mp4", FRAMES, options=SHORT),
    "matroska": lambda path: write(path / "v.mkv", FRAMES, options=SHORT),
    "variable rate": lambda path: write(
        path / "v.mp4", FRAMES, np.random.default_rng(0).integers(2, 20, FRAMES).cumsum(), options=SHORT
    ),
    "stream-copied cut": lambda path: cut(
        write(path / "whole.mp4", FIRST + FRAMES, options=SHORT), path / "v.mp4", FIRST
    ),
    "mpeg4 in avi": lambda path: write(path / "v.avi", FRAMES, codec="mpeg4"),
    "mpeg4 in avi with B-frames": lambda path: write(
        path / "v.avi", FRAMES, codec="mpeg4", options={"bf": "2"}
    ),
    "HEVC, open GOPs": lambda path: write(path / "v.mp4", FRAMES, codec="libx265", options=OPEN_GOPS),
    "turned by 90": lambda path: write(path / "v.mp4", FRAMES, turns=1),
    "turned by 180": lambda path: write(path / "v.mp4", FRAMES, turns=2),
    "turned by 270": lambda path: write(path / "v.mp4", FRAMES, turns=3),
    "odd sides": lambda path: write(path / "v.mp4", FRAMES, pix_fmt="yuv444p", size=(171, 129)),
    "prepared": lambda path: prepare(write(path / "in.mp4", FRAMES), path / "v.mp4"),
    "10 bits": lambda path: write(path / "v.mp4", FRAMES, pix_fmt="yuv420p10le"),
}
MISREAD = {
    "decord": {"stream-copied cut", "mpeg4 in avi with B-frames", "HEVC, open GOPs"},
    "pyav": set(),
    "torchcodec": {"mpeg4 in avi with B-frames"},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Writes a kind of video when it is first asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = WRITE[kind](tmp_path_factory.mktemp("video"))
        return made[kind]

    return get


@pytest.fixture(scope="module")
def video(videos):
    return videos("constant rate")


@each_decoder
@pytest.mark.parametrize("kind", WRITE)
def test_frame_i_is_frame_i_in_any_order_with_repeats_or_it_is_known_not_to_be(videos, kind, decoder):
    path = videos(kind)
    first = FIRST if kind == "stream-copied cut" else 0
    facts, right = examine(path, decoder)
    assert facts.frames == FRAMES
    assert right == (kind not in MISREAD[decoder])
    if right:
        rng = np.random.default_rng(0)
        for wanted in (*rng.integers(0, FRAMES, (5, 20)), np.arange(FRAMES)[::-1]):
            frames = read_frames(path, wanted, decoder)
            assert frames.shape[1:] == (facts.height, facts.width, 3)
            assert numbers(frames) == [(first + i) % 256 for i in wanted.tolist()]


@each_decoder
@pytest.mark.parametrize("kind", ["B-frames", "mpeg4 in avi", "prepared"])
def test_the_memory_of_a_reader_stays_flat(videos, kind, decoder):
    rng = np.random.default_rng(0)

    def read(times):
        for _ in range(times):
            read_frames(videos(kind), rng.integers(0, FRAMES, 8), decoder)
        return resident_bytes()

    before, after = read(60), read(60)
    one_read = 8 * 32 * BITS * BLOCK * 3
    assert after - before < 60 * one_read / 4


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@each_decoder
def test_frames_are_writable_rgb_bytes(video, decoder):
    frames = read_frames(video, np.array([1, 1]), decoder)
    assert frames.shape == (2, 32, BITS * BLOCK, 3)
    assert frames.dtype == np.uint8
    frames[0] = 0
    assert frames[1].any()


@each_decoder
def test_channels_are_red_green_blue(tmp_path, decoder):
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        red = np.broadcast_to(np.array([220, 30, 60], np.uint8), (64, 64, 3)).copy()
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())
    means = read_frames(path, np.array([0]), decoder).mean(axis=(0, 1, 2))
    assert np.abs(means - [220, 30, 60]).max() < 6


@each_decoder
@pytest.mark.parametrize("kind", ["constant rate", "mpeg4 in avi", "prepared"])
@pytest.mark.parametrize("outside", [-1, FRAMES])
def test_a_number_outside_the_video_names_file_and_length(videos, kind, outside, decoder):
    with pytest.raises(VsslError, match=rf"v\.\w+: .*{outside}.* it has {FRAMES};"):
        read_frames(videos(kind), np.array([3, outside]), decoder)


@each_decoder
def test_a_missing_file_is_named(tmp_path, decoder):
    with pytest.raises(VsslError, match=r"gone.mp4: no such file; "):
        read_frames(tmp_path / "gone.mp4", np.array([0]), decoder)


@each_decoder
@pytest.mark.parametrize("content", [b"", b"this is no video " * 100])
def test_a_file_that_is_no_video_is_named_in_one_line(tmp_path, content, decoder):
    path = Path(tmp_path / "garbage.mp4")
    path.write_bytes(content)
    with pytest.raises(VsslError, match=r"garbage.mp4: cannot be decoded \(.+\); re-encode") as error:
        read_frames(path, np.array([0]), decoder)
    assert "\n" not in str(error.value)


@each_decoder
def test_a_file_without_a_video_is_an_error_that_a_loader_process_can_send(tmp_path, decoder):
    audio(tmp_path / "audio.mp4")
    with pytest.raises(VsslError, match=r"audio.mp4: cannot be decoded \(.+\); ") as error:
        read_frames(tmp_path / "audio.mp4", np.array([0]), decoder)
    assert type(error.value) is VsslError


@each_decoder
def test_a_truncated_video_is_an_error(video, tmp_path, decoder):
    path = tmp_path / "half.mp4"
    path.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(VsslError, match=r"half.mp4: cannot be decoded"):
        read_frames(path, np.array([0, FRAMES - 1]), decoder)


def test_a_decoder_that_is_off_by_one_frame_after_a_while_is_found_out(video, monkeypatch):
    def late(path, frames_T, decoder):
        return read_frames(path, frames_T - (frames_T.min() > 100), decoder)

    assert exact(video, "pyav")
    monkeypatch.setattr(exactness, "read_frames", late)
    assert not exact(video, "pyav")


def test_a_decoder_that_cannot_read_a_file_is_not_exact(video, monkeypatch):
    def refuse(path, frames_T, decoder):
        raise VsslError("no")

    monkeypatch.setattr(exactness, "read_frames", refuse)
    assert not exact(video, "decord")


def test_a_decoder_is_any_file_in_its_package(video, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def read(path, frames_T):\n    return frames_T.reshape(-1, 1, 1, 1)\n")
    monkeypatch.setattr(decoders, "__path__", [*decoders.__path__, str(tmp_path)])
    assert read_frames(video, np.array([3, 1, 3]), "mine").ravel().tolist() == [3, 1, 3]
    with pytest.raises(VsslError, match=r"^decoder=mien: no such decoder; did you mean 'mine'\?"):
        check_decoder("mien")


def test_torchcodec_that_does_not_load_gives_its_own_reason(video, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # what importing finds is an ImportError
    with pytest.raises(
        VsslError, match=r"decoder=torchcodec: .*torchcodec.*; pip install torchcodec"
    ) as error:
        read_frames(video, np.array([0]), "torchcodec")
    assert "\n" not in str(error.value)


@needs_extra
@pytest.mark.parametrize(
    "name", ["clips/TrumanShow_wave_f_nm_np1_fr_med_26.avi", "odd/stream_copied_cut.mp4"]
)
def test_real_divx_and_real_cuts_are_right_through_pyav_only(name):
    assert exact(EXTRA / "videos" / name, "pyav")
    assert not exact(EXTRA / "videos" / name, "decord")
