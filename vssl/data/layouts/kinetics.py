"""Kinetics: the row of a csv, or the folder of a class, says what a video shows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
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
    label_of,
    labels_by_name,
    read_lines,
    video_id,
)
from vssl.errors import VsslError

PLACES = ("annotations",)
SOURCE = "https://github.com/cvdfoundation/kinetics-dataset (annotations)"


def read(files: Files, lists: Lists) -> Listing:
    """The official validation list is the test set: the test list came without labels, few have its files."""
    rows = [
        *_kinetics_rows(lists.find("*train*.csv"), TRAIN),
        *_kinetics_rows(lists.find("*val*.csv"), TEST),
    ]
    listed = {subset for _, _, subset in rows}
    in_folders = [
        (path, name, subset)
        for path, name, subset in by_folders(files, held_out="val")
        if subset not in listed and name is not None
    ]
    if not rows and not in_folders:
        lists.need("train.csv")
    classes = distinct((name, subset) for _, name, subset in [*rows, *in_folders])
    numbers = labels_by_name(classes)
    entries = {
        path: Entry(path, label_of(name, numbers, None), (subset,)) for path, name, subset in in_folders
    }
    for path, name, subset in rows:
        file = files.video(video_id(path)) or files.below(path)
        label = label_of(name, numbers, None)
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
        for path, name in read_lines(file):
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
