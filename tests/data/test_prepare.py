import errno
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from conftest import ROOT, composed, environment
from fake_videos import cut, numbers, write
from vssl.commands.prepare import execute
from vssl.data.decode import read_frames
from vssl.data.exactness import exact
from vssl.data.lists import video_files
from vssl.data.operations.crop import resize
from vssl.data.pool import Lost, Outcome
from vssl.data.prepare import JOURNAL, PreparedFormat, claimed, copy_lists, transcode
from vssl.data.probe import BadVideo, probe
from vssl.errors import VsslError

LOOK = PreparedFormat([32, 171], 20, 8)
FRAMES = 70


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("variable.mp4", {"times": np.random.default_rng(0).integers(2, 20, FRAMES).cumsum()}),
        ("xvid.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("turned.mp4", {"turns": 1}),
        ("odd.mp4", {"pix_fmt": "yuv444p", "size": (171, 129)}),
    ],
)
def test_frame_i_stays_frame_i_under_the_same_name(tmp_path, name, options):
    target = tmp_path / "out" / name
    transcode(write(tmp_path / name, FRAMES, **options), target, LOOK)
    for decoder in ("decord", "pyav"):
        assert numbers(read_frames(target, np.arange(FRAMES)[::-1], decoder)) == list(range(FRAMES))[::-1]
        assert exact(target, decoder)
    assert [path.name for path in target.parent.iterdir()] == [name]


def test_what_a_cut_hides_is_gone(tmp_path):
    source = cut(write(tmp_path / "whole.mp4", 100, options={"g": "30"}), tmp_path / "cut.mp4", 47)
    transcode(source, tmp_path / "out.mp4", LOOK)
    facts = probe(tmp_path / "out.mp4")
    assert (facts.frames, facts.hidden) == (53, 0)
    assert numbers(read_frames(tmp_path / "out.mp4", np.array([0, 52]), "decord")) == [47, 99]


def test_what_training_reads_fast(tmp_path):
    transcode(write(tmp_path / "in.mp4", FRAMES, times=np.arange(FRAMES) ** 2), tmp_path / "out.mp4", LOOK)
    facts = probe(tmp_path / "out.mp4")
    assert (facts.height, facts.width, facts.codec, facts.variable_rate) == (32, 172, "h264", False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams) == 1
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, FRAMES, 8))
    assert all(packet.pts == packet.dts for packet in packets)


def test_the_pictures_are_those_that_training_would_have_made(tmp_path):
    frames_THWC = (
        np.random.default_rng(0).integers(0, 256, (3, 3, 4, 3)).repeat(32, 1).repeat(32, 2).astype(np.uint8)
    )
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001), options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv444p"
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode())
    transcode(tmp_path / "in.mp4", tmp_path / "out.mp4", PreparedFormat([65, 81], 5, 8))
    expected_TCHW, given_TCHW = (
        torch.from_numpy(read_frames(tmp_path / f"{name}.mp4", np.arange(3), "pyav")).permute(0, 3, 1, 2)
        for name in ("in", "out")
    )
    assert given_TCHW.shape == (3, 3, 66, 82)
    difference = resize(given_TCHW, [65, 81]).int() - resize(expected_TCHW, [65, 81])
    assert difference.abs().float().mean() < 4
    assert probe(tmp_path / "out.mp4").fps == pytest.approx(30000 / 1001)


@pytest.mark.parametrize(
    ("size", "before", "after"),
    [
        ([128, 171], (240, 320), [128, 171]),
        (128, (240, 320), [128, 170]),
        (128, (400, 225), [228, 128]),
        (128, (130, 97), [130, 96]),
    ],
)
def test_sides(size, before, after):
    assert PreparedFormat(size, 20, 8).sides(*before) == after


def test_a_bad_file_leaves_nothing_behind(tmp_path):
    whole = write(tmp_path / "whole.avi", FRAMES, codec="mpeg4").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) * 3 // 4])
    # Which of the two depends on FFmpeg's version.
    cut_off = r"half.avi: (\d+ frames decode, the header says 70|breaks off after \d+ frames)"
    with pytest.raises(BadVideo, match=cut_off):
        transcode(tmp_path / "half.avi", tmp_path / "out" / "half.avi", LOOK)
    assert not list((tmp_path / "out").iterdir())


def test_videos_and_lists_are_found_below_a_folder(tmp_path):
    for name in ("b/x.AVI", "a.mp4", "b/.hidden.mp4", "b/list.txt", "notes.md"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    assert video_files(tmp_path / "in") == ["a.mp4", "b/x.AVI"]
    copy_lists(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["list.txt"]


def test_a_list_that_cannot_be_read_is_named_and_what_is_no_file_passed_over(tmp_path, monkeypatch):
    for name in ("a.txt", "b.csv"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    os.mkfifo(tmp_path / "in" / "pipe.txt")
    (tmp_path / "in" / "dangling.json").symlink_to("gone")
    read = Path.read_bytes

    def refuse(path):
        if path.name == "a.txt":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    failed = copy_lists(tmp_path / "in", tmp_path / "out")
    assert list(failed) == ["a.txt"]
    assert "a.txt: cannot be read (Input/output error); check" in failed["a.txt"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.csv"]


def test_a_name_as_long_as_names_can_be(tmp_path):
    name = "x" * 251 + ".mp4"
    transcode(write(tmp_path / "v.mp4", 5).rename(tmp_path / name), tmp_path / "out" / name, LOOK)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_no_file_stops_the_others(tmp_path, capsys, monkeypatch):
    """Neither now nor the next time; and the timing at the end passes over what cannot be read."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("0.mp4", "1.mp4", os.fsdecode(b"two\nlines, caf\xe9.mp4")):
        write(source / name, 20)
    (source / "dangling.mp4").symlink_to("gone")
    (source / os.fsdecode(b"\xe9.avi")).write_text("words")
    os.mkfifo(source / "pipe.avi")
    cfg = composed(
        *("mode=prepare", "source=folder", "prepare.size=[32,128]", "runtime.workers=1", "check.max_bad=1"),
        *(f"source.root={source}", f"prepare.out={out}", f"outputs={tmp_path / 'o'}"),
    )

    def refuse(path, frames_T, decoder):
        raise VsslError("no")

    monkeypatch.setattr("vssl.commands.prepare.read_frames", refuse)
    for _ in range(2):
        execute(cfg)
        said = capsys.readouterr().out
        failed = [line for line in said.splitlines() if line.startswith("failed: ")]
        whys = {
            "dangling.mp4": "cannot be read (No such file",
            "pipe.avi": "no regular file",
            r"\udce9.avi": "not a v",
        }
        assert [
            line for line, (name, why) in zip(failed, whys.items(), strict=True) if f"/{name}: {why}" in line
        ] == failed
        assert "3 videos: " in said
        assert (out / ".failed.txt").read_text().splitlines() == [
            line.removeprefix("failed: ") for line in failed
        ]
    (source / "1.mp4").unlink()
    (source / "1.mp4").symlink_to("gone")
    execute(cfg)
    assert "2 videos: " in capsys.readouterr().out


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Prepares tmp_path/in into tmp_path/out, here; returns the names of what was read, and what was said."""
    read = []

    def each(function, tasks, workers, timeout_s):
        for task in tasks:
            read.append(task[0])
            yield Outcome(task, function(*task), 0.5)

    def run():
        read.clear()
        execute(
            composed(
                *("mode=prepare", "source=folder", "prepare.size=[32,128]", "check.max_bad=1"),
                *(f"source.root={tmp_path / 'in'}", f"prepare.out={tmp_path / 'out'}"),
            )
        )
        return sorted(read), capsys.readouterr().out

    (tmp_path / "in").mkdir()
    monkeypatch.setattr("vssl.commands.prepare.each", each)
    return run


def test_a_second_preparation_reads_only_what_changed(tmp_path, prepare):
    source, out = tmp_path / "in", tmp_path / "out"
    for n in (0, 1):
        write(source / f"{n}.mp4", 20 + n)
    (source / "bad.mp4").write_text("words")
    names, said = prepare()
    assert names == ["0.mp4", "1.mp4", "bad.mp4"]
    assert "3/3 files" in said
    assert "CPU s/file 0.5" in said
    names, said = prepare()
    assert names == []
    assert f"failed: {source / 'bad.mp4'}: not a video" in said
    write(source / "1.mp4", 30)
    assert prepare()[0] == ["1.mp4"]
    assert numbers(read_frames(out / "1.mp4", np.array([29]), "pyav")) == [29]
    write(source / "bad.mp4", 10)
    (source / "0.mp4").write_text("words")
    assert prepare()[0] == ["0.mp4", "bad.mp4"]
    assert sorted(video_files(out)) == ["1.mp4", "bad.mp4"]  # no copy of what 0.mp4 was before


@pytest.mark.parametrize("cause", ["hangs", "crashes", "no memory"])
def test_a_file_that_is_lost_costs_itself_alone_and_is_tried_again(tmp_path, prepare, monkeypatch, cause):
    for n in (0, 1):
        write(tmp_path / "in" / f"{n}.mp4", 20)
    prepare()
    write(tmp_path / "in" / "0.mp4", 21)
    with monkeypatch.context() as patch:
        lost = [Outcome(("0.mp4",), Lost(cause, "not enough memory"), 0.0)]
        patch.setattr("vssl.commands.prepare.each", lambda *arguments: iter(lost))
        said = prepare()[1]
    assert f"failed: {tmp_path / 'in' / '0.mp4'}: not enough memory" in said
    assert video_files(tmp_path / "out") == ["1.mp4"]
    assert prepare()[0] == ["0.mp4"]


def test_a_file_that_was_replaced_by_an_older_one_has_changed(tmp_path, prepare):
    path = write(tmp_path / "in" / "0.mp4", 20)
    prepare()
    write(path, 21)
    os.utime(path, (1e9, 1e9))
    assert prepare()[0] == ["0.mp4"]


def test_copies_without_a_journal_are_kept_while_they_are_newer(tmp_path, prepare):
    path = write(tmp_path / "in" / "0.mp4", 20)
    prepare()
    (tmp_path / "out" / JOURNAL).unlink()
    assert prepare()[0] == []
    os.utime(path, (2e9, 2e9))
    assert prepare()[0] == ["0.mp4"]


def test_what_the_system_does_not_hand_out_is_tried_again(tmp_path, prepare, monkeypatch):
    write(tmp_path / "in" / "0.mp4", 20)
    with monkeypatch.context() as patch:
        patch.setattr("vssl.data.probe.open", refuse_to_open, raising=False)
        names, said = prepare()
    assert "0.mp4: cannot be read (Permission denied)" in said
    assert names == prepare()[0] == ["0.mp4"]
    assert prepare()[0] == []


def refuse_to_open(*_):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_a_preparation_in_one_line(tmp_path, prepare, monkeypatch, number):
    """No file is to blame for it."""

    def fail(*_):
        raise av.error.OSError(number, os.strerror(number))

    write(tmp_path / "in" / "0.mp4", 20)
    with monkeypatch.context() as patch:
        patch.setattr("vssl.data.prepare.transcode", fail)
        with pytest.raises(VsslError, match=rf"out: cannot be written \({os.strerror(number)}\); free"):
            prepare()
    assert prepare()[0] == ["0.mp4"]


def test_one_folder_holds_one_look(tmp_path):
    with claimed(tmp_path, LOOK):
        pass
    with (
        pytest.raises(VsslError, match=r"choose another prepare\.out"),
        claimed(tmp_path, PreparedFormat(128, 20, 8)),
    ):
        pass


def test_a_killed_prepare_goes_on_where_it_was_and_names_what_failed(tmp_path, capsys):
    settings = [
        *("mode=prepare", "source=folder", "prepare.size=[32,128]", "runtime.workers=1"),
        *(f"source.root={tmp_path / 'in'}", f"prepare.out={tmp_path / 'out'}", f"outputs={tmp_path / 'o'}"),
    ]
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = [f"{n:02}.mp4" for n in range(60)]  # so many that the kill comes before the end on a busy machine
    write(source / names[0], 30)
    for name in names[1:]:
        (source / name).write_bytes((source / names[0]).read_bytes())
    (source / "bad.mp4").write_text("no video")
    (source / "list.txt").write_text("00.mp4")
    killed = subprocess.Popen([sys.executable, str(ROOT / "launch.py"), *settings], env=environment())
    while len(list(out.glob("[0-9]*.mp4"))) < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (out / ".55.mp4.99999").write_text("half a video")
    made = {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.mp4")}
    assert len(made) < len(names)

    with pytest.raises(VsslError, match="1 of 61 files could not be prepared"):
        execute(composed(*settings))
    said = capsys.readouterr().out
    assert f"failed: {source / 'bad.mp4'}: not a video" in said
    assert "60 videos: " in said
    assert all(path.stat().st_mtime_ns == then for path, then in made.items())
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        *names,
        "list.txt",
    ]
    assert not (out / ".55.mp4.99999").exists()
    assert all(numbers(read_frames(out / name, np.array([29]), "pyav")) == [29] for name in names)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("in/small", "must lie outside of source.root"),
        (".", "must lie outside"),
        ("out", "source.root=.*: no video below it"),
    ],
)
def test_prepare_never_writes_into_the_data_set(tmp_path, out, said):
    (tmp_path / "in").mkdir()
    cfg = composed("source=folder", f"source.root={tmp_path / 'in'}", f"prepare.out={tmp_path / out}")
    with pytest.raises(VsslError, match=said):
        execute(cfg)
    assert not list((tmp_path / "in").iterdir())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.lockf", fail)
    message = r"has no POSIX locks \(.+\), .*; say prepare.out=DIR on one that has"
    with pytest.raises(VsslError, match=message), claimed(tmp_path, PreparedFormat(32, 20, 1)):
        pass
