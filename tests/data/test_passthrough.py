"""Odd but good files: frame for frame what FFmpeg hands on, and what the check says of them."""

import shutil
import subprocess

import numpy as np
import pytest

from fake_videos import corner, numbers, several, show_by, with_cover, write
from vssl.data.decode import read_frames
from vssl.data.health import examine_file
from vssl.data.prepare import PreparedFormat, transcode

FFMPEG = shutil.which("ffmpeg")


def film_and_preview(path):
    """The second of two streams is the default."""
    return several(path, default=1)


# What the check says of a file: verdict, words of the detail, decoder; and the numbers that its frames show.
KINDS = {
    "two streams.mp4": (film_and_preview, "several video streams", "number 2 of 2", "pyav", range(60)),
    "mirrored.mp4": (lambda path: show_by(write(path, 40), -1, 0, 0, 1), "ok", "", "pyav", None),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    make, *expected = KINDS[request.param]
    return make(tmp_path / request.param.replace(" ", "_")), *expected


def test_what_is_said_and_read(kind):
    path, verdict, detail, decoder, shown = kind
    found = examine_file(path, "pyav")
    assert (found.verdict, found.decoder) == (verdict, decoder)
    assert detail in found.detail
    if shown is not None:
        assert numbers(read_frames(path, np.arange(found.frames), decoder)) == list(shown)


@pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
def test_the_frames_are_those_of_ffmpeg(kind):
    path, *_ = kind
    found = examine_file(path, "pyav")
    frames_THWC = passed_through(path, found.height, found.width)
    assert len(frames_THWC) == found.frames
    for wanted in np.random.default_rng(0).integers(0, found.frames, (4, 10)):
        difference = read_frames(path, wanted, found.decoder) - frames_THWC[wanted].astype(int)
        assert np.abs(difference).mean(axis=(1, 2, 3)).max() < 2


def test_the_prepared_frames_are_the_same(kind, tmp_path):
    path, *_ = kind
    found = examine_file(path, "pyav")
    size = [found.height, found.width]
    transcode(path, tmp_path / "out.mp4", PreparedFormat(size, crf=1, gop=1))
    prepared = examine_file(tmp_path / "out.mp4", "pyav")
    assert (prepared.verdict, prepared.frames) == ("ok", found.frames)
    before, after = (
        read_frames(file, np.arange(found.frames), one.decoder).astype(int)
        for file, one in ((path, found), (tmp_path / "out.mp4", prepared))
    )
    assert np.abs(after - before).mean(axis=(1, 2, 3)).max() < 2


def passed_through(path, height, width):
    """All frames [T,H,W,C] as ffmpeg writes them when nothing is asked for but their pixels."""
    words = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run([FFMPEG, "-loglevel", "error", "-i", path, *words], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize(("default", "number", "frames"), [(0, 1, 20), (1, 2, 60), (None, 2, 60)])
def test_the_stream_that_players_show_is_read_and_said(tmp_path, default, number, frames):
    """The default; of equals, the larger."""
    path = several(tmp_path / "v.mkv", default)
    found = examine_file(path, "pyav")
    assert (found.frames, found.width) == (frames, 64 * number)
    assert found.detail == f"number {number} of 2 is read, {64 * number}x{16 * number}"


def test_a_cover_is_no_stream_of_its_own(tmp_path):
    found = examine_file(with_cover(tmp_path / "v.mp4"), "pyav")
    assert (found.verdict, found.frames, found.width) == ("ok", 60, 128)


def seen(picture_HWC, matrix):
    """By hand: how a picture looks through each matrix of right angles and mirrors."""
    across, down, turned = picture_HWC[:, ::-1], picture_HWC[::-1], picture_HWC.transpose(1, 0, 2)
    return {
        (1, 0, 0, 1): picture_HWC,
        (-1, 0, 0, 1): across,
        (1, 0, 0, -1): down,
        (-1, 0, 0, -1): across[::-1],
        (0, 1, 1, 0): turned,
        (0, 1, -1, 0): turned[:, ::-1],  # a quarter clockwise
        (0, -1, 1, 0): turned[::-1],  # a quarter anticlockwise
        (0, -1, -1, 0): turned[::-1, ::-1],
    }[matrix]


MATRICES = [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [(0, s, t, 0) for s in (1, -1) for t in (1, -1)]


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_picture_is_turned_and_mirrored_as_its_file_asks(tmp_path, matrix):
    """Upside down, as in a mirror, lying: in random access, in the check and in a prepared copy."""
    plain = corner(tmp_path / "plain.mp4")
    shutil.copy(plain, tmp_path / "shown.mp4")
    shown = show_by(tmp_path / "shown.mp4", *matrix)
    [picture_HWC] = read_frames(plain, np.array([7]), "pyav")
    assert picture_HWC[:8, :8].mean() > 200 > 50 > picture_HWC[-8:].mean()
    [given_HWC] = read_frames(shown, np.array([7]), "pyav")
    assert np.array_equal(given_HWC, seen(picture_HWC, matrix))
    assert examine_file(shown, "pyav").verdict == "ok"
    for decoder in ("decord", "pyav"):
        right = examine_file(shown, decoder).decoder
        assert np.array_equal(read_frames(shown, np.array([7]), right)[0], given_HWC)
