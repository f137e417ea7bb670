"""HMDB51: a list per class and split, with a flag behind each name."""

import glob
from pathlib import Path

from vssl.data.lists import UNUSED, Classes, Files, Listing, Lists, claimed
from vssl.errors import VsslError

PLACES = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
SOURCE = "https://serre.lab.brown.edu/hmdb51.html (three splits for the HMDB51)"


def read(files: Files, lists: Lists) -> Listing:
    """The name of a list says the class, the flag says the subset."""
    marker = "_test_split1.txt"
    classes = Classes(sorted(path.name.removesuffix(marker) for path in lists.need(f"*{marker}")))
    splits = [split for split in (1, 2, 3) if lists.find(f"*_test_split{split}.txt")]
    rows = []
    for place, split in enumerate(splits):
        for name in classes.names:
            [file] = lists.need(f"{glob.escape(name)}_test_split{split}.txt")
            for row in lists.rows(file, UNUSED):
                if row.word not in ("0", "1", "2"):
                    remedy = "write 0 (unused), 1 (train) or 2 (test)"
                    raise VsslError(f"{row.where}: {row.word!r} behind a name; {remedy}")
                path, subset = f"{name}/{Path(row.path).name}", int(row.word)
                rows.append(row._replace(path=path, word=name, subset=subset, split=place))
    return claimed(rows, lambda row: files.named(row, classes), classes, len(splits))
