"""mode=check: read every file of a real data set once, say what is wrong, and write the index for all runs.

`python launch.py mode=check source=ucf101 source.root=DIR`
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from vssl import options
from vssl.data import layouts, lists
from vssl.data.check import Check, Remark
from vssl.data.decode import load_decoder
from vssl.data.index import VERDICTS, Index, absolute, check_source, index_path, write
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.report.progress import Progress
from vssl.report.table import cause_table
from vssl.stage.build import naming

PLANNED = False

SHOWN = 3
"""Names in a line of the report."""

NO_FILES = "label without files"
REMEDY_FOR_NO_FILES = "complete the files or take the class out of the lists"

Node = dict[str, Any]


def execute(cfg: DictConfig) -> None:
    """Check source and downstream; raise `VsslError` if too many files of one of them cannot be used."""
    limits: options.Check = options.read(cfg, "check")
    sources = dict(_real_sources(cfg))
    if not sources:
        raise VsslError(
            "mode=check: synthetic videos need none; name a data set: source=ucf101 source.root=DIR"
        )
    complaints = []
    for path, source in sources.items():
        index = _check(source, path, limits, cfg.runtime.workers)
        bad = 1 - index.usable.mean()
        if bad > limits.max_bad:
            complaints.append(f"{source['name']}: {bad:.1%} of {len(index):,} files cannot be used")
    if complaints:
        raise VsslError(
            f"{'; '.join(complaints)}; mend them, or accept the share with check.max_bad=... "
            "(the index is written: runs leave these files out)"
        )


def _real_sources(cfg: DictConfig) -> Iterator[tuple[Path, Node]]:
    """The sources that have an index, with its file."""
    for path in ("source", "downstream.train", "downstream.test"):
        node = OmegaConf.select(cfg, path)
        source: Node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        if "index" in source:
            with naming(path):
                check_source(source)
                file = index_path(source)
            yield file, source


def _check(source: Node, path: Path, limits: options.Check, workers: int) -> Index:
    load_decoder(source["decoder"])  # without its library, every file would seem to need another decoder
    root = absolute(source["root"])
    given = absolute(source["lists"]) if source["lists"] else None
    listing = layouts.read(source["layout"], root, given, source["classes"])
    journal = path.parent / f"{hashlib.sha256(str(root).encode()).hexdigest()[:10]}.jsonl"
    check = Check(listing, root, source["decoder"], journal)
    workers = workers or len(os.sched_getaffinity(0))
    total = len(listing.entries)
    with Progress(f"check {source['name']}", total, "files", total - len(check.left)) as progress:
        for _ in check.run(workers, limits.timeout_s):
            progress.advance(1)
    index = check.index(limits.min_frames)
    write(index, path)
    _report(source, listing, index, check.remarks(), path)
    return index


def _report(source: Node, listing: lists.Listing, index: Index, remarks: list[Remark], path: Path) -> None:
    cause_table(remarks, len(index))
    empty = _classes_without_files(index)
    _write_remarks([*remarks, *(Remark(NO_FILES, name, "no usable file") for name in empty)], path)
    if empty:
        print(f"{NO_FILES}: {_some(empty)}; {REMEDY_FOR_NO_FILES}")
    for split, names in enumerate(_untrained_classes(index)):
        if names:
            print(f"split {split + 1}: classes with test videos only: {_some(names)}; nothing can learn them")
    if source["published"]["classes"] not in (None, len(index.classes)):
        print(f"{len(index.classes)} classes, but {source['published']['classes']} are published")
    for line in _counts(source, index):
        print(line)
    if listing.not_listed:
        print(f"{listing.not_listed:,} video files are in no list and are not used")
    for remark in listing.remarks:
        print(remark)
    print(f"index: {path}\nall remarks: {path.with_suffix('.txt')}")


def _classes_without_files(index: Index) -> list[str]:
    used = set(index.label[index.usable].tolist())
    return [lists.printable(name) for label, name in enumerate(index.classes) if label not in used]


def _untrained_classes(index: Index) -> Iterator[list[str]]:
    """For each split, the classes that have usable videos to test on, but none to train on, if any can be."""
    for codes in index.subsets:
        train, test = (
            set(index.label[index.usable & (codes == code)].tolist()) for code in (lists.TRAIN, lists.TEST)
        )
        only = sorted(test - train - {lists.UNLABELLED}) if train - {lists.UNLABELLED} else []
        yield [lists.printable(index.classes[label]) for label in only]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _write_remarks(remarks: list[Remark], path: Path) -> None:
    """One line for each beside the index: cause, file (or class), what was found, remedy."""
    remedies = {cause: verdict.remedy for cause, verdict in VERDICTS.items()} | {
        NO_FILES: REMEDY_FOR_NO_FILES
    }
    lines = ["\t".join([*remark, remedies[remark.verdict]]) for remark in remarks]
    text = "".join(f"{line}\n" for line in lines)
    write_atomically(path.with_suffix(".txt"), text)


def _counts(source: Node, index: Index) -> Iterator[str]:
    """Classes, and videos per split and subset: listed, usable, published; and how long they are."""
    if index.classes:
        yield f"{len(index.classes):,} classes: {_some([lists.printable(name) for name in index.classes])}"
    for split, codes in enumerate(index.subsets):
        if unused := int((codes == lists.UNUSED).sum()):
            yield f"split {split + 1}: {unused:,} videos neither to train nor to test on"
        for subset in ("train", "test"):
            rows = codes == lists.SUBSETS.index(subset)
            published = source["published"][subset][split : split + 1]
            if rows.any() or published:
                yield f"split {split + 1} {subset}: {_count(index, rows, published)}"


def _count(index: Index, rows: Any, published: list[int]) -> str:
    listed, frames = int(rows.sum()), index.frames[rows & index.usable]
    words = f"{listed:,} videos, {len(frames):,} usable"
    if len(frames):
        words += f", {frames.min():,} to {frames.max():,} frames (median {np.median(frames):,.0f})"
    if unlabelled := int((rows & (index.label == lists.UNLABELLED)).sum()):
        words += f"; {unlabelled:,} without a class"
    for number in published:
        differs = f"{abs(listed - number):,} {'more' if listed > number else 'fewer'} than the"
        words += f"; {'as' if listed == number else differs} {number:,} published"
    return words
