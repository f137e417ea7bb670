"""Videos that are read without opening them: the same pictures, and only where nothing can go wrong."""

import os
import struct
import tracemalloc

import av
import numpy as np
import pytest

from fake_videos import cut, numbers, show_by, write
from vssl.data import mp4
from vssl.data.decode import read_frames
from vssl.data.decoders import pyav
from vssl.data.exactness import exact
from vssl.data.health import examine_file
from vssl.data.prepare import PreparedFormat, transcode

FRAMES = 70
LOOK = PreparedFormat([32, 128], 20, 1)
GROUPS = {"g": "12", "bf": "0", "sc_threshold": "0"}
"""Of an encoder: a key frame, and eleven pictures that refer to those before them."""


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


def test_a_video_in_which_pictures_refer_to_earlier_ones_is_read_without_opening_it(tmp_path, monkeypatch):
    path = write(tmp_path / "x.mp4", FRAMES, options=GROUPS)
    assert found(path).keys_K.tolist() == [0, 12, 24, 36, 48, 60]
    assert exact(path, "pyav")
    agree_with_ffmpeg(path)
    clips = [np.sort(np.random.default_rng(seed).integers(0, FRAMES, seed + 1)) for seed in range(16)]
    with monkeypatch.context() as usual:
        usual.setattr(pyav, "pictures", lambda file: None)
        expected = [read_frames(path, clip_T, "pyav") for clip_T in clips]
    unopened(monkeypatch)
    for clip_T, frames in zip(clips, expected, strict=True):
        assert np.array_equal(read_frames(path, clip_T, "pyav"), frames)


def test_all_that_is_decoded_for_some_pictures_by_hand():
    pictures = mp4.Pictures(b"", (2, 2), np.zeros(20, int), np.zeros(20, int), np.array([0, 5, 12]))
    assert pictures.needed(np.array([3])) == [0, 1, 2, 3]
    assert pictures.needed(np.array([5, 6, 13])) == [5, 6, 12, 13]
    assert pictures.needed(np.array([4, 12])) == [0, 1, 2, 3, 4, 12]


def test_pictures_lie_where_ffmpeg_finds_them(prepared):
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
    assert found(write(tmp_path / "out of order.mp4", 10, options={"bf": "2"})) is None
    assert found(write(tmp_path / "x.avi", 10, codec="mpeg4")) is None
    groups = write(tmp_path / "groups.mp4", 30, options=GROUPS)
    assert found(groups) is not None
    assert found(cut(groups, tmp_path / "cut.mp4", 5)) is None
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
        (b"stts", b"stss"),  # key frames that cannot be
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


@pytest.mark.parametrize("keys", [[2, 13], [1, 13, 13], [1, 71]])
def test_key_frames_that_cannot_be_are_left_to_ffmpeg(tmp_path, keys):
    """None for the first picture; one of them twice; one beyond the last picture."""
    content = bytearray(write(tmp_path / "x.mp4", FRAMES, options=GROUPS).read_bytes())
    struct.pack_into(f">{len(keys)}I", content, content.index(b"stss") + 4 + 8, *keys)
    (tmp_path / "x.mp4").write_bytes(content)
    assert found(tmp_path / "x.mp4") is None


def test_a_picture_that_changes_how_the_next_ones_are_decoded(tmp_path):
    """Sizes of another video before a key frame: what is read later must not depend on them."""
    plain = write(tmp_path / "plain.mp4", 24, options=GROUPS)
    small = write(tmp_path / "small.mp4", 24, size=(16, 64), options=GROUPS)
    path = tmp_path / "changing.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                foreign = units(found(small).setup) if packet.is_keyframe and packet.pts else b""
                changed = av.Packet(foreign + bytes(packet))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe, changed.stream = packet.is_keyframe, stream
                target.mux(changed)
    assert found(path).setup == found(plain).setup
    assert pyav._alone(path, np.arange(3)) is not None
    assert pyav._alone(path, np.arange(12, 15)) is None
    assert numbers(read_frames(plain, np.arange(12, 15), "pyav")) == [12, 13, 14]


def units(setup):
    """The parameter sets of a decoder's setup, as they stand before a picture (ISO/IEC 14496-15, 5.3.3)."""
    [length] = struct.unpack_from(">H", setup, 6)
    sequence, rest = setup[8 : 8 + length], setup[8 + length :]
    [length] = struct.unpack_from(">xH", rest)
    picture = rest[3 : 3 + length]
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in (sequence, picture))


def test_the_kind_of_a_picture_is_told_by_what_stands_before_its_first_slice_or_by_that():
    refresh, other = b"\0\0\0\2\x65\7", b"\0\0\0\2\x41\7"
    notes, sequence = b"\0\0\0\3\x06\1\1", b"\0\0\0\2\x67\1"
    assert mp4.kind_of(refresh) == mp4.kind_of(notes + refresh + sequence) == mp4.REFRESH
    assert mp4.kind_of(notes + other + refresh) == 1
    assert mp4.kind_of(notes + sequence + refresh) in mp4.PARAMETERS
    assert mp4.kind_of(b"\0\0\0") not in {mp4.REFRESH, *mp4.PARAMETERS}


def test_pictures_that_are_wrongly_said_to_need_no_other_are_left_to_the_usual_way(tmp_path):
    """Without a list of key frames, all pictures are said to be some; in another list, the 15th is one."""
    content = write(tmp_path / "x.mp4", 24, options=GROUPS).read_bytes()
    (tmp_path / "all.mp4").write_bytes(content.replace(b"stss", b"free", 1))
    changed = bytearray(content)
    struct.pack_into(">2I", changed, content.index(b"stss") + 4 + 8, 1, 15)
    (tmp_path / "one.mp4").write_bytes(changed)
    assert found(tmp_path / "all.mp4").keys_K.tolist() == list(range(24))
    assert found(tmp_path / "one.mp4").keys_K.tolist() == [0, 14]
    for name, wrong in (("all.mp4", 1), ("one.mp4", 14)):
        assert pyav._alone(tmp_path / name, np.array([0])) is not None
        assert pyav._alone(tmp_path / name, np.array([0, wrong])) is None


@pytest.mark.parametrize("group", ["1", "12"])
def test_a_file_that_crops_its_pictures(tmp_path, group):
    """Some cameras code 1088 rows and write 1080 into the file only; players show 1080."""
    content = bytearray(write(tmp_path / "x.mp4", 24, options=GROUPS | {"g": group}).read_bytes())
    at = content.index(b"avc1", content.index(b"stsd")) + 4 + 24
    assert struct.unpack_from(">HH", content, at) == (128, 32)
    struct.pack_into(">HH", content, at, 120, 28)
    (tmp_path / "x.mp4").write_bytes(content)
    finding = examine_file(tmp_path / "x.mp4", "pyav")
    assert (finding.verdict, finding.width, finding.height, finding.decoder) == ("ok", 120, 28, "pyav")
    assert read_frames(tmp_path / "x.mp4", np.array([3, 17]), "pyav").shape == (2, 28, 120, 3)


def test_a_long_group_is_not_held_in_memory(tmp_path):
    noise = np.random.default_rng(0)
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=GROUPS | {"g": "99", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for _ in range(60):
            picture = noise.integers(0, 256, (128, 128, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    size = (tmp_path / "x.mp4").stat().st_size
    pyav._alone(tmp_path / "x.mp4", np.array([0]))
    tracemalloc.start()
    frames = pyav._alone(tmp_path / "x.mp4", np.array([59]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frames is not None
    assert peak < size / 5
