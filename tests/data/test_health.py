"""A file of every kind of trouble, made here, and what is said about it; then the real odd files."""

import errno
import os
import shutil

import numpy as np
import pytest

from conftest import EXTRA, needs_extra
from fake_videos import audio, cut, half, numbers, scratched, write
from vssl.data.decode import read_frames
from vssl.data.exactness import examine
from vssl.data.health import SEGMENT, Finding, examine_file
from vssl.data.index import VERDICTS
from vssl.data.prepare import PreparedFormat, transcode


def boasting(path):
    """An AVI whose header says 131 frames more than there are."""
    content = bytearray(write(path, 60, codec="mpeg4").read_bytes())
    length = content.index(b"strh") + 8 + 32
    content[length : length + 4] = (60 + 131).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def of_no_known_codec(path):
    path.write_bytes(write(path, 20, codec="mpeg4").read_bytes().replace(b"FMP4", b"ZZZ9"))


def begun(path, size):
    """A Matroska file whose header alone has come."""
    path.write_bytes(write(path, 20).read_bytes()[:size])


def stream_copied(path):
    whole = write(path.with_name("whole.mp4"), 100, options={"g": "30", "bf": "2"})
    cut(whole, path, 47)
    whole.unlink()
    return path


PLANTED = {
    "empty.mp4": ("empty", lambda path: path.touch()),
    "words.mp4": ("not a video", lambda path: path.write_text("words " * 99)),
    "audio.mp4": ("no video stream", audio),
    "half.mp4": ("truncated", half),
    "half_index_first.mp4": ("truncated", lambda path: half(path, options={"movflags": "faststart"})),
    "half.avi": ("truncated", lambda path: half(path, codec="mpeg4")),
    "half.mkv": ("truncated", half),
    "magic.mkv": ("not a video", lambda path: begun(path, 4)),
    "segment.mkv": ("not a video", lambda path: begun(path, write(path, 1).read_bytes().index(SEGMENT) + 4)),
    "codec.avi": ("damaged", of_no_known_codec),
    "folder.mp4": ("missing", lambda path: path.mkdir()),
    "pipe.avi": ("missing", os.mkfifo),
    "dangling.mp4": ("missing", lambda path: path.symlink_to("gone")),
    "circle.mp4": ("damaged", lambda path: path.symlink_to(path)),
    "scratched.mp4": ("damaged", scratched),
    "av1.mkv": ("codec", lambda path: write(path, 20, codec="libsvtav1")),
    "cut.mp4": ("stream-copied cut", stream_copied),
    "divx.avi": ("random access is wrong", lambda path: write(path, 90, codec="mpeg4", options={"bf": "2"})),
    "uneven.mp4": ("variable frame rate", lambda path: write(path, 60, np.arange(60) ** 2)),
    "boasting.avi": ("header is wrong", boasting),
    "fine.mp4": ("ok", lambda path: write(path, 50)),
    "fine.avi": ("ok", lambda path: write(path, 50, codec="mpeg4")),
    "fine.mkv": ("ok", lambda path: write(path, 50)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_every_trouble_is_named(tmp_path, name):
    verdict, make = PLANTED[name]
    make(tmp_path / name)
    found = examine_file(tmp_path / name, "decord")
    assert (found.verdict, bool(found.detail)) == (verdict, verdict != "ok")
    assert found.verdict in VERDICTS
    assert bool(found.decoder) or not VERDICTS[verdict].usable


def test_the_facts_of_a_fine_file(tmp_path):
    found = examine_file(write(tmp_path / "v.mp4", 60), "decord")
    facts = (found.frames, found.fps, found.width, found.height, found.codec, found.decoder)
    assert facts == (60, 25.0, 128, 32, "h264", "decord")


@pytest.mark.parametrize(
    ("name", "decoder", "detail"),
    [
        ("av1.mkv", "pyav", "decord cannot read av1: read through pyav"),
        ("cut.mp4", "pyav", "decord gives other frames after a seek: read through pyav"),
        (
            "divx.avi",
            "from_start",
            "decord gives other frames after a seek: decoded from its start for each clip",
        ),
    ],
)
def test_a_file_that_decord_reads_wrongly_gets_a_decoder_that_is_right(tmp_path, name, decoder, detail):
    PLANTED[name][1](tmp_path / name)
    found = examine_file(tmp_path / name, "decord")
    assert found.decoder == decoder
    assert detail in found.detail


def test_a_file_in_which_no_seek_is_right_is_decoded_from_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr("vssl.data.health.exact", lambda path, decoder: False)
    path = write(tmp_path / "v.mp4", 90)
    monkeypatch.setattr("vssl.data.health.examine", lambda path, decoder: (examine(path, decoder)[0], False))
    found = examine_file(path, "pyav")
    assert (found.verdict, found.decoder) == ("random access is wrong", "from_start")
    assert numbers(read_frames(path, np.array([80, 3]), "from_start")) == [80, 3]


def test_a_long_file_that_is_read_as_a_whole_for_each_clip_says_so(tmp_path, monkeypatch):
    """Without holding it in memory."""
    for place in ("health", "decoders.pyav"):
        monkeypatch.setattr(f"vssl.data.{place}.HELD", 1000)
    path = write(tmp_path / "v.mkv", 90, options={"bf": "2", "g": "20"})
    megabytes = path.stat().st_size / 1e6
    found = examine_file(path, "pyav")
    assert (found.verdict, found.decoder) == ("long", "pyav")
    assert found.detail == f"each clip reads all its {megabytes:,.0f} MB"
    assert numbers(read_frames(path, np.array([80, 3, 41]), "pyav")) == [80, 3, 41]


LENGTHS = [0, 2**31 - 1, 2**32 - 1]


@pytest.mark.parametrize("count", [*LENGTHS, 2**30])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_header_that_was_written_before_its_numbers_were_known_is_no_fault(tmp_path, length, count):
    content = bytearray(write(tmp_path / "v.avi", 60, codec="mpeg4").read_bytes())
    content[4:8] = length.to_bytes(4, "little")
    at = content.index(b"strh") + 8 + 32
    content[at : at + 4] = count.to_bytes(4, "little")
    (tmp_path / "v.avi").write_bytes(content)
    found = examine_file(tmp_path / "v.avi", "pyav")
    assert (found.verdict, found.frames) == ("ok", 60)
    transcode(tmp_path / "v.avi", tmp_path / "out.mp4", PreparedFormat([32, 128], 20, 1))


def test_a_box_of_unknown_length_is_no_fault(tmp_path):
    path = write(tmp_path / "v.mp4", 60)
    for length in (0, 2**32 - 1):
        content = path.read_bytes() + length.to_bytes(4, "big") + b"mdat" + bytes(8)
        (tmp_path / "box.mp4").write_bytes(content)
        assert examine_file(tmp_path / "box.mp4", "pyav").verdict == "ok"


def test_bytes_that_are_missing_behind_the_last_frame_are_no_loss(tmp_path):
    path = write(tmp_path / "v.mp4", 60)
    path.write_bytes(path.read_bytes() + (1000).to_bytes(4, "big") + b"free" + bytes(8))
    found = examine_file(path, "pyav")
    assert (found.verdict, found.frames) == ("header is wrong", 60)
    assert found.detail == "984 bytes are missing at its end, but all frames are there"


@pytest.mark.parametrize(
    ("number", "verdict"),
    [(errno.EACCES, "damaged"), (errno.EIO, "damaged"), (errno.ESTALE, "damaged"), (errno.ENOENT, "missing")],
)
def test_what_the_system_does_not_hand_out_is_said_in_its_words(tmp_path, monkeypatch, number, verdict):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("builtins.open", refuse)
    found = examine_file(write(tmp_path / "v.mp4", 20), "decord")
    assert found == Finding(verdict, f"cannot be read ({os.strerror(number)})")


def test_a_file_may_vanish_while_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "v.mp4", 20)
    monkeypatch.setattr("vssl.data.health.examine", lambda *_: (path.unlink(), examine(path, "decord"))[1])
    found = examine_file(path, "decord")
    assert (found.verdict, found.digest) == ("missing", "")


def test_a_name_that_is_no_utf8_leaves_the_video_as_it_is(tmp_path):
    found = examine_file(write(tmp_path / os.fsdecode(b"caf\xe9.mp4"), 20), "decord")
    assert (found.frames, found.decoder) == (20, "pyav")


def test_the_digest_is_of_the_content(tmp_path):
    one, other = write(tmp_path / "one.mp4", 20), write(tmp_path / "other.mp4", 21)
    shutil.copy(one, tmp_path / "copy.mp4")
    digests = [examine_file(path, "pyav").digest for path in (one, tmp_path / "copy.mp4", other)]
    assert digests[0] == digests[1] != digests[2]


EXPECTED = {
    "audio_only.mp4": "no video stream",
    "av1_video.mkv": "codec",
    "corrupted.mp4": "damaged",
    "empty.mp4": "empty",
    "garbage.avi": "not a video",
    "stream_copied_cut.mp4": "stream-copied cut",
    "truncated_half.avi": "truncated",
    "truncated_moov_at_end_or_cut.mp4": "truncated",
    "vfr.mp4": "variable frame rate",
    "video_90.mov": "ok",
    "odd_size_171x129.mp4": "ok",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": "random access is wrong",
}


@needs_extra
@pytest.mark.parametrize("name", EXPECTED)
def test_real_odd_files(name):
    assert examine_file(EXTRA / "videos" / "odd" / name, "decord").verdict == EXPECTED[name]
