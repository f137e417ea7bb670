"""What all layouts of data sets share: finding files and lists, reading lines, matching names.

Files are found without regard to case and ending, classes also without punctuation: official lists write
`HandStandPushups` where the class is `HandstandPushups`, Kinetics comes with underscores or blanks, and a
prepared copy holds .mp4 where the list says .avi.
"""

from __future__ import annotations

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
        self._by_path = {plain_path(path): path for path in reversed(self.paths)}
        self._by_name = {Path(path).stem.lower(): path for path in reversed(self.paths)}
        self._by_video = {video_id(path): path for path in reversed(self.paths)}

    def below(self, path: str) -> str | None:
        """The file at this path, or else at one that differs in case or ending."""
        return path if path in self._paths else self._by_path.get(plain_path(path))

    def named(self, path: str) -> str | None:
        """The file at this path, or else one of this name anywhere."""
        return self.below(path) or self._by_name.get(Path(path).stem.lower())

    def video(self, youtube_id: str) -> str | None:
        """The file of a YouTube video."""
        return self._by_video.get(youtube_id)


class Lists:
    """The list files of a data set, wherever they lie."""

    def __init__(self, root: Path, given: Path | None, folders: Sequence[str], source: str | None) -> None:
        self.given, self.source = given, source
        beside = [place / name for place in (root, root.parent) for name in folders]
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
            fetch = f"get it from {self.source} or " if self.source else ""
            raise VsslError(f"{patterns[0]}: no such list in {places}; {fetch}set lists=DIR to its folder")
        return found


def video_id(path: str) -> str:
    """The YouTube id in a file name, with or without time stamps behind it; else the whole stem."""
    stem = Path(path).stem
    match = _YOUTUBE.fullmatch(stem)
    return match["id"] if match else stem


def by_folders(files: Files, held_out: str) -> list[tuple[str, str | None, int]]:
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


def printable(text: str) -> str:
    """Text as one line that any terminal takes: line ends, and bytes that are no UTF-8, are written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def plain_name(name: str) -> str:
    """Without case and punctuation; an accent is the same in one character (Linux) and in two (macOS)."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name).lower()).strip("_")


def plain_path(path: str) -> str:
    return str(Path(path).with_suffix("")).lower()


def text_lines(file: Path) -> list[str]:
    """Lines that are not blank, whatever their ends; bytes that are no UTF-8 as in the names of files."""
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_lines(file: Path) -> Iterator[tuple[str, str | None]]:
    """(path, the word behind it) of each line; the path may hold blanks."""
    for line in text_lines(file):
        match = _LINE.fullmatch(line)
        if not match:
            raise VsslError(f"{file}: {line!r} is not 'path [class]' with a path that ends like a video")
        yield match["path"].replace("\\", "/"), match["label"]


def read_class_names(file: Path) -> list[str]:
    """Names of a class-index file: "1 ApplyEyeMakeup" or just names, in the order of the labels."""
    return [re.sub(r"^\d+[\s,]+", "", line) for line in text_lines(file)]


def label_of(word: str | None, numbers: dict[str, int], where: Path | None) -> int:
    if word is None:
        return UNLABELLED
    if (label := numbers.get(word, numbers.get(plain_name(word)))) is None:
        raise VsslError(f"{where or 'the lists'}: has no class {word!r}; add it or correct the list")
    return label


def distinct(named: Iterable[tuple[str, int]]) -> list[str]:
    """The classes behind names with their subsets, sorted.

    Names that differ in case and punctuation only are one class, unless a subset has both: C and C++.
    """
    names = set(named)
    spellings: dict[str, set[str]] = defaultdict(set)
    for name, _ in names:
        spellings[plain_name(name)].add(name)
    beside = Counter((plain_name(name), subset) for name, subset in names)
    classes = []
    for plain, spelled in spellings.items():
        are_many = any(beside[plain, subset] > 1 for subset in range(len(SUBSETS)))
        classes += list(spelled) if are_many else [max(spelled)]
    return sorted(classes, key=lambda name: (plain_name(name), name))


def labels_by_name(classes: Sequence[str]) -> dict[str, int]:
    """Label by name, and by what is left of it without case and punctuation where that says which one."""
    count = Counter(map(plain_name, classes))
    plain = {plain_name(name): label for label, name in enumerate(classes) if count[plain_name(name)] == 1}
    return {**plain, **{name: label for label, name in enumerate(classes)}}


def split_by_path(rows: list[tuple[str, int]], file: Path) -> dict[str, int]:
    """Subset by path; no video may both train and test."""
    subsets = dict(rows)
    for path, subset in rows:
        if subsets[path] != subset:
            raise VsslError(f"{file}: {path} is in the training list too; take it out of one of the two")
    return subsets


def find_entries(
    labels: dict[str, int], splits: list[dict[str, int]], find: Callable[[str], str | None]
) -> list[Entry]:
    entries = {}
    for path, label in labels.items():
        file = find(path)
        subsets = tuple(split.get(path, UNUSED) for split in splits)
        entries[file or path] = Entry(file or path, label, subsets, file is not None)
    return list(entries.values())
