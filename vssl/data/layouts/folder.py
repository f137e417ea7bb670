"""Any folder: plain lists if there are any, else class folders."""

from collections.abc import Iterable
from pathlib import Path

from vssl.data.lists import (
    COUNT,
    FEW,
    TEST,
    TRAIN,
    Classes,
    Entry,
    Files,
    Listing,
    Lists,
    Row,
    claimed,
    class_and_subset,
)
from vssl.errors import VsslError

PLACES = ("lists",)
SOURCE = None


def read(files: Files, lists: Lists) -> Listing:
    """Lists if there are any, else class folders, which may lie in folders named train and test."""
    found = _found(lists)
    class_file = next(iter(lists.find("classInd.txt", "classes.txt")), None)
    classes = Classes.read(class_file) if class_file else None
    if not found:
        placed = files.by_folders(held_out="test")
        classes = classes or Classes.of((name, subset) for _, name, subset in placed if name)
        entries = [Entry(path, classes.label(name, path), (subset,)) for path, name, subset in placed]
        return Listing(classes.names, entries)
    rows = [row for subset, file in found for row in lists.rows(file, subset)]
    named = _words(rows)
    # A row without a word has that of its class folder, if it is in one; it has to be a class of other rows.
    rows = [row._replace(word=row.word or class_and_subset(row.path, False)[0]) for row in rows]
    named = named or _words(rows)
    if not classes and named and all(COUNT.fullmatch(word) for word, _ in named):
        classes = _numbered(max(int(word) for word, _ in named), len(rows), found[0][1])
    classes = classes or Classes.of(named)
    return claimed(rows, files.below, classes)


def _words(rows: Iterable[Row]) -> list[tuple[str, int]]:
    return [(row.word, row.subset) for row in rows if row.word is not None]


def _found(lists: Lists) -> list[tuple[int, Path]]:
    if lists.given and lists.given.is_file():
        lists.places = [lists.given.parent]
        return [(TRAIN, lists.given)]
    names = {
        TRAIN: ("train.txt", "trainlist01.txt", "train.csv"),
        TEST: ("test.txt", "testlist01.txt", "test.csv"),
    }
    found = [(subset, file) for subset, patterns in names.items() for file in lists.one(*patterns)]
    if TEST not in dict(found):
        found += [(TEST, file) for file in lists.one("val.txt", "val.csv")]
    if lists.given and not found:
        lists.need(*names[TRAIN])
    return found


def _numbered(highest: int, videos: int, file: Path) -> Classes:
    if highest >= max(FEW, videos):
        raise VsslError(
            f"{file}: classes are numbers up to {highest}, but there are {videos} videos; if they "
            "count something else, take their column out, else name all classes in a classes.txt"
        )
    return Classes([str(label) for label in range(highest + 1)])
