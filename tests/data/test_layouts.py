"""No file gets a class or a subset that it does not have, whatever the lists look like."""

import codecs
import random

import pytest

from vssl.data import layouts
from vssl.data.lists import TEST, TRAIN, UNUSED, plain_name
from vssl.errors import VsslError

ID = "abc_DEF-123"
HEADER = "label,youtube_id,time_start,time_end,split"


def make(root, *paths, **lists):
    """Empty files, and lists by their names: `train__csv=[...]` is train.csv."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    for name, lines in lists.items():
        (root / name.replace("__", ".")).write_text("\n".join(lines))


def told(layout, root):
    """Class, subset in each split, and whether there is a file, by path."""
    listing = layouts.read(layout, root, None, None)
    return {e.path: (listing.classes[e.label], e.subsets, e.exists) for e in listing.entries}


def refused(layout, root, match):
    with pytest.raises(VsslError, match=match):
        layouts.read(layout, root, None, None)


TWO_CLIPS = [HEADER, f"air drumming,{ID},3,13,train", f"zumba,{ID},20,30,train"]


def test_two_clips_of_a_youtube_video_keep_their_classes(tmp_path):
    make(tmp_path, f"train/air_drumming/{ID}_000003_000013.mp4", train__csv=TWO_CLIPS)
    make(tmp_path, f"train/zumba/{ID}_000020_000030.mp4")
    assert told("kinetics", tmp_path) == {
        f"train/air_drumming/{ID}_000003_000013.mp4": ("air drumming", (TRAIN,), True),
        f"train/zumba/{ID}_000020_000030.mp4": ("zumba", (TRAIN,), True),
    }


@pytest.mark.parametrize("place", ["", "air_drumming/"])
def test_a_clip_is_not_taken_for_another_one_of_its_video(tmp_path, place):
    make(tmp_path, f"{place}{ID}_000003_000013.mp4", train__csv=TWO_CLIPS)
    assert told("kinetics", tmp_path) == {
        f"{place}{ID}_000003_000013.mp4": ("air drumming", (TRAIN,), True),
        f"zumba/{ID}_000020_000030.mp4": ("zumba", (TRAIN,), False),
    }


def test_a_file_without_times_cannot_be_two_clips(tmp_path):
    make(tmp_path, f"{ID}.mp4", train__csv=TWO_CLIPS)
    refused("kinetics", tmp_path, r"line 3: zumba/\S+ is the same file as air_drumming/\S+ in \S+, line 2")


def test_a_file_is_no_clip_of_another_class_than_its_folder(tmp_path):
    make(tmp_path, f"air_drumming/{ID}.mp4", train__csv=TWO_CLIPS)
    assert told("kinetics", tmp_path) == {
        f"air_drumming/{ID}.mp4": ("air drumming", (TRAIN,), True),
        f"zumba/{ID}_000020_000030.mp4": ("zumba", (TRAIN,), False),
    }


def test_a_clip_is_not_in_two_subsets(tmp_path):
    make(tmp_path, f"{ID}.mp4", train__csv=TWO_CLIPS[:2], val__csv=TWO_CLIPS[:2])
    refused("kinetics", tmp_path, r"val.csv, line 2: \S+ is test here, but train in \S+train.csv, line 2")


def test_a_row_does_not_take_a_file_from_the_folder_of_another_subset(tmp_path):
    make(tmp_path, f"val/air_drumming/{ID}.mp4", train__csv=TWO_CLIPS[:2])
    assert told("kinetics", tmp_path) == {
        f"air_drumming/{ID}_000003_000013.mp4": ("air_drumming", (TRAIN,), False),
        f"val/air_drumming/{ID}.mp4": ("air_drumming", (TEST,), True),
    }


def test_a_row_of_kinetics_that_runs_into_the_next_is_refused(tmp_path):
    make(tmp_path, f"{ID}.mp4", train__csv=[HEADER, "".join(TWO_CLIPS[1:])])
    refused("kinetics", tmp_path, r"train.csv, line 2: a row needs .* and as many columns as the first line")


UCF = {"classInd__txt": ["1 Run", "2 Walk"], "testlist01__txt": []}


def test_a_name_in_the_folder_of_another_class_is_missing(tmp_path):
    make(tmp_path, "Walk/v_1.avi", "v_2.avi", **UCF, trainlist01__txt=["Run/v_1.avi 1", "Run/v_2.avi 1"])
    assert told("ucf101", tmp_path) == {
        "Run/v_1.avi": ("Run", (TRAIN,), False),
        "v_2.avi": ("Run", (TRAIN,), True),
    }


def test_the_very_path_comes_first(tmp_path):
    make(tmp_path, "Run/v_1.avi", "Run/v_1.mp4", "a/Run/v_1.avi", **UCF, trainlist01__txt=["Run/v_1.mp4 1"])
    assert told("ucf101", tmp_path) == {"Run/v_1.mp4": ("Run", (TRAIN,), True)}


def test_a_name_that_may_be_two_files_is_refused(tmp_path):
    make(tmp_path, "a/v_1.avi", "b/v_1.mp4", **UCF, trainlist01__txt=["Run/v_1.avi 1"])
    refused("ucf101", tmp_path, r"list01.txt, line 1: Run/v_1.avi may be a/v_1.avi or b/v_1.mp4; move one")


def test_a_number_that_is_not_that_of_the_folder_is_refused(tmp_path):
    make(tmp_path, "Run/v_1.avi", **UCF, trainlist01__txt=["Run/v_1.avi 2"])
    refused("ucf101", tmp_path, r"trainlist01.txt, line 1: 2 is not the number of Run; correct one")


def test_a_video_of_ucf101_is_not_in_two_subsets_of_a_split(tmp_path):
    lists = {**UCF, "testlist01__txt": ["Run/v_1.avi"], "trainlist01__txt": ["Run/v_1.avi 1"]}
    make(tmp_path, "Run/v_1.avi", **lists)
    refused("ucf101", tmp_path, r"testlist01.txt, line 1: Run/v_1.avi is test here, but train in \S+, line 1")
    make(tmp_path, trainlist01__txt=[], trainlist02__txt=["Run/v_1.avi 1"], testlist02__txt=[])
    assert told("ucf101", tmp_path) == {"Run/v_1.avi": ("Run", (TEST, TRAIN), True)}


def test_a_video_of_hmdb51_is_in_one_subset_and_one_class(tmp_path):
    make(tmp_path, "run/a.avi", run_test_split1__txt=["a.avi 1", "a.avi 2"], walk_test_split1__txt=[])
    refused("hmdb51", tmp_path, r"line 2: run/a.avi is test here, but train in \S+_split1.txt, line 1")
    make(tmp_path, run_test_split1__txt=["a.avi 1"], walk_test_split1__txt=["a.avi 2"])
    assert told("hmdb51", tmp_path) == {
        "run/a.avi": ("run", (TRAIN,), True),
        "walk/a.avi": ("walk", (TEST,), False),
    }
    (tmp_path / "run/a.avi").rename(tmp_path / "a.avi")
    refused("hmdb51", tmp_path, r"walk_test_split1.txt, line 1: walk/a.avi is the same file as run/a.avi in")


@pytest.mark.parametrize(
    "path", ["/elsewhere/a.mp4", "../a.mp4", "~/a.mp4", "C:\\data\\a.mp4", "s3://data/a.mp4"]
)
def test_a_path_outside_of_the_root_is_not_just_missing(tmp_path, path):
    make(tmp_path / "videos", "a.mp4", train__txt=["a.mp4 run", f"{path} run"])
    refused(
        "folder", tmp_path / "videos", r"train.txt, line 2: \S+a.mp4 lies outside of the root; write it as"
    )


def test_what_has_too_many_digits_for_a_number_is_a_word(tmp_path):
    times = ["20240115093000123", "9" * 5000]
    make(tmp_path, "a.mp4", "b.mp4", train__txt=[f"a.mp4 {times[0]}", f"b.mp4 {times[1]}"])
    assert layouts.read("folder", tmp_path, None, None).classes == sorted(times)


SYSTEM = ("$RECYCLE.BIN", "#recycle", "System Volume Information", "@eaDir", ".Trash-1000", "__MACOSX")


def test_other_files_are_counted_and_folders_of_the_system_are_no_classes(tmp_path):
    make(tmp_path, "run/1.MTS", "run/a.jpg", "run/b.JPG", "run/README", "notes.txt")
    for folder in SYSTEM:
        make(tmp_path, f"{folder}/2.mp4", f"run/{folder}/3.mp4")
    assert told("folder", tmp_path) == {"run/1.MTS": ("run", (TRAIN,), True)}
    remarks = layouts.read("folder", tmp_path, None, None).remarks
    assert remarks == ("files passed over for their endings: 2 .jpg, 1 without",)
    (tmp_path / "run/1.MTS").unlink()
    refused("folder", tmp_path, r"no video file in here or below \(files passed over for their endings: 2")


def test_classes_that_may_be_none_are_named(tmp_path):
    names = [f"{n}.mp4" for n in range(30)]
    make(tmp_path, *names, train__txt=[f"{name} take{n}" for n, name in enumerate(names)])
    [remark] = layouts.read("folder", tmp_path, None, None).remarks
    assert remark.startswith("each of 30 classes has one video:")
    make(tmp_path, train__txt=[f"{name} {20 + n % 5}" for n, name in enumerate(names)])
    [remark] = layouts.read("folder", tmp_path, None, None).remarks
    assert remark.startswith("classes are numbers up to 24, of which 5 occur:")


def test_a_file_in_the_folder_of_another_class_is_said(tmp_path):
    make(tmp_path, "run/1.mp4", "walk/2.mp4", "7/3.mp4", train__txt=["run/1.mp4 walk", "walk/2.mp4 walk"])
    make(tmp_path, test__txt=["7/3.mp4 run"])
    remark, _ = layouts.read("folder", tmp_path, None, None).remarks
    assert remark.startswith("files in the folder of another class: 1, run/1.mp4 for one;")


LEFT_OUT = {
    "a folder of test videos by another name": (
        ["train/run/1.mp4", "eval/run/2.mp4"],
        {},
        "folders above those of the classes, which say nothing: 1, eval; is it right?",
    ),
    "people below classes": (
        ["run/ann/1.mp4", "run/bob/2.mp4", "walk/ann/3.mp4"],
        {},
        "folders above those of the classes, which say nothing: 2, run, walk; is it right?",
    ),
    "lists by other names": (
        ["run/1.mp4"],
        {"train_list__txt": ["run/1.mp4 run"], "Val__TXT": [], "notes__txt": []},
        "lists of other names, which are not read: 2, Val.TXT, train_list.txt",
    ),
    "classes without a training video": (
        ["run/1.mp4", "run/2.mp4"],
        {"train__txt": ["run/1.mp4 0"], "test__txt": ["run/2.mp4 run"]},
        "classes of which there are videos to test on, but none to train on: 1, run",
    ),
    "numbers from 1": (
        ["a.mp4", "b.mp4", "c.mp4"],
        {"train__txt": ["a.mp4 1", "b.mp4 2", "c.mp4 1"]},
        "no video is of class 0: do the numbers begin with 1? A classes.txt names them",
    ),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_may_say_something_and_is_not_heard_is_named(tmp_path, kind):
    paths, lists, remark = LEFT_OUT[kind]
    make(tmp_path, *paths, **lists)
    assert remark in layouts.read("folder", tmp_path, None, None).remarks


def test_one_folder_around_all_classes_says_nothing(tmp_path):
    make(tmp_path, "all/run/1.mp4", "all/walk/2.mp4")
    assert layouts.read("folder", tmp_path, None, None).remarks == ()


def test_of_two_lists_of_kinetics_the_one_of_the_official_name_counts(tmp_path):
    lists = {"a_train__csv": ["x/1.mp4 x"], "b_train__csv": ["x/1.mp4 y"]}
    make(tmp_path, "x/1.mp4", **lists)
    refused("kinetics", tmp_path, r"a_train.csv and \S+b_train.csv may both be meant; move one of them away")
    make(tmp_path, train__csv=["x/1.mp4 z"])
    assert told("kinetics", tmp_path) == {"x/1.mp4": ("z", (TRAIN,), True)}


@pytest.mark.parametrize("again", ["run", "Run"])
def test_a_choice_of_classes_has_each_once(tmp_path, again):
    make(tmp_path, "run/1.mp4", "walk/2.mp4")
    with pytest.raises(VsslError, match=f"^classes={again}: the list has this class twice; take it out once"):
        layouts.read("folder", tmp_path, None, ["run", again])


ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with its mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16, big endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "returns": lambda text: text.replace("\n", "\r").encode(),
    "both line ends": lambda text: text.replace("\n", "\r\n").encode(),
}
LISTS = {
    "ucf101": {
        "classInd.txt": "1 été\n2 Walk\n",
        "trainlist01.txt": "été/a.avi 1\n",
        "testlist01.txt": "Walk/b c.avi\n",
    },
    "hmdb51": {"été_test_split1.txt": "a.avi 1\n", "Walk_test_split1.txt": "b c.avi 2\n"},
    "kinetics": {
        "train.csv": "label,youtube_id,time_start,time_end\nété,a,0,10\n",
        "val.csv": "label,youtube_id,time_start,time_end\nWalk,b c,0,10\n",
    },
    "folder": {"train.txt": "ROOT/été/a.avi\tété\n", "test.txt": "ROOT/Walk/b c.avi Walk\n"},
}
FILES = {"kinetics": ["été/a_000000_000010.avi", "Walk/b c_000000_000010.avi"]}


@pytest.mark.parametrize("layout", LISTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_of_any_encoding_and_line_end_say_the_same(tmp_path, layout, encoding):
    one, other = FILES.get(layout, ["été/a.avi", "Walk/b c.avi"])
    make(tmp_path, one, other)
    for name, text in LISTS[layout].items():
        (tmp_path / name).write_bytes(ENCODINGS[encoding](text.replace("ROOT", str(tmp_path))))
    assert told(layout, tmp_path) == {one: ("été", (TRAIN,), True), other: ("Walk", (TEST,), True)}


def plain_lists(kind):
    """The files of a small data set, and its lists by name."""
    names = ["Run", "HandStand", "C3"]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    stems = [(name, f"{name}-of-11-characters"[:10] + str(n)) for name in names for n in range(4)]
    paths = [f"{name}/{stem}.avi" for name, stem in stems]
    train, test = stems[::2], stems[1::2]
    if kind == "ucf101":
        return paths, {
            "classInd.txt": [f"{number} {name}" for name, number in numbers.items()],
            "trainlist01.txt": [f"{name}/{stem}.avi {numbers[name]}" for name, stem in train],
            "testlist01.txt": [f"{name}/{stem}.avi" for name, stem in test],
        }
    if kind == "hmdb51":
        lines = {f"{name}_test_split1.txt": [] for name in names}
        for n, (name, stem) in enumerate(stems):
            lines[f"{name}_test_split1.txt"].append(f"{stem}.avi {n % 3}")
        return paths, lines
    if kind == "kinetics":
        parts = {"train.csv": train, "val.csv": test}
        return paths, {
            csv: [HEADER, *(f"{name},{stem},{n},{n + 10},x" for n, (name, stem) in enumerate(part))]
            for csv, part in parts.items()
        }
    names = {"kinetics, plain": ("train.csv", "val.csv")}.get(kind, ("train.txt", "test.txt"))
    word = {"folder, numbers": numbers.get, "folder, tabs": "{}\t".format}.get(kind, str)
    lists = {
        name: [f"{label}/{stem}.avi {word(label)}" for label, stem in part]
        for name, part in zip(names, (train, test), strict=True)
    }
    if kind == "folder, numbers":
        lists["classes.txt"] = [f"{number} {name}" for name, number in numbers.items()]
    return paths, lists


MUTATIONS = {
    "cut": lambda line, rng: [line[: rng.randrange(len(line) + 1)]],
    "twice": lambda line, rng: [line, line],
    "lost": lambda line, rng: [],
    "columns": lambda line, rng: [
        rng.choice([f"{line} {rng.randrange(300)} 1", f"{line},1,2", f"{line}\t{line}", f"7 {line}"])
    ],
    "case": lambda line, rng: [line.swapcase()],
    "ending": lambda line, rng: [line.replace(".avi", rng.choice([".mp4", ".txt", "", ".avi.avi"]))],
    "folder": lambda line, rng: [f"{rng.choice(['Run', 'C3', '/x', '..', '.'])}/{line.rpartition('/')[2]}"],
    "digits": lambda line, rng: [line + rng.choice(["9", " "]) + rng.choice("9\u0663\u00b2") * 5000],
    "blanks": lambda line, rng: [
        line.replace(rng.choice("/. "), rng.choice(["\t", "\u00a0", "  ", "\v", "\ufeff"]))
    ],
    "quotes": lambda line, rng: [line.replace(rng.choice("aR-1"), rng.choice(['"', "'", '","']))],
}


def mutated(lines, rng):
    """The bytes of a list in which one thing is wrong."""
    at = rng.randrange(len(lines))
    kind = rng.choice([*MUTATIONS, "joined", "byte", "zeros"])
    if kind in MUTATIONS:
        lines = [*lines[:at], *MUTATIONS[kind](lines[at], rng), *lines[at + 1 :]]
    text = "\n".join(lines)
    if kind == "joined":
        text = text.replace("\n", "", 1 + at)
    content = bytearray(text.encode("utf-16-le" if kind == "zeros" else "utf-8"))
    if kind == "byte":
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


@pytest.mark.parametrize(
    "kind", ["ucf101", "hmdb51", "kinetics", "kinetics, plain", "folder", "folder, numbers", "folder, tabs"]
)
def test_mutated_lists_end_in_a_right_listing_or_in_one_line(tmp_path, kind):
    """A word may be misspelled where only lists name the classes, but no file gets the class of another.

    A number may be another one.
    """
    layout = kind.split(",")[0]
    paths, lists = plain_lists(kind)
    make(tmp_path, *paths)
    names = {plain_name(path.split("/")[0]) for path in paths}
    read, messages = 0, []
    for name, lines in lists.items():
        (tmp_path / name).write_text("\n".join(lines))
    for seed in range(250):
        rng = random.Random(seed)
        victim = tmp_path / rng.choice(sorted(lists))
        victim.write_bytes(mutated(lists[victim.name], rng))
        try:
            listing = layouts.read(layout, tmp_path, None, None)
        except VsslError as error:
            messages.append(str(error))
            continue
        finally:
            victim.write_text("\n".join(lists[victim.name]))
        read += 1
        assert len({entry.path for entry in listing.entries}) == len(listing.entries)
        for entry in listing.entries:
            assert set(entry.subsets) <= {UNUSED, TRAIN, TEST}
            name = plain_name(listing.classes[entry.label])
            if entry.exists and entry.label >= 0 and name in names and kind != "folder, numbers":
                assert name == plain_name(entry.path.split("/")[0]), (seed, entry)
    assert read > 25
    assert len(messages) > 25
    assert not any("\n" in message for message in messages)
