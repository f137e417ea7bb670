"""mode=check: read every file of a real data set once, say what is wrong, and write the index for all runs.

`python launch.py mode=check source=ucf101 source.root=DIR`
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from vssl import options
from vssl.checks import make_folder
from vssl.data import layouts
from vssl.data.check import Check, Remark
from vssl.data.decode import FROM_START, load_decoder
from vssl.data.index import VERDICTS, Index, absolute, check_source, index_path, write
from vssl.data.lists import SUBSETS, TEST, TRAIN, UNLABELLED, UNUSED, Listing, printable
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.pipeline import Node, plain
from vssl.report.progress import Progress
from vssl.report.table import cause_table
from vssl.stage.build import naming
from vssl.words import count

PLANNED = False

SHOWN = 3
"""Names in a line of the report."""

NO_FILES = "label without files"
REMEDIES = {cause: verdict.remedy for cause, verdict in VERDICTS.items()}
REMEDIES[NO_FILES] = "complete the files or take the class out of the lists"


def execute(cfg: DictConfig) -> None:
    """Check source and downstream; raise `VsslError` if too many files of one of them cannot be used."""
    limits: options.Check = options.read(cfg, "check")
    sources = {}
    for path in ("source", "downstream.train", "downstream.test"):
        source = plain(OmegaConf.select(cfg, path))
        if "index" in source:
            with naming(path):
                check_source(source)
                sources[index_path(source)] = path, source
    if not sources:
        raise VsslError(
            "mode=check: synthetic videos need none; name a data set: source=ucf101 source.root=DIR"
        )
    complaints = []
    for file, (path, source) in sources.items():
        with naming(path):
            make_folder("index", file.parent)
            index = _check(source, file, limits, cfg.runtime.workers)
        bad = 1 - index.usable.mean()
        if bad > limits.max_bad:
            complaints.append(f"{source['name']}: {bad:.1%} of {len(index):,} files cannot be used")
    if complaints:
        raise VsslError(
            f"{'; '.join(complaints)}; mend them, or accept the share with check.max_bad=... "
            "(the index is written: runs leave these files out)"
        )


def _check(source: Node, path: Path, limits: options.Check, workers: int) -> Index:
    load_decoder(source["decoder"])  # without its library, every file would seem to need another decoder
    root = absolute(source["root"])
    given = absolute(source["lists"]) if source["lists"] else None
    listing = layouts.read(source["layout"], root, given, source["classes"])
    journal = path.parent / f"{hashlib.sha256(str(root).encode()).hexdigest()[:10]}.jsonl"
    check = Check(listing, root, source["decoder"], journal)
    total = len(listing.entries)
    with Progress(f"check {source['name']}", total, "files", total - len(check.left)) as progress:
        for done, _ in enumerate(check.run(workers, limits.timeout_s), start=1):
            progress.advance(1, **{"CPU s/file": check.cpu_s / done})
    index = check.index(limits.min_frames)
    write(index, path)
    _report(source, listing, index, check.remarks(), path)
    return index


def _report(source: Node, listing: Listing, index: Index, remarks: list[Remark], path: Path) -> None:
    cause_table(remarks, len(index))
    empty = _names(index, set(range(len(index.classes))) - _labels(index, index.usable))
    if empty:
        print(f"{NO_FILES}: {_some(empty)}; {REMEDIES[NO_FILES]}")
    remarks = [*remarks, *(Remark(NO_FILES, name, "no usable file") for name in empty)]
    lines = ["\t".join([*remark, REMEDIES[remark.verdict]]) + "\n" for remark in remarks]
    write_atomically(path.with_suffix(".txt"), "".join(lines))
    for split, codes in enumerate(index.subsets, start=1):
        train, test = (_labels(index, index.usable & (codes == code)) for code in (TRAIN, TEST))
        if train and test - train:
            only = _some(_names(index, test - train))
            print(f"split {split}: classes with test videos only: {only}; nothing can learn them")
    if source["published"]["classes"] not in (None, len(index.classes)):
        print(f"{len(index.classes)} classes, but {source['published']['classes']} are published")
    counts = list(_counts(source, index))
    if listing.not_listed:
        counts.append(f"{listing.not_listed:,} video files are in no list and are not used")
    files = (f"index: {path}", f"all remarks: {path.with_suffix('.txt')}")
    print(*counts, *listing.remarks, *files, sep="\n")


def _labels(index: Index, rows: Any) -> set[int]:
    return set(index.label[rows].tolist()) - {UNLABELLED}


def _names(index: Index, labels: Iterable[int]) -> list[str]:
    """The classes of these labels, in words that can be printed."""
    return [printable(index.classes[label]) for label in sorted(labels)]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _counts(source: Node, index: Index) -> Iterator[str]:
    """Classes, and videos per split and subset: listed, usable, published; and how long they are."""
    if index.classes:
        yield f"{count(len(index.classes), 'class')}: {_some(_names(index, range(len(index.classes))))}"
    for split, codes in enumerate(index.subsets, start=1):
        if unused := int((codes == UNUSED).sum()):
            yield f"split {split}: {count(unused, 'video')} neither to train nor to test on"
        for code in (TRAIN, TEST):
            rows, subset = codes == code, SUBSETS[code]
            published = source["published"][subset][split - 1 : split]
            if rows.any() or published:
                yield f"split {split} {subset}: {_count(index, rows, published)}"
    if slow := int((index.usable & (index.decoder == FROM_START.encode())).sum()):
        why = "as nothing says rightly where to seek (AVI never does)"
        yield f"decoded from their start for each clip: {count(slow, 'file')}, {why}; mode=prepare helps"


def _count(index: Index, rows: Any, published: list[int]) -> str:
    listed, frames = int(rows.sum()), index.frames[rows & index.usable]
    words = f"{count(listed, 'video')}, {len(frames):,} usable"
    if len(frames):
        words += f", {frames.min():,} to {frames.max():,} frames (median {np.median(frames):,.0f})"
    if unlabelled := int((rows & (index.label == UNLABELLED)).sum()):
        words += f"; {unlabelled:,} without a class"
    for number in published:
        differs = f"{abs(listed - number):,} {'more' if listed > number else 'fewer'} than the"
        words += f"; {'as' if listed == number else differs} {number:,} published"
    return words
