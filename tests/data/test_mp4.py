"""Videos that are read without opening them: the same pictures, and only where nothing can go wrong."""

import os
import struct

import av
import numpy as np
import pytest

from fake_videos import cut, numbers, show_by, write
from vssl.data import mp4
from vssl.data.decode import read_frames
from vssl.data.decoders import pyav
from vssl.data.exactness import exact
from vssl.data.prepare import PreparedFormat, transcode

FRAMES = 70
LOOK = PreparedFormat([32, 128], 20, 1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A video as `mode=prepare` writes it."""
    folder = tmp_path_factory.mktemp("prepared")
    transcode(write(folder / "in.mp4", FRAMES), folder / "out.mp4", LOOK)
    return folder / "out.mp4"


def found(path):
    """What is found in a file."""
    with open(path, "rb") as file:
        return mp4.pictures(file.fileno())


def unopened(monkeypatch):
    """Opening a file the usual way is an error."""

    def refuse(path):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(pyav, "open_video", refuse)


def test_a_prepared_video_is_read_without_opening_it(prepared, monkeypatch):
    assert exact(prepared, "pyav")
    wanted = np.random.default_rng(0).integers(0, FRAMES, 20)
    with monkeypatch.context() as usual:
        usual.setattr(pyav, "pictures", lambda file: None)
        expected = read_frames(prepared, wanted, "pyav")
    unopened(monkeypatch)
    frames = read_frames(prepared, wanted, "pyav")
    assert numbers(frames) == wanted.tolist()
    assert np.array_equal(frames, expected)


@pytest.mark.parametrize("head", [64, mp4.HEAD])
def test_pictures_lie_where_ffmpeg_finds_them(prepared, head, monkeypatch):
    monkeypatch.setattr(mp4, "HEAD", head)
    agree_with_ffmpeg(prepared)


def test_pictures_of_several_chunks(tmp_path):
    """FFmpeg begins a chunk after a megabyte."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 128, 128, 3), np.uint8)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    transcode(tmp_path / "in.mkv", tmp_path / "out.mp4", PreparedFormat([128, 128], 0, 1))
    chunks = (tmp_path / "out.mp4").read_bytes().split(b"stco")[1]
    assert struct.unpack_from(">4xI", chunks)[0] > 1
    agree_with_ffmpeg(tmp_path / "out.mp4")


def agree_with_ffmpeg(path):
    with av.open(str(path)) as container:
        [stream] = container.streams
        places = [(entry.pos, entry.size) for entry in stream.index_entries]
        setup = bytes(stream.codec_context.extradata)
    pictures = found(path)
    assert list(zip(pictures.starts_N.tolist(), pictures.sizes_N.tolist(), strict=True)) == places
    assert pictures.setup == setup


def test_files_that_have_to_be_opened(prepared, tmp_path):
    assert found(write(tmp_path / "movie box last.mp4", 10, options={"g": "1", "bf": "0"})) is None
    assert found(write(tmp_path / "x.avi", 10, codec="mpeg4")) is None
    assert found(cut(prepared, tmp_path / "cut.mp4", 5)) is None
    transcode(prepared, tmp_path / "few key frames.mp4", PreparedFormat([32, 128], 20, 8))
    assert found(tmp_path / "few key frames.mp4") is None
    for content in (b"", b"no video " * 100, prepared.read_bytes()[:600]):
        (tmp_path / "broken.mp4").write_bytes(content)
        assert found(tmp_path / "broken.mp4") is None


def test_a_turned_video_has_to_be_opened(prepared, tmp_path):
    path = tmp_path / "turned.mp4"
    path.write_bytes(prepared.read_bytes())
    assert found(path) is not None
    show_by(path, 0, -1, 1, 0)
    assert found(path) is None
    assert read_frames(path, np.array([3]), "pyav").shape == (1, 128, 32, 3)


@pytest.mark.parametrize(
    ("box", "other"),
    [
        (b"udta", b"trak"),  # a second track
        (b"udta", b"mvex"),  # more pictures come in fragments
        (b"stts", b"stss"),  # some pictures are no key frames
        (b"stts", b"ctts"),  # out of order
        (b"avc1", b"hev1"),
        (b"btrt", b"colr"),  # colours other than those that the pictures themselves tell of
    ],
)
def test_a_box_that_could_mean_something_else(prepared, tmp_path, box, other):
    brand, name, movie = prepared.read_bytes().partition(b"moov")
    assert box in movie
    (tmp_path / "x.mp4").write_bytes(brand + name + movie.replace(box, other, 1))
    assert found(tmp_path / "x.mp4") is None


@pytest.mark.parametrize(
    ("box", "at", "value"),
    [
        (b"moov", -4, 2**32 - 1),  # longer than the file
        (b"moov", -4, 100),
        (b"trak", -4, 4),
        (b"stsz", 4 + 4, 2**31),  # all of one size
        (b"stsz", 4 + 8, 2**31),  # more pictures than sizes
        (b"stsz", 4 + 8, 0),  # none
        (b"stsz", 4 + 12, 2**31),  # longer than the file
        (b"stsc", 4 + 12, 2**31),  # more in a chunk than there are
        (b"stco", 4 + 8, 2**31),
        (b"stco", 4 + 4, 0),
    ],
)
def test_a_damaged_table_is_left_to_ffmpeg(prepared, tmp_path, box, at, value):
    content = bytearray(prepared.read_bytes())
    struct.pack_into(">I", content, content.index(box) + at, value)
    (tmp_path / "x.mp4").write_bytes(content)
    assert found(tmp_path / "x.mp4") is None


@pytest.mark.parametrize(("at", "value"), [(4, 2), (8, 1000), (12, 512), (16, 0x20000)])
def test_an_edit_list_that_hides_pictures(prepared, tmp_path, at, value):
    """Two edits; a short one; one that begins later; twice as fast."""
    content = bytearray(prepared.read_bytes())
    struct.pack_into(">I", content, content.index(b"elst") + 4 + at, value)
    (tmp_path / "x.mp4").write_bytes(content)
    assert found(tmp_path / "x.mp4") is None


def test_a_damaged_picture_is_left_to_the_usual_way(prepared, tmp_path, monkeypatch):
    """Whose pictures do not depend on what was read before."""
    path, content, pictures = tmp_path / "damaged.mp4", bytearray(prepared.read_bytes()), found(prepared)
    start, size = int(pictures.starts_N[30]), int(pictures.sizes_N[30])
    content[start + size // 4 : start + size] = os.urandom(size - size // 4)
    path.write_bytes(content)
    good, bad = np.array([3, 29, 31]), np.array([29, 30, 31])
    assert pyav._alone(path, good) is not None
    assert pyav._alone(path, bad) is None
    assert pyav._alone(path, good) is not None
    assert numbers(read_frames(path, good, "pyav")) == good.tolist()
