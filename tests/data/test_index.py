"""The index of a check: how it is stored, what it selects, and what its fingerprint covers."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from conftest import ROOT, planted_index
from vssl.data.index import VERDICTS, fingerprint, load, select, write
from vssl.errors import VsslError

MANY = 240_000


def test_what_is_written_is_loaded(tmp_path):
    index = planted_index(5, names=["a/1.mp4", "a/ü.mp4", "b/\udcff.mp4", "b/4.mp4", "b/5.mp4"])
    write(index, tmp_path / "new" / "index.npz")
    loaded = load(tmp_path / "new" / "index.npz")
    assert loaded.classes == index.classes
    assert [loaded.name(row) for row in range(5)] == [
        "a/1.mp4",
        "a/ü.mp4",
        "b/\udcff.mp4",
        "b/4.mp4",
        "b/5.mp4",
    ]
    for column in (
        "label",
        "frames",
        "fps",
        "width",
        "height",
        "codec",
        "verdict",
        "decoder",
        "digest",
        "subsets",
    ):
        assert (getattr(loaded, column) == getattr(index, column)).all()


def test_a_new_index_is_seen_by_a_process_that_has_loaded_the_old_one(tmp_path):
    path = tmp_path / "index.npz"
    write(planted_index(5), path)
    assert len(load(path)) == 5
    write(planted_index(6), path)
    os.utime(path, ns=(1, 1))
    assert len(load(path)) == 6


def test_an_index_that_the_system_does_not_hand_out_is_one_line(tmp_path):
    (tmp_path / "index.npz").mkdir()
    with pytest.raises(VsslError, match=r"index.npz: cannot be read \(Is a directory\); make it readable or"):
        load(tmp_path / "index.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"not an index", b"PK\x03\x04"])
def test_a_damaged_index_is_named(tmp_path, content):
    path = tmp_path / "index.npz"
    path.write_bytes(content)
    with pytest.raises(VsslError, match=r"index.npz: not an index .*; delete it and run mode=check again"):
        load(path)


MEASURE = """
import os, sys, pathlib
import numpy as np
from vssl.data.dataset import ClipDataset
from vssl.data.listed import ListedVideos
from vssl.protocol.finetune import RandomClip
from vssl.data.index import fingerprint, load, select
def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
before = megabytes()
index = load(pathlib.Path(sys.argv[1]))
rows = select(index, "train", 1, 0.0, None)
source = ListedVideos("k", "/", sys.argv[1], "train", 1, 0.0, None, len(rows), fingerprint(index, rows))
source.prepare()
data = ClipDataset(source, RandomClip(16, "loop"), None, seed=0, repeat=1, replace_bad=True)
assert len(data.videos) == len(rows)
assert data.videos[len(rows) - 1].num_frames == 300
print(len(rows), megabytes() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_an_index_of_all_kinetics_takes_less_than_100_mb(tmp_path):
    write(
        planted_index(MANY, names=[f"playing_a_game/{i:011}_000001_000011.mp4" for i in range(MANY)]),
        tmp_path / "i",
    )
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "i")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    rows, megabytes = done.stdout.split()
    assert int(rows) == MANY
    assert float(megabytes) < 100


def test_only_usable_files_of_the_subset_are_selected():
    index = planted_index(6)
    index.subsets[:] = [[1, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]]
    index.verdict[:2] = [b"truncated", b"stream-copied cut"]
    assert select(index, "train", 1, 0.0, None).tolist() == [1, 4]
    assert select(index, "test", 1, 0.0, None).tolist() == [2, 5]
    assert select(index, "train", 2, 0.0, None).tolist() == [2, 3]
    with pytest.raises(VsslError, match="split=3: the lists that were checked have splits 1 to 2"):
        select(index, "train", 3, 0.0, None)


GROUPS = {
    r"_(?P<group>g\d+)_c\d+\.": [f"c{n % 4}/v_c{n % 4}_g{n // 8 + 1:02}_c{n % 8:02}.avi" for n in range(80)],
    r"(?P<class>[^/]+)/(?P<group>.+)_(?P=class)_[a-z]_": [
        f"climb_up/a_film_{n // 8}_climb_up_f_cm_np1_ba_med_{n % 8}.avi" for n in range(80)
    ],
}


@pytest.mark.parametrize("pattern", GROUPS)
def test_validation_holds_out_whole_groups(pattern):
    names = GROUPS[pattern]
    index = planted_index(80, names=names)
    train, held = (select(index, subset, 1, 0.2, pattern).tolist() for subset in ("train", "val"))
    assert sorted(train + held) == list(range(80))
    assert len(held) == 16  # 2 of 10 groups
    assert {n // 8 for n in held}.isdisjoint(n // 8 for n in train)
    assert select(index, "train", 1, 0.0, pattern).tolist() == list(range(80))


def test_validation_without_groups_is_a_share_that_does_not_depend_on_the_order():
    names = [f"{n:03}.mp4" for n in range(100)]
    held = select(planted_index(100, names=names), "val", 1, 0.1, None).tolist()
    assert len(held) == 10
    backwards = select(planted_index(100, names=names[::-1]), "val", 1, 0.1, None).tolist()
    assert sorted(99 - n for n in backwards) == held
    assert held != list(range(10))


def test_names_that_are_no_utf8_can_be_held_out():
    index = planted_index(4, [os.fsdecode(b"caf\xe9%d.mp4" % n) for n in range(4)])
    held, left = (select(index, subset, 1, 0.5, None) for subset in ("val", "train"))
    assert (len(held), sorted([*held, *left])) == (2, [0, 1, 2, 3])


def test_one_group_cannot_be_cut():
    with pytest.raises(VsslError, match="1 groups cannot be cut in two"):
        select(planted_index(3, names=["1", "2", "3"]), "val", 1, 0.1, "(?P<group>)")


def test_the_fingerprint_covers_what_decides_the_weights_and_nothing_else():
    index, rows = planted_index(6), np.arange(6)
    same = fingerprint(index, rows)
    renamed = planted_index(6, names=list("abcdef"))
    assert fingerprint(replace(renamed, fps=index.fps + 1), rows) == same
    for column in ("digest", "label", "frames", "decoder"):
        changed = getattr(index, column).copy()
        changed[3] = b"pyav" if column == "decoder" else changed[3] + 1
        assert fingerprint(replace(index, **{column: changed}), rows) != same
    assert fingerprint(index, rows[::-1]) != same
    assert fingerprint(index, rows[:5]) != same


def test_two_ways_to_the_same_frames_are_one_fingerprint():
    index, rows = planted_index(6), np.arange(6)
    one, other = (replace(index, decoder=np.full(6, name, "S32")) for name in (b"pyav", b"from_start"))
    assert fingerprint(one, rows) == fingerprint(other, rows) != fingerprint(index, rows)


def test_the_readme_says_what_becomes_of_a_file_of_each_verdict():
    rows = re.findall(r"^\| ([^|]+) \| (yes|no) \|", (ROOT / "docs/videos.md").read_text(), re.MULTILINE)
    told = {name.partition(" (")[0]: used == "yes" for names, used in rows for name in names.split(", ")}
    assert {name: told.get(name) for name in VERDICTS if name != "ok"} == {
        name: verdict.usable for name, verdict in VERDICTS.items() if name != "ok"
    }


def test_every_verdict_fits_its_column_and_has_a_remedy():
    for cause, verdict in VERDICTS.items():
        assert len(cause.encode("ascii")) <= 32
        assert verdict.remedy or cause == "ok"
