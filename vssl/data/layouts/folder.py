"""Any folder: plain lists if there are any, else class folders."""

from __future__ import annotations

from pathlib import Path

from vssl.data.lists import (
    TEST,
    TRAIN,
    Entry,
    Files,
    Listing,
    Lists,
    by_folders,
    distinct,
    find_entries,
    label_of,
    labels_by_name,
    read_class_names,
    read_lines,
    split_by_path,
    text_lines,
)
from vssl.errors import VsslError

PLACES = ("lists",)
SOURCE = None


def read(files: Files, lists: Lists) -> Listing:
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
    named = read_class_names(class_file) if class_file else None
    if not found:
        return _class_folders(files, named)
    lines = [(path, word, subset) for subset, file in found for path, word in read_lines(file)]
    rows = [(path, _class_word(path, word), subset) for path, word, subset in lines]
    classes, numbers = _numbering([(word, subset) for _, word, subset in rows], named, class_file)
    labels = _labelled(rows, numbers, class_file, found[-1][1])
    split = split_by_path([(path, subset) for path, _, subset in rows], found[-1][1])
    return Listing(classes, find_entries(labels, [split], files.below))


def _class_folders(files: Files, named: list[str] | None) -> Listing:
    placed = by_folders(files, held_out="test")
    classes = named or distinct((name, subset) for _, name, subset in placed if name)
    numbers = labels_by_name(classes)
    entries = [Entry(path, label_of(name, numbers, None), (subset,)) for path, name, subset in placed]
    return Listing(classes, entries)


def _labelled(
    rows: list[tuple[str, str | None, int]], numbers: dict[str, int], class_file: Path | None, file: Path
) -> dict[str, int]:
    """Label by path; no video may have two."""
    labels: dict[str, int] = {}
    for path, word, _ in rows:
        label = label_of(word, numbers, class_file)
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
    classes = named or distinct(known)
    return classes, {**(_numbers(class_file) if class_file else {}), **labels_by_name(classes)}


def _numbers(class_file: Path) -> dict[str, int]:
    """Label by number: the one that a class-index file writes before the name, else counted from 0."""
    words = [line.split(maxsplit=1)[0] for line in text_lines(class_file)]
    return {word if word.isdigit() else str(label): label for label, word in enumerate(words)}
