"""Any folder: plain lists if there are any, else class folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vssl.data.lists import TEST, TRAIN, Claims, Classes, Entry, Files, Listing, Lists, Row, class_and_subset
from vssl.errors import VsslError

PLACES = ("lists",)
SOURCE = None

FEW = 20
"""So many classes may be numbers without a video for most: of a few videos, to try things out."""


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
    rows = [_with_class(row) for subset, file in found for row in lists.rows(file, subset)]
    classes = classes or _classes(rows)
    claims = Claims(files.below, classes)
    for row in rows:
        claims.add(row)
    return Listing(classes.names, claims.entries())


def _found(lists: Lists) -> list[tuple[int, Path]]:
    """The lists, with what each is for."""
    if lists.given and lists.given.is_file():
        lists.places = [lists.given.parent]
        return [(TRAIN, lists.given)]
    names = {
        TRAIN: ("train.txt", "trainlist01.txt", "train.csv"),
        TEST: ("test.txt", "testlist01.txt", "test.csv", "val.txt", "val.csv"),
    }
    found = [(subset, file) for subset, patterns in names.items() for file in lists.find(*patterns)[:1]]
    if lists.given and not found:
        lists.need(*names[TRAIN])
    return found


def _with_class(row: Row) -> Row:
    """A row without a word has that of its class folder, if it is in one."""
    return row if row.word else row._replace(word=class_and_subset(row.path, are_subsets=False)[0])


def _classes(rows: Sequence[Row]) -> Classes:
    """The classes that the words behind paths name; numbers count from 0."""
    named = [(row.word, row.subset) for row in rows if row.word is not None]
    if not named or not all(word.isdecimal() for word, _ in named):
        return Classes.of(named)
    highest = max(int(word) for word, _ in named)
    if highest >= max(FEW, len(rows)):
        raise VsslError(
            f"{rows[0].file}: classes are numbers up to {highest}, but there are {len(rows)} videos; if they "
            "count something else, take their column out, else name all classes in a classes.txt"
        )
    return Classes([str(label) for label in range(highest + 1)])
