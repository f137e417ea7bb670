"""What all layouts of data sets share: finding files and lists, reading lines, matching names.

The file at the very path comes first. Else files are found without regard to case and ending, classes also
without punctuation: official lists write `HandStandPushups` where the class is `HandstandPushups`, Kinetics
comes with underscores or blanks, and a prepared copy holds .mp4 where the list says .avi.
"""

import codecs
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vssl.errors import OptionError, VsslError

SUBSETS = ("unused", "train", "test")
"""What a file is used for in a split, by code."""
UNUSED, TRAIN, TEST = range(3)

UNLABELLED = -1
FEW = 20
"""With so few classes, to try things out, nothing is taken for a mistake that may be one."""

VIDEOS = "3g2|3gp|asf|avi|f4v|flv|m2ts|m2v|m4v|mkv|mov|mp4|mpeg|mpg|mts|ogv|ts|vob|webm|wmv"
"""Endings of video files."""
LISTS = (".txt", ".csv")
_LIST = re.compile(r"(?i)train|val|test|class|label")
SYSTEM_FOLDERS = re.compile(
    r"(?i)\$recycle\.bin|[#@]recycle|#snapshot|@eadir|lost\+found|__macosx|system volume information"
)
"""What disks and network drives have beside the data."""

_ENDINGS = tuple(f".{ending}" for ending in VIDEOS.split("|"))
_LINE = re.compile(rf"(?P<path>.+?\.(?:{VIDEOS}))(?P<rest>[\s,].*)?", re.IGNORECASE)
_QUOTED = re.compile(r'"(?P<path>[^"]+)"(?P<rest>,.*)?')
COUNT = re.compile(r"\d{1,9}")
"""A label or a number of seconds; what has more digits is a word, such as a time stamp."""
_NUMBERED = (
    re.compile(rf"(?P<number>{COUNT.pattern})[\s,:]+(?P<name>.+)"),
    re.compile(rf"(?P<name>.+?)[\s,:]+(?P<number>{COUNT.pattern})"),
)
"""A class and its number; the other way round."""
_NUMBER = re.compile(r"(?i)[+-]?\d+(\.\d*)?|nan")
_NUMBERS = re.compile(r"(?=.*\d)[\d.:+-]+")
"""A number, a time, a range of them."""
_SEVERAL = re.compile(r"[;|]|\s#")
"""What no class has in its name: marks between columns or classes, and before a comment."""
_OUTSIDE = re.compile(r"/|\.\./|~/|\w+:/")
"""How a path begins that does not lie below the root; the last are drives of Windows and addresses."""
_SUBSET_FOLDER = re.compile(
    r"(?i)(?P<set>.*[_-])?(?P<word>train|val|test)((?P<ing>ing)|id|idate|idation)?[_-]?\d*"
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
    """All videos of a data set, sorted by path, and the names of its classes, by label.

    not_listed: video files below the root that no list names.
    remarks: what is likely to be a mistake; files that were passed over.
    """

    classes: list[str]
    entries: list[Entry]
    not_listed: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def subsets_SN(self) -> NDArray[np.uint8]:
        """Codes of `SUBSETS` per split and entry."""
        return np.array([entry.subsets for entry in self.entries], np.uint8).T.reshape(-1, len(self.entries))


class Row(NamedTuple):
    """A line of a list: a video, the word for its class, its subset by code, where it stands; its split."""

    path: str
    word: str | None
    subset: int
    file: Path
    line: int
    split: int = 0

    @property
    def where(self) -> str:
        return f"{printable(str(self.file))}, line {self.line}"

    def is_of_folder(self, path: str) -> bool:
        """Whether a file lies in a folder that is called as the class of this row."""
        return _folder(path) == plain_name(self.word or "")

    def only(self, found: Sequence[str]) -> str | None:
        """The one file that was found for this row; raises VsslError if there are several."""
        if len(found) > 1:
            one, other = map(printable, found[:2])
            remedy = "move one of them away, or write the path of the one that is meant"
            raise VsslError(f"{self.where}: {printable(self.path)} may be {one} or {other}; {remedy}")
        return found[0] if found else None


def walk(root: Path) -> Iterator[str]:
    """Paths below a folder of all files in it, but for hidden ones and those in hidden and system folders.

    A folder that may not be listed raises VsslError: its videos would be missing without a word.
    """

    def unlisted(error: OSError) -> None:
        raise VsslError(
            f"{printable(str(error.filename))}: this folder cannot be listed ({error.strerror}); "
            "make it readable or move it away"
        ) from error

    for folder, folders, names in os.walk(root, followlinks=True, onerror=unlisted):
        folders[:] = [name for name in folders if name[0] != "." and not SYSTEM_FOLDERS.fullmatch(name)]
        folders[:] = [name for name in folders if not _leads_back(Path(folder, name))]
        below = os.path.relpath(folder, root)
        yield from (os.path.normpath(os.path.join(below, name)) for name in names if name[0] != ".")


def _leads_back(folder: Path) -> bool:
    """Whether this is a link to a folder that it lies in: following it would never end."""
    return folder.is_symlink() and os.path.realpath(folder) in map(os.path.realpath, folder.parents)


def video_files(root: Path) -> list[str]:
    """Paths of all video files below a folder, in order."""
    return sorted(filter(_is_video, walk(root)))


def _is_video(path: str) -> bool:
    return path.lower().endswith(_ENDINGS)


class Files:
    """The video files below a folder, found by what lists call them. `passed_over`: other files by ending."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise OptionError("root", root, "no such folder", "give the folder of the videos")
        found = sorted(walk(root))
        self.paths = list(filter(_is_video, found))
        endings = Counter(os.path.splitext(path)[1].lower() for path in found if not _is_video(path))
        counts = [f"{n:,} {end or 'without'}" for end, n in endings.most_common() if end not in LISTS]
        self.passed_over = f"files passed over for their endings: {', '.join(counts)}" if counts else ""
        if not self.paths:
            there = f"in here or below ({self.passed_over})" if counts else "in here or below"
            raise OptionError("root", root, f"no video file {there}", "give the folder of the videos")
        self._by_path = grouped(self.paths, _plain_path)
        self._by_name = grouped(self.paths, lambda path: os.path.basename(_plain_path(path)))

    def below(self, row: Row) -> str | None:
        """The file at the path of a row, or else the one that differs in case or ending."""
        found = self._by_path.get(_plain_path(row.path), [])
        return row.path if row.path in found else row.only(found)

    def named(self, row: Row, classes: "Classes") -> str | None:
        """As `below`, or else the file of this name anywhere, but for the folders of other classes."""
        found = self._by_name.get(os.path.basename(_plain_path(row.path)), [])
        return self.below(row) or row.only([path for path in found if not classes.other_folder(path, row)])

    @cached_property
    def folders(self) -> dict[str, tuple[str | None, str | None]]:
        """Class folder and subset folder (train, val or test) of each file, None where it lies in none."""
        tops = {path.split("/")[0] for path in self.paths if "/" in path}
        are_subsets = all(map(_SUBSET_FOLDER.fullmatch, tops))
        return {path: class_and_subset(path, are_subsets) for path in self.paths}

    def by_folders(self, held_out: str) -> list[tuple[str, str | None, int]]:
        """(path, class, subset) of each file, by the folders that it lies in; no subset folder: train.

        Of folders named val and test, `held_out` is the test set if both are there, the other one unused.
        """
        words = {word for _, word in self.folders.values()} - {"train", None}
        test = held_out if held_out in words else next(iter(words), "test")
        code = {"train": TRAIN, None: TRAIN, test: TEST}
        return [(path, name, code.get(word, UNUSED)) for path, (name, word) in self.folders.items()]


def class_and_subset(path: str, are_subsets: bool) -> tuple[str | None, str | None]:
    """Class folder and subset folder of a file, None where there is none.

    A folder right above the file is its class if it could be: `eye_test`, but not `test_256`, unless all such
    folders `are_subsets`: `toy_train` and `toy_test`.
    """
    *folders, _ = path.split("/")
    match = _SUBSET_FOLDER.fullmatch(folders[0]) if folders else None
    if match and (len(folders) > 1 or are_subsets or not (match["set"] or match["ing"])):
        return (folders[-1] if len(folders) > 1 else None), match["word"].lower()
    return (folders[-1] if folders else None), None


def grouped(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


class Lists:
    """The list files of a data set, wherever they lie."""

    def __init__(self, root: Path, given: Path | None, folders: Sequence[str], source: str | None) -> None:
        self.root, self.given, self.source = root, given, source
        self._read: set[Path] = set()
        beside = [place / name for place in (root, root.parent) for name in folders]
        self.places = [given] if given else [*beside, root]

    def find(self, *patterns: str) -> list[Path]:
        """Files of these names, from the first place that has one of any; a `*` stands for anything."""
        for place in self.places:
            for pattern in patterns:
                if found := sorted(path for path in place.glob(pattern) if path.is_file()):
                    self._read.update(found)
                    return found
        return []

    def one(self, *patterns: str) -> list[Path]:
        """As `find`, of all patterns; raises VsslError if there are several."""
        for place in self.places:
            found = sorted({path for name in patterns for path in place.glob(name) if path.is_file()})
            if len(found) > 1:
                raise VsslError(f"{found[0]} and {found[1]} may both be meant; move one of them away")
            if found:
                self._read.update(found)
                return found
        return []

    def unread(self) -> list[str]:
        """Names of files that may be lists, too, but were not asked for."""
        place = self.given or self.root
        others = set(place.glob("*")) - self._read
        return sorted(
            path.name for path in others if path.suffix.lower() in LISTS and _LIST.search(path.name)
        )

    def need(self, *patterns: str) -> list[Path]:
        """As `find`, but there has to be one."""
        found = self.find(*patterns)
        if not found:
            places = ", ".join(map(str, self.places))
            fetch = f"get it from {self.source} or " if self.source else ""
            remedy = f"{fetch}give the folder of the lists"
            raise OptionError("lists", self.given, f"no {patterns[0]} in {places}", remedy)
        return found

    def rows(self, file: Path, subset: int) -> Iterator[Row]:
        """The lines "path" or "path class" of a list; a path may hold blanks, and may begin with the root."""
        roots = tuple(f"{root}/" for root in (self.root, os.path.realpath(self.root)))
        for number, line in enumerate(text_of(file), start=1):
            if line:
                row = Row(line, None, subset, file, number)
                path, word = _columns(row)
                path = os.path.normpath(path.replace("\\", "/"))
                root = next(filter(path.startswith, roots), "")
                yield row._replace(path=path.removeprefix(root), word=word)


def text_of(file: Path) -> list[str]:
    """Lines of a text, stripped: UTF-8, or UTF-16 with its mark; other bytes as in names of files."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise VsslError(f"{file}: cannot be read ({error.strerror}); make it readable") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode(*(("utf-16", "replace") if is_utf16 else ("utf-8", "surrogateescape")))
    text = text.replace("\ufeff", "")  # the mark of UTF-8, which is within where texts were put together
    if "\0" in text:
        raise VsslError(f"{file}: not a text (there are zeros in it); save it as UTF-8")
    return [line.strip() for line in re.split("\r\n|\r|\n", text)]


def _columns(row: Row) -> tuple[str, str | None]:
    """Path and class of a line. Raises VsslError for further columns, which would be taken for the class."""
    line = row.path
    match = _QUOTED.fullmatch(line) or _LINE.fullmatch(line)
    path, rest = (match["path"], (match["rest"] or "").strip(" ")) if match else (line, "")
    if not _is_video(path):
        raise VsslError(f"{row.where}: {line!r} is no 'path' or 'path class'; a path ends like a video")
    is_marked = rest[:1] in (",", "\t")
    columns = rest[1:].split(rest[0]) if is_marked else [rest]
    words = [word for column in columns if (word := column.strip().strip('"').strip())]
    parts = re.split(r"[\s,;]+", words[0]) if words else []
    numbers = list(map(_NUMBERS.fullmatch, parts))
    are_columns = len(parts) > 1 and (all(numbers) if is_marked else any(numbers))
    if len(words) > 1 or are_columns or any(map(_is_video, parts)) or any(map(_SEVERAL.search, words)):
        raise VsslError(
            f"{row.where}: {line!r} has more than two columns, the path and the class; take the others out "
            "(a class that has a number among its words needs a comma before it)"
        )
    if words and _NUMBER.fullmatch(words[0]) and not words[0].isdecimal():
        raise VsslError(f"{row.where}: {words[0]!r} is no class; number them from 0, or leave it out")
    return path, words[0] if words else None


class Classes:
    """Names of the classes, by label, and the label of each word for one."""

    def __init__(self, names: Sequence[str], numbers: Sequence[str] = ()) -> None:
        self.names, self._plain = list(names), Counter(map(plain_name, names))
        alone = {word: n for n, word in enumerate(map(plain_name, names)) if self._plain[word] == 1}
        by_number, by_name = ({word: n for n, word in enumerate(words)} for words in (numbers, names))
        self._label = by_number | alone | by_name

    @classmethod
    def of(cls, named: Iterable[tuple[str, int]]) -> "Classes":
        """The classes behind names with their subsets, sorted.

        Names that differ in case and punctuation only are one class, unless a subset has both: C and C++.
        """
        names = set(named)
        beside = Counter((plain_name(name), subset) for name, subset in names)
        are_many = {plain for (plain, _), count in beside.items() if count > 1}
        classes: list[str] = []
        for plain, spelled in grouped({name for name, _ in names}, plain_name).items():
            classes += spelled if plain in are_many else [max(spelled)]
        return cls(sorted(classes, key=lambda name: (plain_name(name), name)))

    @classmethod
    def read(cls, file: Path) -> "Classes":
        """Those of a class-index file: "1 Archery", "Archery 1", or just names, which are numbered from 0."""
        lines = list(filter(None, text_of(file)))
        pairs = _numbered(lines) or [(str(label), line) for label, line in enumerate(lines)]
        if len(lines) > 2 and not _numbered(lines) and _numbered(lines[1:]):
            raise VsslError(f"{file}: {lines[0]!r} has no number, all others have; take it out if it is none")
        for words in zip(*pairs, strict=True):
            if twice := [word for word, count in Counter(words).items() if count > 1]:
                raise VsslError(f"{file}: has {twice[0]!r} twice; give each class its line and number")
        return cls([name for _, name in pairs], [number for number, _ in pairs])

    def get(self, word: str) -> int | None:
        """The label of a word, if a class is called so."""
        spellings = (word, str(int(word)) if COUNT.fullmatch(word) else word, plain_name(word))
        return next((self._label[name] for name in spellings if name in self._label), None)

    def label(self, word: str | None, where: str) -> int:
        """The label of a word, `UNLABELLED` for none; raises VsslError if no class is called so."""
        if word is None:
            return UNLABELLED
        if (label := self.get(word)) is None:
            raise VsslError(f"{where}: there is no class {word!r}; add it to the classes or correct the line")
        return label

    def other_folder(self, path: str, row: Row) -> bool:
        """Whether a file lies in the folder of another class than that of a row."""
        return _folder(path) in self._plain and not row.is_of_folder(path)


def _numbered(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Number and name of each line; none unless all have both. "stage 1" and "stage 2" are names."""
    for form in _NUMBERED:
        matches = [match for line in lines if (match := form.fullmatch(line))]
        names = {match["name"] for match in matches}
        if len(matches) == len(lines) and (form is _NUMBERED[0] or len(names) == len(lines)):
            return [(str(int(match["number"])), match["name"]) for match in matches]
    return []


def claimed(
    rows: Iterable[Row], find: Callable[[Row], str | None], classes: Classes, splits: int = 1
) -> Listing:
    """The files that `find` finds for rows; none may have two names, classes, or subsets of a split."""
    files: dict[str, str | None] = {}
    taken: dict[tuple[str, int | None], Row] = {}
    entries: dict[str, Entry] = {}
    for row in rows:
        label = classes.label(row.word, row.where)
        if row.path not in files:
            files[row.path] = find(row)
        path = files[row.path] or row.path
        if files[row.path] is None and _OUTSIDE.match(path):
            raise VsslError(
                f"{row.where}: {printable(path)} lies outside of the root; write it as it lies below"
            )
        first, beside = (taken.setdefault((path, split), row) for split in (None, row.split))
        if first.path != row.path:
            raise _contradiction(row, f"is the same file as {printable(first.path)} in", first)
        if path in entries and entries[path].label != label:
            raise _contradiction(row, "has another class in", first)
        if beside.subset != row.subset:
            how = f"is {SUBSETS[row.subset]} here, but {SUBSETS[beside.subset]} in"
            raise _contradiction(row, how, beside)
        subsets = (taken[path, n].subset if (path, n) in taken else UNUSED for n in range(splits))
        entries[path] = Entry(path, label, tuple(subsets), files[row.path] is not None)
    return Listing(classes.names, list(entries.values()))


def _contradiction(row: Row, how: str, other: Row) -> VsslError:
    return VsslError(f"{row.where}: {printable(row.path)} {how} {other.where}; take one of the lines out")


def printable(text: str) -> str:
    """Text as one line that any terminal takes: line ends, and bytes that are no UTF-8, are written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def plain_name(name: str) -> str:
    """Without case and punctuation; an accent is the same in one character (Linux) and in two (macOS)."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name).lower()).strip("_")


def _folder(path: str) -> str:
    return plain_name(os.path.basename(os.path.dirname(path)))


def _plain_path(path: str) -> str:
    return unicodedata.normalize("NFC", os.path.splitext(path)[0]).lower()
