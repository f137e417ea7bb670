"""Kinetics: the row of a csv, or the folder of a class, says what a video shows."""

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vssl.data.lists import (
    COUNT,
    TEST,
    TRAIN,
    Classes,
    Entry,
    Files,
    Listing,
    Lists,
    Row,
    claimed,
    grouped,
    text_of,
)
from vssl.errors import VsslError

PLACES = ("annotations",)
SOURCE = "https://github.com/cvdfoundation/kinetics-dataset (annotations)"

_CLIP = re.compile(rf"(?P<id>.{{11}})(?:_(?P<start>{COUNT.pattern})_(?P<end>{COUNT.pattern}))?")


def chosen(lists: Lists, classes: Sequence[str]) -> Callable[[str], bool]:
    """Whether a file is of a clip that the lists have in one of these classes, by the id in its name."""
    lists.need("train.csv")
    known = Classes(list(classes))
    rows = _both(lists)
    ids = {_clip(row.path)[0] for row in rows if row.word and known.get(row.word) is not None}
    return lambda path: _clip(path)[0] in ids


def read(files: Files, lists: Lists) -> Listing:
    """The official validation list is the test set: the test list came without labels, few have its files."""
    rows = _both(lists)
    listed = {row.subset for row in rows}
    in_folders = [
        (path, name, subset)
        for path, name, subset in files.by_folders(held_out="val")
        if subset not in listed and name is not None
    ]
    if not rows and not in_folders:
        lists.need("train.csv")
    named = [(row.word or "", row.subset) for row in rows] + [place[1:] for place in in_folders]
    classes = Classes.of(named)
    by_id = grouped(files.paths, lambda path: _clip(path)[0])
    listing = claimed(rows, lambda row: _file_of(row, files, by_id, classes), classes)
    entries = {path: Entry(path, classes.label(name, path), (subset,)) for path, name, subset in in_folders}
    entries |= {entry.path: entry for entry in listing.entries}
    return Listing(classes.names, list(entries.values()))


def _file_of(row: Row, files: Files, by_id: dict[str, list[str]], classes: Classes) -> str | None:
    """The file at the path of a row, or else that of its clip in no folder of another class or subset."""
    if row.path in files.folders:
        return row.path
    video, times = _clip(row.path)

    def may_be(path: str) -> bool:
        others, subset = _clip(path)[1], files.folders[path][1]
        is_its_subset = subset is None or (subset == "train") == (row.subset == TRAIN)
        is_its_time = not times or not others or times == others
        return is_its_subset and is_its_time and not classes.other_folder(path, row)

    found = list(filter(may_be, by_id.get(video, [])))
    found = [path for path in found if _clip(path)[1] == times] or found
    return row.only(list(filter(row.is_of_folder, found)) or found)


def _clip(path: str) -> tuple[str, tuple[int, ...]]:
    """The YouTube id in the name of a file, or else the whole name; start and end if they stand behind it."""
    stem = os.path.splitext(os.path.basename(path))[0]
    match = _CLIP.fullmatch(stem)
    if not match:
        return stem, ()
    return match["id"], (int(match["start"]), int(match["end"])) if match["start"] else ()


def _both(lists: Lists) -> list[Row]:
    """The rows of the training list and of the validation list."""
    return [*_rows(lists, "train", TRAIN), *_rows(lists, "val", TEST)]


def _rows(lists: Lists, name: str, subset: int) -> Iterator[Row]:
    """The rows of a csv: the official columns, or "path class" without a header."""
    for file in lists.find(f"{name}.csv") or lists.one(f"*{name}*.csv"):
        table = csv.DictReader(text_of(file), restval="")
        try:
            table.fieldnames = [name.strip() for name in table.fieldnames or ()]
            is_official = {"youtube_id", "label"} <= set(table.fieldnames)
            for values in table if is_official else ():
                yield _official(Row("", None, subset, file, table.line_num), values)
        except csv.Error as error:
            raise VsslError(f"{file}: no csv file ({error}); fetch it again") from error
        for row in () if is_official else lists.rows(file, subset):
            if row.word is None:
                raise VsslError(f"{row.where}: {row.path!r} has no class; a line is 'path class'")
            yield row


def _official(row: Row, values: dict[Any, Any]) -> Row:
    """With the class, and the path that official tools give to the clip."""
    try:
        name, video = values["label"].strip(), values["youtube_id"].strip()
        start, end = (int(float(values[column])) for column in ("time_start", "time_end"))
        if not name or not video or None in values:  # the last: more columns than the first line has
            raise ValueError(values)
    except (KeyError, ValueError, OverflowError) as error:
        raise VsslError(
            f"{row.where}: a row needs label, youtube_id, and time_start and time_end in seconds, and as "
            "many columns as the first line; correct it"
        ) from error
    return row._replace(path=f"{name.replace(' ', '_')}/{video}_{start:06}_{end:06}.mp4", word=name)
