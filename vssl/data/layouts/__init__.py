"""How data sets lie on disk: one file per layout, found by its name.

Each has `read(files, lists)`, and says where the official archive puts its lists (`PLACES`: folders in the
root or beside it) and where to get them (`SOURCE`, or None).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vssl.data.lists import FEW, TEST, TRAIN, UNLABELLED, Classes, Files, Listing, Lists, printable
from vssl.errors import OptionError, VsslError
from vssl.modules import load_module


def read(layout: str, root: Path, lists: Path | None, classes: Sequence[str] | None) -> Listing:
    """All videos of the data set below `root`.

    layout: a module of this package. lists: folder (or file) of its lists; None: they are looked for in the
    root and beside it. classes: take these only, labelled in this order.
    Raises VsslError if a list is missing, with where it was looked for and where to get it.
    """
    module = load_module(__name__, "layout", layout)
    files = Files(root)
    found = Lists(root, lists, module.PLACES, module.SOURCE)
    listing: Listing = module.read(files, found)
    if not listing.entries:
        raise VsslError(f"{lists or root}: the lists name no video; write lines of 'path class' into them")
    remarks = (*_remarks(files, listing), *_left_out(files, found, listing))
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
    elif listing.classes[:1] == ["0"] and 0 not in used and used:
        yield "no video is of class 0: do the numbers begin with 1? A classes.txt names them"


def _left_out(files: Files, lists: Lists, listing: Listing) -> Iterator[str]:
    """What may say something, but not to this layout."""
    if unread := lists.unread():
        yield f"lists of other names, which are not read: {_some(unread)}"
    classes = Classes(listing.classes)
    above = set()
    for entry in listing.entries:
        folder, subset = files.folders.get(entry.path, (None, None))
        if folder is not None and classes.get(folder) == entry.label:
            above.add("/".join(entry.path.split("/")[1 if subset else 0 : -2]))
    if len(above) > 1:
        names = _some(sorted(above - {""}))
        yield f"folders above those of the classes, which say nothing: {names}; is it right?"
    trained, tested = (
        {entry.label for entry in listing.entries if subset in entry.subsets} - {UNLABELLED}
        for subset in (TRAIN, TEST)
    )
    if trained and tested - trained:
        names = _some([listing.classes[label] for label in sorted(tested - trained)])
        yield f"classes of which there are videos to test on, but none to train on: {names}"


def _some(names: Sequence[str]) -> str:
    """The number of names, and the first of them."""
    return f"{len(names):,}, {printable(', '.join(names[:3]))}"
