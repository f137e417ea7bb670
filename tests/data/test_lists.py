"""Lists as people have them; the official ones too where they are given."""

import errno
import os
from pathlib import Path

import pytest

from conftest import EXTRA, needs_extra
from vssl.data import layouts, lists
from vssl.data.lists import TEST, TRAIN, UNLABELLED, UNUSED
from vssl.errors import VsslError


def make(root, *paths):
    """Empty files."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def say(file, *lines, end="\n"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(line + end for line in lines).encode())


def told(listing):
    """What a listing says, by path: class, subset in each split, whether there is a file."""
    return {
        e.path: (listing.classes[e.label] if e.label >= 0 else None, e.subsets, e.exists)
        for e in listing.entries
    }


@needs_extra
@pytest.mark.parametrize(
    ("layout", "classes", "videos", "splits"),
    [
        ("ucf101", 101, 13320, [(9537, 3783), (9586, 3734), (9624, 3696)]),
        ("hmdb51", 51, 6766, [(3570, 1530)] * 3),
    ],
)
def test_the_official_lists_have_the_published_counts(tmp_path, layout, classes, videos, splits):
    make(tmp_path, "some.avi")
    listing = layouts.read(layout, tmp_path, EXTRA / "splits" / layout, None)
    assert (len(listing.classes), len(listing.entries)) == (classes, videos)
    assert [((row == TRAIN).sum(), (row == TEST).sum()) for row in listing.subsets_SN] == splits
    assert not any(entry.exists for entry in listing.entries)
    assert listing.not_listed == 1


@needs_extra
def test_either_line_end_says_the_same(tmp_path):
    make(tmp_path, "some.avi")
    official, unix = EXTRA / "splits" / "ucf101", tmp_path / "unix"
    for file in official.glob("*.txt"):
        say(unix / file.name, *file.read_text().splitlines())
    read = [layouts.read("ucf101", tmp_path, folder, None) for folder in (official, unix)]
    assert b"\r" in (official / "testlist01.txt").read_bytes()
    assert b"\r" not in (unix / "testlist01.txt").read_bytes()
    assert read[0] == read[1]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("place", ["ucfTrainTestlist", "../ucfTrainTestlist", "."])
def test_ucf101(tmp_path, end, place):
    root = tmp_path / "UCF-101"
    make(root, "HandstandPushups/v_HandStandPushups_g01_c01.avi", "Archery/v_Archery_g02_c01.mp4", "own.avi")
    say(root / place / "classInd.txt", "1 Archery", "2 HandstandPushups", end=end)
    say(root / place / "trainlist01.txt", "Archery/v_Archery_g02_c01.avi 1", end=end)
    say(
        root / place / "testlist01.txt",
        "HandStandPushups/v_HandstandPushups_g01_c01.avi",
        "Archery/v_Archery_g03_c01.avi",
        end=end,
    )
    listing = layouts.read("ucf101", root, None, None)
    assert told(listing) == {
        "Archery/v_Archery_g02_c01.mp4": ("Archery", (TRAIN,), True),
        "Archery/v_Archery_g03_c01.avi": ("Archery", (TEST,), False),
        "HandstandPushups/v_HandStandPushups_g01_c01.avi": ("HandstandPushups", (TEST,), True),
    }
    assert listing.not_listed == 1


def test_ucf101_files_without_class_folders(tmp_path):
    make(tmp_path, "v_Archery_g02_c01.avi")
    say(tmp_path / "classInd.txt", "1 Archery")
    say(tmp_path / "trainlist01.txt", "Archery/v_Archery_g02_c01.avi 1")
    say(tmp_path / "testlist01.txt")
    assert told(layouts.read("ucf101", tmp_path, None, None)) == {
        "v_Archery_g02_c01.avi": ("Archery", (TRAIN,), True)
    }


def test_hmdb51(tmp_path):
    make(tmp_path, "climb/a (b)_climb_f.avi", "wave/b_wave_f.avi", "wave/c_wave_f.avi")
    folder = tmp_path / "testTrainMulti_7030_splits"
    for split, flags in ((1, "120"), (2, "210")):
        say(folder / f"climb_test_split{split}.txt", f"a (b)_climb_f.avi {flags[0]} ")
        say(folder / f"wave_test_split{split}.txt", f"b_wave_f.avi {flags[1]} ", f"c_wave_f.avi {flags[2]} ")
    assert told(layouts.read("hmdb51", tmp_path, None, None)) == {
        "climb/a (b)_climb_f.avi": ("climb", (TRAIN, TEST), True),
        "wave/b_wave_f.avi": ("wave", (TEST, TRAIN), True),
        "wave/c_wave_f.avi": ("wave", (UNUSED, UNUSED), True),
    }


KINETICS = {
    "underscores and time stamps": "air_drumming/-abc_DEF-12_000003_000013.mp4",
    "blanks, no time stamps": "air drumming/-abc_DEF-12.mkv",
}
OFFICIAL_CSV = ("label,youtube_id,time_start,time_end,split,is_cc", "air drumming,-abc_DEF-12,3,13,train,0")
PLAIN_CSV = ("-abc_DEF-12.mp4 air_drumming",)


@pytest.mark.parametrize("path", KINETICS.values(), ids=list(KINETICS))
def test_kinetics_as_class_folders(tmp_path, path):
    make(tmp_path, f"train_256/{path}", "val/zumba/aaaaaaaaaaa.mp4")
    listing = layouts.read("kinetics", tmp_path, None, None)
    assert [name.replace(" ", "_") for name in listing.classes] == ["air_drumming", "zumba"]
    assert [(e.path, e.label, e.subsets) for e in listing.entries] == [
        (f"train_256/{path}", 0, (TRAIN,)),
        ("val/zumba/aaaaaaaaaaa.mp4", 1, (TEST,)),
    ]


@pytest.mark.parametrize("rows", [OFFICIAL_CSV, PLAIN_CSV], ids=["official", "plain"])
@pytest.mark.parametrize("path", [*KINETICS.values(), "-abc_DEF-12_000003_000013.mp4"])
def test_kinetics_by_csv(tmp_path, path, rows):
    make(tmp_path, f"train/{path}")
    say(tmp_path / "annotations" / "train.csv", *rows)
    [entry] = layouts.read("kinetics", tmp_path, None, None).entries
    assert (entry.path, entry.label, entry.subsets, entry.exists) == (f"train/{path}", 0, (TRAIN,), True)


def test_a_row_without_a_file_is_missing(tmp_path):
    make(tmp_path, "val/zumba/aaaaaaaaaaa.mp4")
    say(tmp_path / "train.csv", *OFFICIAL_CSV)
    assert told(layouts.read("kinetics", tmp_path, None, None)) == {
        "air_drumming/-abc_DEF-12_000003_000013.mp4": ("air drumming", (TRAIN,), False),
        "val/zumba/aaaaaaaaaaa.mp4": ("zumba", (TEST,), True),
    }


def test_some_classes_in_the_order_given(tmp_path):
    make(tmp_path, *(f"train/{name}/{i}.mp4" for i, name in enumerate(["a b", "c_d", "e"])))
    listing = layouts.read("kinetics", tmp_path, None, ["e", "a_b", "absent"])
    assert listing.classes == ["e", "a_b", "absent"]
    assert [(e.path, e.label) for e in listing.entries] == [("train/a b/0.mp4", 1), ("train/e/2.mp4", 0)]


def test_a_folder_of_class_folders(tmp_path):
    make(tmp_path, "run/1.mp4", "walk/2.MP4", "walk/notes.txt", "loose.webm")
    assert told(layouts.read("folder", tmp_path, None, None)) == {
        "loose.webm": (None, (TRAIN,), True),
        "run/1.mp4": ("run", (TRAIN,), True),
        "walk/2.MP4": ("walk", (TRAIN,), True),
    }


def test_a_folder_with_train_and_test(tmp_path):
    make(tmp_path, "train/run/1.mp4", "test/run/2.mp4", "test/walk/3.mp4")
    assert told(layouts.read("folder", tmp_path, None, None)) == {
        "test/run/2.mp4": ("run", (TEST,), True),
        "test/walk/3.mp4": ("walk", (TEST,), True),
        "train/run/1.mp4": ("run", (TRAIN,), True),
    }


FOLDERS = {
    "val beside test": (
        ["train/run/1.mp4", "val/run/2.mp4", "test/run/3.mp4"],
        {"run": [TRAIN, UNUSED, TEST]},
    ),
    "other forms of the words": (
        ["Training/run/1.mp4", "valid/run/2.mp4", "testing/run/3.mp4"],
        {"run": [TRAIN, UNUSED, TEST]},
    ),
    "a class that is called so": (["run/1.mp4", "training/2.mp4"], {"run": [TRAIN], "training": [TRAIN]}),
    "val alone": (["train/run/1.mp4", "val/run/2.mp4"], {"run": [TRAIN, TEST]}),
    "classes that sound like subsets": (
        ["train/driving_test/1.mp4", "train/run/2.mp4", "test/bullet-train/3.mp4", "test/run/4.mp4"],
        {"driving_test": [TRAIN], "run": [TRAIN, TEST], "bullet-train": [TEST]},
    ),
    "a class that sounds like one, no subsets": (
        ["eye_test/1.mp4", "run/2.mp4"],
        {"eye_test": [TRAIN], "run": [TRAIN]},
    ),
    "subsets without classes": (["toy_train/1.mp4", "toy_test_2/2.mp4"], {None: [TRAIN, TEST]}),
    "classes that differ in punctuation": (
        ["train/C/1.mp4", "train/C++/2.mp4", "test/C/3.mp4", "test/C++/4.mp4"],
        {"C": [TRAIN, TEST], "C++": [TRAIN, TEST]},
    ),
    "one class in two spellings": (
        ["train/Hand-stand/1.mp4", "test/hand stand/2.mp4"],
        {"hand stand": [TRAIN, TEST]},
    ),
    "an accent in one character and in two": (
        ["train/caf\u00e9/1.mp4", "test/cafe\u0301/2.mp4"],
        {"caf\u00e9": [TRAIN, TEST]},
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_folders_say(tmp_path, kind):
    paths, expected = FOLDERS[kind]
    make(tmp_path, *paths)
    found = {}
    for path in paths:
        name, [subset], _ = told(layouts.read("folder", tmp_path, None, None))[path]
        found.setdefault(name, []).append(subset)
    assert found == expected


def test_files_that_differ_in_case_are_two(tmp_path):
    make(tmp_path, "clips/a.mp4", "clips/A.mp4")
    say(tmp_path / "train.txt", "clips/a.mp4 run")
    say(tmp_path / "test.txt", "clips/A.mp4 walk")
    assert told(layouts.read("folder", tmp_path, None, None)) == {
        "clips/a.mp4": ("run", (TRAIN,), True),
        "clips/A.mp4": ("walk", (TEST,), True),
    }


LINES = {
    "words": (["my clips/1.mp4 run", "2.mp4 walk"], None, ["run", "walk"], [0, 1]),
    "numbers": (["my clips/1.mp4 2", "2.mp4 0"], None, ["0", "1", "2"], [2, 0]),
    "numbers of a file": (["my clips/1.mp4 2", "2.mp4 1"], ["1 walk", "2 run"], ["walk", "run"], [1, 0]),
    "names of a file": (["my clips/1.mp4,1", "2.mp4,0"], ["walk", "run"], ["walk", "run"], [1, 0]),
    "words with blanks": (["my clips/1.mp4 long run", "2.mp4,run 2"], None, ["long run", "run 2"], [0, 1]),
    "quotes": (['"my clips/1.mp4","run"', '"2.mp4"'], None, ["run"], [0, UNLABELLED]),
    "numbers behind the names": (
        ["my clips/1.mp4 1", "2.mp4 0"],
        ["run 1", "walk 0"],
        ["run", "walk"],
        [0, 1],
    ),
    "numbers before colons": (
        ["my clips/1.mp4 1", "2.mp4 0"],
        ["1: run", "0: walk"],
        ["run", "walk"],
        [0, 1],
    ),
    "names that end in numbers": (
        ["my clips/1.mp4 2", "2.mp4 0"],
        ["up", "go 2", "go 1"],
        ["up", "go 2", "go 1"],
        [2, 0],
    ),
    "texts put together": (["\ufeffmy clips/1.mp4", "\ufeff2.mp4"], None, ["my clips"], [0, UNLABELLED]),
    "nothing": (["my clips/1.mp4", "2.mp4"], None, ["my clips"], [0, UNLABELLED]),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_plain_list(tmp_path, kind):
    lines, names, classes, labels = LINES[kind]
    make(tmp_path, "my clips/1.mp4", "2.mp4")
    say(tmp_path / "list.txt", *lines)
    if names:
        say(tmp_path / "classes.txt", *names)
    listing = layouts.read("folder", tmp_path, tmp_path / "list.txt", None)
    assert listing.classes == classes
    assert {e.path: e.label for e in listing.entries} == dict(
        zip(["my clips/1.mp4", "2.mp4"], labels, strict=True)
    )


def test_a_layout_is_any_file_in_its_package(tmp_path, monkeypatch):
    lines = [
        "from vssl.data.lists import TEST, Entry, Listing",
        "PLACES, SOURCE = (), 'https://mine'",
        "def read(files, lists):",
        "    lists.need('mine.txt')",
        "    return Listing(['all'], [Entry(path, 0, (TEST,)) for path in files.paths])",
    ]
    say(tmp_path / "mine.py", *lines)
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    make(tmp_path, "a.mp4")
    with pytest.raises(VsslError, match=r"^lists=null: no mine.txt in \S+; get it from https://mine or"):
        layouts.read("mine", tmp_path, None, None)
    say(tmp_path / "mine.txt")
    assert told(layouts.read("mine", tmp_path, None, None)) == {"a.mp4": ("all", (TEST,), True)}
    with pytest.raises(VsslError, match=r"^layout=hmdb: no such layout; did you mean 'hmdb51'\?"):
        layouts.read("hmdb", tmp_path, None, None)


MISSING = {
    "ucf101": r"no classInd.txt in .*ucfTrainTestlist.*; get it from https://www.crcv.ucf.edu.*give the",
    "hmdb51": r"no \S*_test_split1.txt in .*testTrainMulti_7030_splits.*; get it from https://",
    "kinetics": r"no train.csv in .*annotations.*; get it from https://github.com",
}


@pytest.mark.parametrize("layout", MISSING)
def test_a_missing_list_says_where_it_was_looked_for_and_where_to_get_it(tmp_path, layout):
    make(tmp_path, "some.avi")
    with pytest.raises(VsslError, match=MISSING[layout]):
        layouts.read(layout, tmp_path, None, None)


def test_one_list_of_a_split_is_not_enough(tmp_path):
    make(tmp_path, "some.avi")
    say(tmp_path / "classInd.txt", "1 Archery")
    say(tmp_path / "trainlist01.txt", "Archery/v_Archery_g02_c01.avi 1")
    with pytest.raises(VsslError, match=r"no testlist01.txt in"):
        layouts.read("ucf101", tmp_path, None, None)


WRONG = {
    "a video in both": (
        {"train.txt": ["a.mp4 x"], "test.txt": ["a.mp4 x"]},
        r"test.txt, line 1: a.mp4 is test here, but train in \S+train.txt, line 1; take one of the lines out",
    ),
    "a video of two classes": (
        {"train.txt": ["a.mp4 x", "", "a.mp4 y"]},
        r"train.txt, line 3: a.mp4 has another class in \S+train.txt, line 1; take one",
    ),
    "a video by two names": (
        {"train.txt": ["a.mp4 x", "a.avi x"]},
        r"train.txt, line 2: a.avi is the same file as a.mp4 in \S+train.txt, line 1; take one",
    ),
    "an unknown class": (
        {"train.txt": ["a.mp4 x"], "classes.txt": ["y"]},
        r"train.txt, line 1: there is no class 'x'; add it",
    ),
    "a class twice": (
        {"train.txt": ["a.mp4 x"], "classes.txt": ["x", "x"]},
        r"classes.txt: has 'x' twice",
    ),
    "no path": (
        {"train.txt": ["words"]},
        r"line 1: 'words' is no 'path' or 'path class'; a path ends",
    ),
    "frames and class": ({"train.txt": ["a.mp4 118 0"]}, r"line 1: 'a.mp4 118 0' has more than two columns"),
    "class and frames": (
        {"train.txt": ["a.mp4 run 118"]},
        r"'a.mp4 run 118' has more than two columns",
    ),
    "three columns by commas": ({"train.txt": ["a.mp4,run,1"]}, r"'a.mp4,run,1' has more than two columns"),
    "three columns by tabs": ({"train.txt": ["a.mp4\t118\t0"]}, r"has more than two columns, the path and"),
    "two paths": ({"train.txt": ["a.mp4 b.mp4"]}, r"'a.mp4 b.mp4' has more than two columns"),
    "numbers of frames": (
        {"train.csv": ["a.mp4,118", "b.mp4,97"]},
        r"train.csv: classes are numbers up to 118, but there are 2 videos; if they count",
    ),
    "several classes": ({"train.txt": ["a.mp4 1,2"]}, r"'a.mp4 1,2' has more than two columns"),
    "class and seconds": ({"train.txt": ["a.mp4 run 10-20"]}, r"'a.mp4 run 10-20' has more than two columns"),
    "no class by a number": (
        {"train.txt": ["a.mp4 -1"]},
        r"line 1: '-1' is no class; number them from",
    ),
    "numbers made floats": ({"train.csv": ["a.mp4,1.0"]}, r"line 1: '1.0' is no class; number them from 0"),
    "a number here, a folder there": (
        {"train.txt": ["a.mp4 1"], "test.txt": ["Run/b.mp4"]},
        r"test.txt, line 1: there is no class 'Run'; add it to the classes or correct the line",
    ),
    "two lists of a subset": (
        {"train.txt": ["a.mp4 x"], "train.csv": ["a.mp4 y"]},
        r"train.csv and \S+train.txt may both be meant; move one of them away",
    ),
    "several classes by marks": (
        {"train.txt": ["a.mp4 run;jump"]},
        r"'a.mp4 run;jump' has more than two col",
    ),
    "several classes by bars": (
        {"train.txt": ["a.mp4,run|jump"]},
        r"'a.mp4,run\|jump' has more than two col",
    ),
    "a comment": ({"train.txt": ["a.mp4 run # good"]}, r"'a.mp4 run # good' has more than two columns"),
    "no number": (
        {"train.csv": ["a.mp4,nan"]},
        r"line 1: 'nan' is no class; number them from 0, or leave it",
    ),
    "a heading of classes": (
        {"train.txt": ["a.mp4 1"], "classes.txt": ["id name", "0 run", "1 jump"]},
        r"classes.txt: 'id name' has no number, all others have; take it out if it is none",
    ),
    "nothing in it": ({"train.txt": ["", " "]}, r"the lists name no video; write lines of 'path class' into"),
    "no text": ({"train.txt": ["a.mp4\0 x"]}, r"train.txt: not a text \(there are zeros in it\); save it as"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_lists_that_contradict_themselves_are_refused(tmp_path, kind):
    files, message = WRONG[kind]
    make(tmp_path, "a.mp4")
    for name, lines in files.items():
        say(tmp_path / name, *lines)
    with pytest.raises(VsslError, match=message):
        layouts.read("folder", tmp_path, None, None)


def test_a_root_without_videos_is_named(tmp_path):
    with pytest.raises(VsslError, match=r"^root=\S+gone: no such folder"):
        layouts.read("folder", tmp_path / "gone", None, None)
    with pytest.raises(VsslError, match=r"no video file in here"):
        layouts.read("folder", Path(tmp_path), None, None)


def test_one_walk_for_all(tmp_path):
    """Hidden files and folders are passed over, a folder named like a video is none, no link leads back."""
    make(tmp_path, "a.MP4", ".b.mp4", ".trash/c.mp4", "run/d.avi", "run/list.txt", "film.mp4/e.mkv", "mp4")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "dangling.mp4").symlink_to("gone")
    for circle in ("run/self", "run/up", "film.mp4/over"):
        (tmp_path / circle).symlink_to({"self": ".", "up": "..", "over": "../run"}[Path(circle).name])
    videos = ["a.MP4", "dangling.mp4", "film.mp4/e.mkv", "film.mp4/over/d.avi", "link/d.avi", "run/d.avi"]
    assert lists.video_files(tmp_path) == videos
    texts = ["film.mp4/over/list.txt", "link/list.txt", "run/list.txt"]
    assert sorted(lists.walk(tmp_path)) == sorted([*videos, *texts, "mp4"])


def test_names_that_are_no_utf8_are_found_by_a_list_that_has_them_so(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    make(tmp_path, name)
    (tmp_path / "train.txt").write_bytes(b"caf\xe9.mp4 run\n")
    assert told(layouts.read("folder", tmp_path, None, None)) == {name: ("run", (TRAIN,), True)}
    (tmp_path / "train.csv").write_bytes(b"caf\xe9.mp4 run\n")
    assert told(layouts.read("kinetics", tmp_path, None, None)) == {name: ("run", (TRAIN,), True)}


def test_text_for_people_is_one_line_of_characters_that_can_be_printed():
    assert lists.printable("été [1].mp4") == "été [1].mp4"
    assert lists.printable(os.fsdecode(b"a\nb\tc\xe9.mp4")) == r"a\nb\tc\udce9.mp4"


@pytest.mark.parametrize("row", ["zumba,aaaaaaaaaaa", "zumba,aaaaaaaaaaa,3,", "zumba,aaaaaaaaaaa,three,13"])
def test_an_official_row_without_its_times_is_named(tmp_path, row):
    make(tmp_path, "train/zumba/aaaaaaaaaaa.mp4")
    say(tmp_path / "annotations" / "train.csv", *OFFICIAL_CSV, row)
    with pytest.raises(VsslError, match=r"train\.csv, line 3: a row needs label, youtube_id, and time_start"):
        layouts.read("kinetics", tmp_path, None, None)


def unlisted(monkeypatch, folder):
    """This folder may not be listed, not even by the superuser."""
    listing = os.scandir

    def scandir(path):
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_listed_stops_the_search(tmp_path, monkeypatch):
    make(tmp_path, "zumba/a.mp4", "squat/b.mp4")
    unlisted(monkeypatch, tmp_path / "squat")
    with pytest.raises(VsslError, match=r"squat: this folder cannot be listed \(Permission denied\)"):
        layouts.read("folder", tmp_path, None, None)


def test_the_superusers_folder_of_a_disk_is_passed_over(tmp_path, monkeypatch):
    make(tmp_path, "zumba/a.mp4", "lost+found/b.mp4")
    unlisted(monkeypatch, tmp_path / "lost+found")
    assert lists.video_files(tmp_path) == ["zumba/a.mp4"]
