"""What a check makes of a listing, beyond single files."""

import json

import pytest

from drawn import write
from vssl.data import lists
from vssl.data.check import Check
from vssl.data.pool import Lost


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "videos" / "run"
    folder.mkdir(parents=True)
    for n in range(3):
        write(folder / f"{n}.mp4", 20 + n)
    return tmp_path / "videos"


def check_of(root, **changes):
    listing = lists.read("folder", root, None, None)
    return Check(listing, root, changes.get("decoder", "decord"), root.parent / "index" / "journal.jsonl")


@pytest.mark.parametrize(("in_time", "verdict"), [(False, "hangs"), (True, "crashes")])
def test_files_that_hang_are_named_and_tried_again_by_the_next_check(root, monkeypatch, in_time, verdict):
    def lost(function, tasks, workers, timeout_s):
        return ((task, Lost(in_time, "why")) for task in tasks)

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
