"""How data sets lie on disk: one file per layout, found by its name.

Each has `read(files, lists)`, and says where the official archive puts its lists (`PLACES`: folders in the
root or beside it) and where to get them (`SOURCE`, or None).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vssl.data.lists import Entry, Files, Listing, Lists, labels_by_name, plain_name
from vssl.modules import check_module, load_module


def check_layout(name: object) -> None:
    """Raise `OptionError` if there is no layout of this name."""
    check_module(__name__, "layout", name)


def read(layout: str, root: Path, lists: Path | None, classes: Sequence[str] | None) -> Listing:
    """All videos of the data set below `root`.

    layout: a module of this package. lists: folder (or file) of its lists; None: they are looked for in the
    root and beside it. classes: take these only, labelled in this order.
    Raises VsslError if a list is missing, with where it was looked for and where to get it.
    """
    module = load_module(__name__, "layout", layout)
    files = Files(root)
    listing: Listing = module.read(files, Lists(root, lists, module.PLACES, module.SOURCE))
    listing = _only(listing, classes) if classes else listing
    found = {entry.path for entry in listing.entries}
    entries = sorted(listing.entries, key=lambda entry: entry.path)
    return Listing(listing.classes, entries, 0 if classes else len(set(files.paths) - found))


def _only(listing: Listing, classes: Sequence[str]) -> Listing:
    """The given classes alone, in their order."""
    old = labels_by_name(listing.classes)
    found = [old.get(name, old.get(plain_name(name))) for name in classes]
    new = {label: number for number, label in enumerate(found) if label is not None}
    entries = [
        Entry(entry.path, new[entry.label], entry.subsets, entry.exists)
        for entry in listing.entries
        if entry.label in new
    ]
    return Listing(list(classes), entries)
