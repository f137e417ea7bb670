"""Odd but good files: frame for frame what FFmpeg hands on, and what the check says of them."""

import shutil
import subprocess

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from fake_videos import (
    all_flagged,
    changing_size,
    corner,
    numbers,
    piped,
    several,
    show_by,
    with_cover,
    write,
)
from vssl.data.decode import read_frames
from vssl.data.health import examine_file
from vssl.data.prepare import PreparedFormat, transcode
from vssl.errors import VsslError

FFMPEG = shutil.which("ffmpeg")


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof+global_sidx"}
REFRESH = {"x264-params": "intra-refresh=1:keyint=30:bframes=0"}
FIELDS = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
SLOWLY = "pyav gives other frames after a seek: decoded from its start for each clip"

# What makes a file; what the check says of it, which decoder it chooses, how many frames there are.
KINDS = {
    "fragments.mp4": (
        lambda path: write(path, 60, options={"bf": "0", "g": "12"}, muxer=FRAGMENTS),
        ("random access is wrong", SLOWLY, "from_start", 60),
    ),
    "intra_refresh.mp4": (
        lambda path: write(path, 90, options=REFRESH),
        ("random access is wrong", SLOWLY, "from_start", 90),
    ),
    "all_flagged.mp4": (all_flagged, ("random access is wrong", SLOWLY, "from_start", 60)),
    "piped.avi": (piped, ("ok", "", "from_start", 60)),
    "changing_size.ts": (
        changing_size,
        ("changing size", "128x32, 64x16; all are scaled to the first", "from_start", 60),
    ),
    "two_streams.mp4": (
        lambda path: several(path, default=1),
        ("several video streams", "number 2 of 2 is read, 128x32", "pyav", 60),
    ),
    "mirrored.mp4": (lambda path: show_by(write(path, 40), -1, 0, 0, 1), ("ok", "", "pyav", None)),
    "interlaced.mp4": (
        lambda path: write(path, 60, options=FIELDS),
        ("interlaced", "60 of 60 frames hold two moments", "pyav", 60),
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    make, expected = KINDS[request.param]
    return make(tmp_path_factory.mktemp("odd") / request.param), expected


def test_what_is_said_and_read(kind):
    path, (verdict, detail, decoder, count) = kind
    found = examine_file(path, "pyav")
    assert (found.verdict, found.detail, found.decoder) == (verdict, detail, decoder)
    if count is not None:
        rng = np.random.default_rng(0)
        for wanted in (np.arange(found.frames), *rng.integers(0, count, (3, 8))):
            assert numbers(read_frames(path, wanted, decoder)) == wanted.tolist()
        assert found.frames == count


@pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
def test_the_frames_are_those_of_ffmpeg(kind):
    path, _ = kind
    found = examine_file(path, "pyav")
    frames_THWC = passed_through(path, found.height, found.width)
    assert len(frames_THWC) == found.frames
    for wanted in np.random.default_rng(0).integers(0, found.frames, (4, 10)):
        difference = read_frames(path, wanted, found.decoder) - frames_THWC[wanted].astype(int)
        assert np.abs(difference).mean(axis=(1, 2, 3)).max() < 2


def test_the_prepared_frames_are_the_same(kind, tmp_path):
    path, _ = kind
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
    assert picture_HWC[:8, :8].mean() > 200
    assert picture_HWC[-8:].mean() < 50
    [given_HWC] = read_frames(shown, np.array([7]), "pyav")
    assert np.array_equal(given_HWC, seen(picture_HWC, matrix))
    assert examine_file(shown, "pyav").verdict == "ok"
    for decoder in ("decord", "pyav"):
        right = examine_file(shown, decoder).decoder
        assert np.array_equal(read_frames(shown, np.array([7]), right)[0], given_HWC)


def rewritten(source, path, how):
    """A copy of an H.264 file with other notes in its parameters and before its pictures."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(whole.streams.video[0])
        writing = BitStreamFilterContext(f"h264_metadata={how}", whole.streams.video[0], stream)
        for packet in whole.demux(video=0):
            for changed in writing.filter(packet if packet.size else None):
                changed.stream = stream
                target.mux(changed)
    return path


def test_colours_that_cannot_be_converted_are_told_as_such(tmp_path):
    """YCgCo; BT.2020 of constant luminance is taken for the other one, as nearly all who write it mean."""
    plain = corner(tmp_path / "plain.mp4")
    ours, other, unknown = (
        rewritten(plain, tmp_path / f"{matrix}.mp4", f"matrix_coefficients={matrix}") for matrix in (9, 10, 8)
    )
    assert examine_file(other, "pyav").verdict == "ok"
    assert np.array_equal(read_frames(other, np.array([3]), "pyav"), read_frames(ours, np.array([3]), "pyav"))
    found = examine_file(unknown, "pyav")
    assert found.verdict == "damaged"
    assert found.detail.endswith("(its colours, yuv420p of matrix 8, cannot be converted)")
    with pytest.raises(
        VsslError, match=r"8.mp4: cannot be decoded \(its colours, yuv420p of matrix 8, cannot"
    ):
        read_frames(unknown, np.array([3]), "pyav")


@pytest.mark.parametrize("wish", ["rotate=90", "rotate=180", "flip=horizontal"])
def test_pictures_that_ask_themselves_to_be_turned(tmp_path, wish):
    """The first one asks for all that follow; those in random access do not know of it."""
    plain = corner(tmp_path / "plain.mp4")
    shown = rewritten(plain, tmp_path / "shown.mp4", f"display_orientation=insert:{wish}")
    pictures_THWC = read_frames(plain, np.arange(10), "pyav")
    turn = {"rotate=90": np.rot90, "rotate=180": lambda picture: picture[::-1, ::-1]}
    wanted_THWC = np.stack([turn.get(wish, lambda picture: picture[:, ::-1])(one) for one in pictures_THWC])
    found = examine_file(shown, "pyav")
    assert (found.verdict, found.height) == ("random access is wrong", wanted_THWC.shape[1])
    assert np.array_equal(read_frames(shown, np.arange(10), found.decoder), wanted_THWC)
    assert np.array_equal(read_frames(shown, np.array([3, 7]), found.decoder), wanted_THWC[[3, 7]])
