"""Which videos a data set has, with class and subset, from the lists and folders that people have.

Files are found without regard to case and ending, classes also without punctuation: official lists write
`HandStandPushups` where the class is `HandstandPushups`, Kinetics comes with underscores or blanks, and a
prepared copy holds .mp4 where the list says .avi.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vssl.errors import VsslError

SUBSETS = ("unused", "train", "test")
"""What a file is used for in a split, by code."""
UNUSED, TRAIN, TEST = range(3)

UNLABELLED = -1
ENDINGS = ("avi", "mp4", "mkv", "webm", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "ogv", "ts")
SOURCES = {
    "ucf101": "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
    "hmdb51": "https://serre.lab.brown.edu/hmdb51.html (three splits for the HMDB51)",
    "kinetics": "https://github.com/cvdfoundation/kinetics-dataset (annotations)",
}
PLACES = {
    "ucf101": ("ucfTrainTestlist",),
    "hmdb51": ("testTrainMulti_7030_splits", "test_train_splits", "splits"),
    "kinetics": ("annotations",),
    "folder": ("lists",),
}
"""Folders in which the official archives bring their lists."""

_VIDEO = tuple(f".{ending}" for ending in ENDINGS)
_LINE = re.compile(rf"(?P<path>.+?\.(?:{'|'.join(ENDINGS)}))(?:[\s,]+(?P<label>.+))?", re.IGNORECASE)
_YOUTUBE = re.compile(r"(?P<id>.{11})(?:_\d+_\d+)?")
_SUBSET_FOLDER = re.compile(
    r"(?P<set>.*[_-])?(?P<word>train|val|test)(idate|idation)?[_-]?\d*", re.IGNORECASE
)


@dataclass(frozen=True)
class Entry:
    """A video that a list or a folder names: its path below the root, its class, its subset per split.

    `path` is that of the file if there is one (`exists`), else as the list has it.
    """

    path: str
    label: int
    subsets: tuple[int, ...]
    exists: bool = True


@dataclass(frozen=True)
class Listing:
    """All videos of a data set, sorted by path, and the names of its classes, by label."""

    classes: list[str]
    entries: list[Entry]
    not_listed: int = 0
    """Video files below the root that no list names."""

    @property
    def subsets_SN(self) -> NDArray[np.uint8]:
        """Codes of `SUBSETS` per split and entry."""
        return np.array([entry.subsets for entry in self.entries], np.uint8).T.reshape(-1, len(self.entries))


def walk(root: Path) -> Iterator[str]:
    """Paths below a folder of all files in it, but for hidden ones; hidden folders are passed over.

    A folder that may not be listed raises VsslError: its videos would be missing without a word.
    """
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_unlisted):
        folders[:] = [name for name in folders if name[0] != "." and not _leads_back(Path(folder, name))]
        below = os.path.relpath(folder, root)
        yield from (os.path.normpath(os.path.join(below, name)) for name in names if name[0] != ".")


def _unlisted(error: OSError) -> None:
    """Stop, unless it is the folder that each ext4 disk has for the superuser."""
    if Path(error.filename).name != "lost+found":
        raise VsslError(
            f"{printable(str(error.filename))}: this folder cannot be listed ({error.strerror}); "
            "make it readable or move it away"
        ) from error


def _leads_back(folder: Path) -> bool:
    """Whether this is a link to a folder that it lies in: following it would never end."""
    return folder.is_symlink() and os.path.realpath(folder) in map(os.path.realpath, folder.parents)


def video_files(root: Path) -> list[str]:
    """Paths of all video files below a folder, in order."""
    return sorted(path for path in walk(root) if path.lower().endswith(_VIDEO))


class Files:
    """The video files below a folder, found by what lists call them."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise VsslError(f"{root}: no such folder; set root to the folder that holds the videos")
        self.paths = video_files(root)
        if not self.paths:
            raise VsslError(f"{root}: no video file in here or below; set root to the folder of the videos")
        self._paths = set(self.paths)
        self._by_path = {_plain_path(path): path for path in reversed(self.paths)}
        self._by_name = {Path(path).stem.lower(): path for path in reversed(self.paths)}
        self._by_video = {video_id(path): path for path in reversed(self.paths)}

    def below(self, path: str) -> str | None:
        """The file at this path, or else at one that differs in case or ending."""
        return path if path in self._paths else self._by_path.get(_plain_path(path))

    def named(self, path: str) -> str | None:
        """The file at this path, or else one of this name anywhere."""
        return self.below(path) or self._by_name.get(Path(path).stem.lower())

    def video(self, youtube_id: str) -> str | None:
        """The file of a YouTube video."""
        return self._by_video.get(youtube_id)


def read(layout: str, root: Path, lists: Path | None, classes: Sequence[str] | None) -> Listing:
    """All videos of the data set below `root`.

    layout: ucf101, hmdb51, kinetics or folder. lists: folder (or file) of its lists; None: they are looked
    for in the root and beside it. classes: take these only, labelled in this order.
    Raises VsslError if a list is missing, with where it was looked for and where to get it.
    """
    readers = {"ucf101": _ucf101, "hmdb51": _hmdb51, "kinetics": _kinetics, "folder": _folder}
    files = Files(root)
    listing = readers[layout](files, _Lists(layout, root, lists))
    listing = _only(listing, classes) if classes else listing
    found = {entry.path for entry in listing.entries}
    entries = sorted(listing.entries, key=lambda entry: entry.path)
    return Listing(listing.classes, entries, 0 if classes else len(set(files.paths) - found))


class _Lists:
    """The list files of a data set, wherever they lie."""

    def __init__(self, layout: str, root: Path, given: Path | None) -> None:
        self.layout, self.given = layout, given
        beside = [place / name for place in (root, root.parent) for name in PLACES[layout]]
        self.places = [given] if given else [*beside, root]

    def find(self, *patterns: str) -> list[Path]:
        """Files of these names, from the first place that has one of any; a `*` stands for anything."""
        for place in self.places:
            for pattern in patterns:
                if found := sorted(path for path in place.glob(pattern) if path.is_file()):
                    return found
        return []

    def need(self, *patterns: str) -> list[Path]:
        """As `find`, but there has to be one."""
        found = self.find(*patterns)
        if not found:
            places = ", ".join(map(str, self.places))
            source = SOURCES.get(self.layout)
            fetch = f"get it from {source} or " if source else ""
            raise VsslError(f"{patterns[0]}: no such list in {places}; {fetch}set lists=DIR to its folder")
        return found


# UCF101


def _ucf101(files: Files, lists: _Lists) -> Listing:
    [class_file] = lists.need("classInd.txt")
    classes = _class_names(class_file)
    numbers = _labels(classes)
    for first in ("trainlist01.txt", "testlist01.txt"):
        lists.need(first)
    splits = []
    for split in (1, 2, 3):
        train, test = (lists.find(f"{word}list{split:02}.txt") for word in ("train", "test"))
        if train and test:
            splits.append(
                _split(
                    [(path, TRAIN) for path, _ in _lines(train[0])]
                    + [(path, TEST) for path, _ in _lines(test[0])],
                    test[0],
                )
            )
    paths = dict.fromkeys(path for split in splits for path in split)
    labels = {path: _label_of(path.split("/")[0], numbers, class_file) for path in paths}
    return Listing(classes, _entries(labels, splits, files.named))


# HMDB51


def _hmdb51(files: Files, lists: _Lists) -> Listing:
    marker = "_test_split1.txt"
    classes = sorted(path.name.removesuffix(marker) for path in lists.need(f"*{marker}"))
    splits: list[dict[str, int]] = []
    labels: dict[str, int] = {}
    for split in (1, 2, 3):
        if not lists.find(f"*_test_split{split}.txt"):
            continue
        splits.append({})
        for label, name in enumerate(classes):
            [file] = lists.need(f"{name}_test_split{split}.txt")
            for path, flag in _lines(file):
                labels[f"{name}/{path}"] = label
                splits[-1][f"{name}/{path}"] = _flag(flag, file)
    return Listing(classes, _entries(labels, splits, files.named))


def _flag(flag: str | None, file: Path) -> int:
    if flag not in ("0", "1", "2"):
        raise VsslError(
            f"{file}: {flag!r} behind a name; official lists have 0 (unused), 1 (train), 2 (test)"
        )
    return int(flag)


# Kinetics: a row of a csv, or a folder of a class, says what a video shows


def _kinetics(files: Files, lists: _Lists) -> Listing:
    """The official validation list is the test set: the test list came without labels, few have its files."""
    rows = [
        *_kinetics_rows(lists.find("*train*.csv"), TRAIN),
        *_kinetics_rows(lists.find("*val*.csv"), TEST),
    ]
    listed = {subset for _, _, subset in rows}
    in_folders = [
        (path, name, subset)
        for path, name, subset in _placed(files, held_out="val")
        if subset not in listed and name is not None
    ]
    if not rows and not in_folders:
        lists.need("train.csv")
    classes = _distinct((name, subset) for _, name, subset in [*rows, *in_folders])
    numbers = _labels(classes)
    entries = {
        path: Entry(path, _label_of(name, numbers, None), (subset,)) for path, name, subset in in_folders
    }
    for path, name, subset in rows:
        file = files.video(video_id(path)) or files.below(path)
        label = _label_of(name, numbers, None)
        entries[file or path] = Entry(file or path, label, (subset,), file is not None)
    return Listing(classes, list(entries.values()))


def _kinetics_rows(found: list[Path], subset: int) -> Iterator[tuple[str, str, int]]:
    """(path, class, subset) of each row of a csv: the official columns, or "path class" without a header."""
    for file in found[:1]:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as text:
            header = next(csv.reader(text), [])
            text.seek(0)
            if "youtube_id" in header and "label" in header:
                rows = csv.DictReader(text)
                for row in rows:
                    yield _official_path(row, f"{file}, line {rows.line_num}"), row["label"], subset
                return
        for path, name in _lines(file):
            if name is None:
                raise VsslError(f"{file}: no class after {path}; a line is 'path class'")
            yield path, name, subset


def _official_path(row: dict[str, str], where: str) -> str:
    try:
        start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
        return f"{row['label'].replace(' ', '_')}/{row['youtube_id']}_{start:06}_{end:06}.mp4"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VsslError(
            f"{where}: a row needs label, youtube_id, and time_start and time_end in seconds; complete it"
        ) from error


def video_id(path: str) -> str:
    """The YouTube id in a file name, with or without time stamps behind it; else the whole stem."""
    stem = Path(path).stem
    match = _YOUTUBE.fullmatch(stem)
    return match["id"] if match else stem


def _placed(files: Files, held_out: str) -> list[tuple[str, str | None, int]]:
    """(path, class, subset) of each file, by the folders that it lies in; no subset folder: train.

    Of folders named val and test, `held_out` is the test set if both are there; the other one is not used.
    """
    tops = {path.split("/")[0] for path in files.paths if "/" in path}
    are_subsets = all(map(_SUBSET_FOLDER.fullmatch, tops))
    found = [(path, *_class_and_word(path, are_subsets)) for path in files.paths]
    words = {word for _, _, word in found} - {"train"}
    test = held_out if held_out in words else next(iter(words), None)
    code = {"train": TRAIN, test: TEST}
    return [(path, name, code.get(word, UNUSED)) for path, name, word in found]


def _class_and_word(path: str, are_subsets: bool) -> tuple[str | None, str]:
    """The class folder of a file, and what its subset folder says: train, val or test.

    A folder right above the file is its class if it could be: `eye_test`, but not `test_256`, unless all such
    folders `are_subsets`: `toy_train` and `toy_test`.
    """
    *folders, _ = path.split("/")
    match = _SUBSET_FOLDER.fullmatch(folders[0]) if folders else None
    if match and (len(folders) > 1 or are_subsets or not match["set"]):
        return (folders[-1] if len(folders) > 1 else None), match["word"].lower()
    return (folders[-1] if folders else None), "train"


# any folder


def _folder(files: Files, lists: _Lists) -> Listing:
    """Lists if there are any, else class folders, which may lie in folders named train and test."""
    if lists.given and lists.given.is_file():
        found = [(TRAIN, lists.given)]
        lists.places = [lists.given.parent]
    else:
        names = {
            TRAIN: ("train.txt", "trainlist01.txt", "train.csv"),
            TEST: ("test.txt", "testlist01.txt", "test.csv", "val.txt", "val.csv"),
        }
        found = [(subset, file) for subset, patterns in names.items() for file in lists.find(*patterns)[:1]]
        if lists.given and not found:
            lists.need(*names[TRAIN])
    class_file = next(iter(lists.find("classInd.txt", "classes.txt")), None)
    named = _class_names(class_file) if class_file else None
    if not found:
        return _class_folders(files, named)
    rows = [(path, _class_word(path, word), subset) for subset, file in found for path, word in _lines(file)]
    classes, numbers = _numbering([(word, subset) for _, word, subset in rows], named, class_file)
    labels = _labelled(rows, numbers, class_file, found[-1][1])
    split = _split([(path, subset) for path, _, subset in rows], found[-1][1])
    return Listing(classes, _entries(labels, [split], files.below))


def _class_folders(files: Files, named: list[str] | None) -> Listing:
    placed = _placed(files, held_out="test")
    classes = named or _distinct((name, subset) for _, name, subset in placed if name)
    numbers = _labels(classes)
    entries = [Entry(path, _label_of(name, numbers, None), (subset,)) for path, name, subset in placed]
    return Listing(classes, entries)


def _labelled(
    rows: list[tuple[str, str | None, int]], numbers: dict[str, int], class_file: Path | None, file: Path
) -> dict[str, int]:
    """Label by path; no video may have two."""
    labels: dict[str, int] = {}
    for path, word, _ in rows:
        label = _label_of(word, numbers, class_file)
        if labels.setdefault(path, label) != label:
            raise VsslError(f"{file}: {path} is listed twice, with two classes; take one of the lines out")
    return labels


def _class_word(path: str, word: str | None) -> str | None:
    """What names the class of a line: the word after the path, else the folder."""
    return word or (path.split("/")[-2] if "/" in path else None)


def _numbering(
    words: list[tuple[str | None, int]], named: list[str] | None, class_file: Path | None
) -> tuple[list[str], dict[str, int]]:
    """Names of the classes, and the label of each word of a list; `words` come with their subsets.

    With a class-index file a number is the one that stands in it; else it counts from 0.
    """
    known = [(word, subset) for word, subset in words if word is not None]
    if named is None and known and all(word.isdigit() for word, _ in known):
        count = max(int(word) for word, _ in known) + 1
        return [str(label) for label in range(count)], {str(label): label for label in range(count)}
    classes = named or _distinct(known)
    return classes, {**(_numbers(class_file) if class_file else {}), **_labels(classes)}


def _numbers(class_file: Path) -> dict[str, int]:
    """Label by number: the one that a class-index file writes before the name, else counted from 0."""
    words = [line.split(maxsplit=1)[0] for line in _text(class_file)]
    return {word if word.isdigit() else str(label): label for label, word in enumerate(words)}


# what they share


def printable(text: str) -> str:
    """Text as one line that any terminal takes: line ends, and bytes that are no UTF-8, are written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _plain(name: str) -> str:
    """Without case and punctuation; an accent is the same in one character (Linux) and in two (macOS)."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name).lower()).strip("_")


def _plain_path(path: str) -> str:
    return str(Path(path).with_suffix("")).lower()


def _text(file: Path) -> list[str]:
    """Lines that are not blank, whatever their ends; bytes that are no UTF-8 as in the names of files."""
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _lines(file: Path) -> Iterator[tuple[str, str | None]]:
    """(path, the word behind it) of each line; the path may hold blanks."""
    for line in _text(file):
        match = _LINE.fullmatch(line)
        if not match:
            raise VsslError(f"{file}: {line!r} is not 'path [class]' with a path that ends like a video")
        yield match["path"].replace("\\", "/"), match["label"]


def _class_names(file: Path) -> list[str]:
    """Names of a class-index file: "1 ApplyEyeMakeup" or just names, in the order of the labels."""
    return [re.sub(r"^\d+[\s,]+", "", line) for line in _text(file)]


def _label_of(word: str | None, numbers: dict[str, int], where: Path | None) -> int:
    if word is None:
        return UNLABELLED
    if (label := numbers.get(word, numbers.get(_plain(word)))) is None:
        raise VsslError(f"{where or 'the lists'}: has no class {word!r}; add it or correct the list")
    return label


def _distinct(named: Iterable[tuple[str, int]]) -> list[str]:
    """The classes behind names with their subsets, sorted.

    Names that differ in case and punctuation only are one class, unless a subset has both: C and C++.
    """
    names = set(named)
    spellings: dict[str, set[str]] = defaultdict(set)
    for name, _ in names:
        spellings[_plain(name)].add(name)
    beside = Counter((_plain(name), subset) for name, subset in names)
    classes = []
    for plain, spelled in spellings.items():
        are_many = any(beside[plain, subset] > 1 for subset in range(len(SUBSETS)))
        classes += list(spelled) if are_many else [max(spelled)]
    return sorted(classes, key=lambda name: (_plain(name), name))


def _labels(classes: Sequence[str]) -> dict[str, int]:
    """Label by name, and by what is left of it without case and punctuation where that says which one."""
    count = Counter(map(_plain, classes))
    plain = {_plain(name): label for label, name in enumerate(classes) if count[_plain(name)] == 1}
    return {**plain, **{name: label for label, name in enumerate(classes)}}


def _split(rows: list[tuple[str, int]], file: Path) -> dict[str, int]:
    """Subset by path; no video may both train and test."""
    subsets = dict(rows)
    for path, subset in rows:
        if subsets[path] != subset:
            raise VsslError(f"{file}: {path} is in the training list too; take it out of one of the two")
    return subsets


def _entries(
    labels: dict[str, int], splits: list[dict[str, int]], find: Callable[[str], str | None]
) -> list[Entry]:
    entries = {}
    for path, label in labels.items():
        file = find(path)
        subsets = tuple(split.get(path, UNUSED) for split in splits)
        entries[file or path] = Entry(file or path, label, subsets, file is not None)
    return list(entries.values())


def _only(listing: Listing, classes: Sequence[str]) -> Listing:
    """The given classes alone, in their order."""
    old = _labels(listing.classes)
    found = [old.get(name, old.get(_plain(name))) for name in classes]
    new = {label: number for number, label in enumerate(found) if label is not None}
    entries = [
        Entry(entry.path, new[entry.label], entry.subsets, entry.exists)
        for entry in listing.entries
        if entry.label in new
    ]
    return Listing(list(classes), entries)
