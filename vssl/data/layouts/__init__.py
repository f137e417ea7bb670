"""How data sets lie on disk: one file per layout, found by its name.

Each has `read(files, lists)`, and says where the official archive puts its lists (`PLACES`: folders in the
root or beside it) and where to get them (`SOURCE`, or None).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vssl.data.lists import FEW, UNLABELLED, Classes, Files, Listing, Lists, printable
from vssl.errors import OptionError
from vssl.modules import load_module


def read(layout: str, root: Path, lists: Path | None, classes: Sequence[str] | None) -> Listing:
    """All videos of the data set below `root`.

    layout: a module of this package. lists: folder (or file) of its lists; None: they are looked for in the
    root and beside it. classes: take these only, labelled in this order.
    Raises VsslError if a list is missing, with where it was looked for and where to get it.
    """
    module = load_module(__name__, "layout", layout)
    files = Files(root)
    listing: Listing = module.read(files, Lists(root, lists, module.PLACES, module.SOURCE))
    remarks = tuple(_remarks(files, listing))
    entries = sorted(listing.entries, key=lambda entry: entry.path)
    if not classes:
        not_listed = len(set(files.paths) - {entry.path for entry in entries})
        return Listing(listing.classes, entries, not_listed, remarks)
    old = Classes(listing.classes)
    new: dict[int, int] = {}
    for label, name in enumerate(classes):
        if (number := old.get(name)) is not None and new.setdefault(number, label) != label:
            raise OptionError("classes", name, "the list has this class twice", "take it out once")
    entries = [replace(entry, label=new[entry.label]) for entry in entries if entry.label in new]
    return Listing(list(classes), entries, 0, remarks)


def chosen(layout: str, root: Path, classes: Sequence[str]) -> Callable[[str], bool] | None:
    """Which files are of these classes, by their names; None for a layout whose names do not say it."""
    module = load_module(__name__, "layout", layout)
    find = getattr(module, "chosen", None)
    return find(Lists(root, None, module.PLACES, module.SOURCE), classes) if find else None


def _remarks(files: Files, listing: Listing) -> Iterator[str]:
    if files.passed_over:
        yield files.passed_over
    classes = Classes(listing.classes)
    folders = ((entry, os.path.basename(os.path.dirname(entry.path))) for entry in listing.entries)
    odd = [
        entry.path
        for entry, folder in folders
        if classes.get(folder) not in (None, entry.label) and not folder.isdecimal()
    ]
    if odd:
        yield f"files in the folder of another class: {len(odd):,}, {printable(odd[0])} for one; is it right?"
    used = Counter(entry.label for entry in listing.entries if entry.label != UNLABELLED)
    if len(used) == used.total() > FEW:
        yield f"each of {len(used):,} classes has one video: is what follows the paths in lists the class?"
    elif all(map(str.isdecimal, listing.classes)) and FEW < len(listing.classes) > 2 * len(used):
        numbers = f"classes are numbers up to {len(listing.classes) - 1:,}, of which {len(used):,} occur"
        yield f"{numbers}: do they count something else, such as frames?"
