"""Kinetics: the row of a csv, or the folder of a class, says what a video shows."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator

from vssl.data.lists import (
    TEST,
    TRAIN,
    Claims,
    Classes,
    Entry,
    Files,
    Listing,
    Lists,
    Row,
    grouped,
    only,
    plain_name,
    text_of,
)
from vssl.errors import VsslError

PLACES = ("annotations",)
SOURCE = "https://github.com/cvdfoundation/kinetics-dataset (annotations)"

_CLIP = re.compile(r"(?P<id>.{11})(?:_(?P<start>\d+)_(?P<end>\d+))?")


def read(files: Files, lists: Lists) -> Listing:
    """The official validation list is the test set: the test list came without labels, few have its files."""
    rows = [*_rows(lists, "*train*.csv", TRAIN), *_rows(lists, "*val*.csv", TEST)]
    listed = {row.subset for row in rows}
    in_folders = [
        (path, name, subset)
        for path, name, subset in files.by_folders(held_out="val")
        if subset not in listed and name is not None
    ]
    if not rows and not in_folders:
        lists.need("train.csv")
    named = [(row.word or "", row.subset) for row in rows]
    classes = Classes.of([*named, *((name, subset) for _, name, subset in in_folders)])
    claims = Claims(_Clips(files, classes).find, classes)
    for row in rows:
        claims.add(row)
    entries = {path: Entry(path, classes.label(name, path), (subset,)) for path, name, subset in in_folders}
    entries |= {entry.path: entry for entry in claims.entries()}
    return Listing(classes.names, list(entries.values()))


class _Clips:
    """Finds files by their YouTube video, and by their times where both file and row have them."""

    def __init__(self, files: Files, classes: Classes) -> None:
        self._folders, self._classes = files.folders, classes
        self._by_id = grouped(files.paths, lambda path: _clip(path)[0])

    def find(self, row: Row) -> str | None:
        """The file at the path of a row, or else the one of its clip, if it is in no other class's folder."""
        if row.path in self._folders:
            return row.path
        video, times = _clip(row.path)
        found = [path for path in self._by_id.get(video, []) if self._may_be(path, row, times)]
        found = [path for path in found if _clip(path)[1] == times] or found
        found = [path for path in found if self._is_in_class(path, row)] or found
        return only(row, found)

    def _may_be(self, path: str, row: Row, times: tuple[int, ...]) -> bool:
        others, subset = _clip(path)[1], self._folders[path][1]
        is_its_subset = subset is None or (subset == "train") == (row.subset == TRAIN)
        is_its_time = not times or not others or times == others
        return is_its_subset and is_its_time and not self._classes.other_folder(path, row)

    def _is_in_class(self, path: str, row: Row) -> bool:
        return plain_name(self._folders[path][0] or "") == plain_name(row.word or "")


def _clip(path: str) -> tuple[str, tuple[int, ...]]:
    """The YouTube id in the name of a file, or else the whole name; start and end if they stand behind it."""
    stem = os.path.splitext(os.path.basename(path))[0]
    match = _CLIP.fullmatch(stem)
    if not match:
        return stem, ()
    return match["id"], (int(match["start"]), int(match["end"])) if match["start"] else ()


def _rows(lists: Lists, pattern: str, subset: int) -> Iterator[Row]:
    """The rows of a csv: the official columns, or "path class" without a header."""
    for file in lists.find(pattern)[:1]:
        table = csv.reader(text_of(file))
        try:
            header = [name.strip() for name in next(table, [])]
            is_official = "youtube_id" in header and "label" in header
            for values in filter(None, table if is_official else ()):
                row = Row("", None, subset, file, table.line_num)
                known = values if len(values) <= len(header) else []
                yield _official(row, dict(zip(header, map(str.strip, known), strict=False)))
        except csv.Error as error:
            raise VsslError(f"{file}: no csv file ({error}); fetch it again") from error
        for row in () if is_official else lists.rows(file, subset):
            if row.word is None:
                raise VsslError(f"{row.where}: {row.path!r} has no class; a line is 'path class'")
            yield row


def _official(row: Row, values: dict[str, str]) -> Row:
    """With the class, and the path that official tools give to the clip."""
    try:
        name, video = values["label"], values["youtube_id"]
        start, end = (int(float(values[column])) for column in ("time_start", "time_end"))
        if not name or not video:
            raise ValueError(values)
    except (KeyError, ValueError, OverflowError) as error:
        raise VsslError(
            f"{row.where}: a row needs label, youtube_id, and time_start and time_end in seconds, and as "
            "many columns as the first line; correct it"
        ) from error
    return row._replace(path=f"{name.replace(' ', '_')}/{video}_{start:06}_{end:06}.mp4", word=name)
