"""What a check makes of a listing, beyond single files."""

import errno
import json
import os

import pytest

from fake_videos import write
from vssl.data import layouts
from vssl.data.check import Check, _examine
from vssl.data.pool import Lost, Outcome
from vssl.errors import VsslError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "videos" / "run"
    folder.mkdir(parents=True)
    for n in range(3):
        write(folder / f"{n}.mp4", 20 + n)
    return tmp_path / "videos"


def check_of(root, **changes):
    listing = layouts.read("folder", root, None, None)
    return Check(listing, root, changes.get("decoder", "decord"), root.parent / "index" / "journal.jsonl")


@pytest.mark.parametrize("verdict", ["hangs", "crashes", "no memory"])
def test_files_that_are_lost_are_named_and_tried_again_by_the_next_check(root, monkeypatch, verdict):
    def lost(function, tasks, workers, timeout_s):
        return (Outcome(task, Lost(verdict, "why"), 0.0) for task in tasks)

    monkeypatch.setattr("vssl.data.check.each", lost)
    check = check_of(root)
    assert list(check.run(1, timeout_s=60)) == check_of(root).left == [f"run/{n}.mp4" for n in range(3)]
    assert check.index(16).verdict.tolist() == [verdict.encode()] * 3
    assert not check.index(16).usable.any()
    assert {remark.detail for remark in check.remarks()} == {"why"}


def test_the_journal_is_for_one_state_of_a_file_and_one_decoder(root):
    list(check_of(root).run(1, timeout_s=60))
    assert check_of(root).left == []
    assert len(check_of(root, decoder="pyav").left) == 3
    write(root / "run" / "1.mp4", 30)
    assert check_of(root).left == ["run/1.mp4"]


def test_what_was_noted_by_other_rules_is_read_again(root, monkeypatch):
    list(check_of(root).run(1, timeout_s=60))
    monkeypatch.setattr("vssl.data.check.RULES", 99)
    assert len(check_of(root).left) == 3


@pytest.mark.parametrize(
    "line",
    [
        '["run/1.mp4", [1, 2]]',
        "[[1], 2, 3]",
        '"words"',
        "{}",
        "null",
        "7",
        "\\xff",
        '["run/1.mp4", null, null]',
    ],
)
def test_lines_of_a_journal_that_are_none_are_passed_over(root, line):
    list(check_of(root).run(1, timeout_s=60))
    journal = root.parent / "index" / "journal.jsonl"
    journal.write_text(f"{line}\n{journal.read_text()}")
    assert check_of(root).left == []


@pytest.mark.parametrize(
    "change", [lambda found: [*found, 7], lambda found: ["fine", *found[1:]], lambda _: 7]
)
def test_what_another_version_has_noted_is_found_anew(root, change):
    """One more column, a verdict that this version has not, no columns."""
    check = check_of(root)
    list(check.run(1, timeout_s=60))
    lines = [json.loads(line) for line in check.journal.read_text().splitlines() if line]
    lines[0][2] = change(lines[0][2])
    check.journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    again = check_of(root)
    assert again.left == [lines[0][0]]
    list(again.run(1, timeout_s=60))
    assert again.remarks() == check.remarks()


def test_a_journal_that_cannot_be_written_is_one_line(root):
    (root.parent / "index").write_text("no folder")
    with pytest.raises(VsslError, match=r"journal.jsonl: cannot be written \(.+\); free some space"):
        list(check_of(root).run(1, timeout_s=60))


def test_a_file_that_an_optional_decoder_does_not_survive_is_read_without_it(root, monkeypatch):
    (root / "run" / "2.mp4").write_text("words")

    def each(function, tasks, workers, timeout_s):
        for task in tasks:
            lost = Lost("crashes", "its process died (exit code -6)")
            yield Outcome(task, lost if not task[-1] else function(*task), 1.0)

    monkeypatch.setattr("vssl.data.check.each", each)
    check = check_of(root)
    assert len(list(check.run(1, timeout_s=60))) == 3
    assert check.cpu_s == 3
    index = check.index(16)
    assert index.usable.tolist() == [True, True, False]
    assert index.decoder.tolist() == [b"pyav", b"pyav", b""]
    detail = "decord does not survive it (its process died (exit code -6)): read through pyav"
    assert [(remark.verdict, remark.detail) for remark in check.remarks()][:2] == [("codec", detail)] * 2
    assert check_of(root).left == []


def test_the_index_from_a_journal_is_that_of_a_check(root):
    check = check_of(root)
    list(check.run(1, timeout_s=60))
    one, other = check.index(16), check_of(root).index(16)
    assert one.frames.tolist() == other.frames.tolist() == [20, 21, 22]
    for column in ("verdict", "decoder", "codec", "fps", "width", "digest"):
        assert (getattr(one, column) == getattr(other, column)).all()


def test_lines_that_a_kill_left_are_passed_over(root):
    check = check_of(root)
    list(check.run(1, timeout_s=60))
    lines = check.journal.read_text().splitlines()
    torn = [line for line in lines if line and json.loads(line)[0] != "run/2.mp4"] + ['["run/2.mp4", [12']
    check.journal.write_text("\n".join(torn))
    again = check_of(root)
    assert again.left == ["run/2.mp4"]
    list(again.run(1, timeout_s=60))
    assert check_of(root).left == []


def test_no_file_stops_the_check(root):
    """Nor does it the next one, which has all but what could not be read in its journal."""
    (root / "run" / "dangling.mp4").symlink_to("gone")
    (root / "run" / "magic.mkv").write_bytes(b"\x1a\x45\xdf\xa3")
    os.mkfifo(root / "run" / "pipe.avi")
    (root / "run" / "folder.mp4").mkdir()
    write(root / "run" / os.fsdecode(b"two\nlines, caf\xe9.mp4"), 20)
    for left in (7, 1):
        check = check_of(root)
        assert len(check.left) == left
        assert len(list(check.run(2, timeout_s=60))) == left
        assert [(remark.name, remark.verdict, bool(remark.detail)) for remark in check.remarks()] == [
            ("run/dangling.mp4", "missing", True),
            ("run/magic.mkv", "not a video", True),
            ("run/pipe.avi", "missing", True),
            (r"run/two\nlines, caf\udce9.mp4", "codec", True),
        ]
        assert check.index(16).usable.tolist() == [True] * 3 + [False] * 3 + [True]


def test_a_file_that_vanishes_after_it_was_listed_is_missing_until_it_is_back(root):
    check = check_of(root)
    path = root / "run" / "1.mp4"
    path.rename(root / "aside")
    list(check.run(1, timeout_s=60))
    assert [(remark.name, remark.verdict) for remark in check.remarks()] == [("run/1.mp4", "missing")]
    (root / "aside").rename(path)
    assert check_of(root).left == ["run/1.mp4"]
    list(check_of(root).run(1, timeout_s=60))
    path.rename(root / "aside")
    path.symlink_to("gone")
    assert check_of(root).left == ["run/1.mp4"]


def test_a_file_that_cannot_be_read_is_tried_again_by_the_next_check(root, monkeypatch):
    def each(function, tasks, workers, timeout_s):
        with monkeypatch.context() as patch:
            patch.setattr("vssl.data.health.open", refuse, raising=False)
            patch.setattr("vssl.data.probe.open", refuse, raising=False)
            yield from [Outcome(task, _examine(*task), 0.0) for task in tasks]

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("vssl.data.check.each", each)
    check = check_of(root)
    assert len(list(check.run(1, timeout_s=60))) == 3
    assert {remark[::2] for remark in check.remarks()} == {("damaged", "cannot be read (Permission denied)")}
    assert len(check_of(root).left) == 3
