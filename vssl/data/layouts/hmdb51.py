"""HMDB51: a list per class and split, with a flag behind each name."""

from __future__ import annotations

from pathlib import Path

from vssl.data.lists import Files, Listing, Lists, find_entries, read_lines
from vssl.errors import VsslError

PLACES = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
SOURCE = "https://serre.lab.brown.edu/hmdb51.html (three splits for the HMDB51)"


def read(files: Files, lists: Lists) -> Listing:
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
            for path, flag in read_lines(file):
                labels[f"{name}/{path}"] = label
                splits[-1][f"{name}/{path}"] = _flag(flag, file)
    return Listing(classes, find_entries(labels, splits, files.named))


def _flag(flag: str | None, file: Path) -> int:
    if flag not in ("0", "1", "2"):
        raise VsslError(
            f"{file}: {flag!r} behind a name; official lists have 0 (unused), 1 (train), 2 (test)"
        )
    return int(flag)
