"""What a check found out about every file of a data set, in one file of columns.

mode=check writes it, and everything later uses it instead of opening videos. It is loaded whole, but names
stay packed: 240,000 videos take about 40 MB.
"""

import hashlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vssl.checks import check_at_least, check_below_1, check_choice, check_list, check_text, check_type
from vssl.data.addresses import check_addresses
from vssl.data.decode import FROM_START, check_decoder
from vssl.data.lists import TEST, TRAIN
from vssl.data.part import Part, group_names
from vssl.errors import OptionError, VsslError
from vssl.files import write_atomically
from vssl.modules import check_module

FORMAT = 2
"""Version of the file's layout."""

DIGEST_BYTES = 16


class Verdict(NamedTuple):
    """What a cause means: whether such a file is used, and how to mend it."""

    usable: bool
    remedy: str


VERDICTS = {
    "ok": Verdict(True, ""),
    "missing": Verdict(False, "fetch it, or train without it"),
    "empty": Verdict(False, "fetch it again"),
    "not a video": Verdict(False, "fetch it again"),
    "no video stream": Verdict(False, "fetch it again; this one holds sound only"),
    "truncated": Verdict(False, "fetch it again"),
    "damaged": Verdict(False, "fetch it again"),
    "no memory": Verdict(False, "check again with fewer runtime.workers or more memory"),
    "hangs": Verdict(False, "raise check.timeout_s if it is just long; else fetch it again"),
    "crashes": Verdict(False, "re-encode it with mode=prepare or fetch it again"),
    "duplicate content": Verdict(True, "see that train and test do not share it"),
    "shorter than a clip": Verdict(True, "a stage leaves it out if its sampler needs more frames"),
    "codec": Verdict(True, "mode=prepare makes it fast"),
    "stream-copied cut": Verdict(True, "only what is shown is read; mode=prepare makes it fast"),
    "random access is wrong": Verdict(True, "mode=prepare makes it fast"),
    "long": Verdict(True, "mode=prepare makes it fast"),
    "changing size": Verdict(True, "see that it is one video"),
    "several video streams": Verdict(True, "see that it is the one that is meant"),
    "interlaced": Verdict(True, "de-interlace it if fast motion matters"),
    "variable frame rate": Verdict(True, "its speed labels are inexact; take it out where they matter"),
    "header is wrong": Verdict(True, "the frames that decode are counted, not the header's"),
}
"""All verdicts on a file, worst first after `ok`."""

Column = NDArray[Any]


@dataclass(frozen=True)
class Index:
    """N files in order of their names, as columns, and the classes that the labels number.

    names and offsets: UTF-8 of all names, and where each begins [N+1]; paths below the root.
    size: in bytes, as it was read (0: not known). label: -1 if a file has none. frames: how many are shown.
    fps, width, height (pixels). codec, verdict and decoder (the one that reads this file rightly) are ASCII.
    digest: of the content [N,16].
    subsets: codes of `vssl.data.lists.SUBSETS` per split [S,N].
    """

    classes: list[str]
    names: Column
    offsets: Column
    size: Column
    label: Column
    frames: Column
    fps: Column
    width: Column
    height: Column
    codec: Column
    verdict: Column
    decoder: Column
    digest: Column
    subsets: Column

    def __len__(self) -> int:
        return len(self.label)

    def name(self, row: int) -> str:
        """Path of a file below the root."""
        begin, end = self.offsets[row : row + 2]
        return bytes(self.names[begin:end]).decode("utf-8", "surrogateescape")

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether each file can be trained on [N]."""
        return np.isin(self.verdict, [cause.encode() for cause in VERDICTS if VERDICTS[cause].usable])


def pack_names(names: Sequence[str]) -> tuple[Column, Column]:
    """One array of bytes, and the offset of each name in it."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def index_path(source: Mapping[str, Any]) -> Path:
    """Where the index of a source node lies, of all subsets and splits; raises OptionError without a root."""
    parts = [str(root_of(source)), *(source[name] for name in ("layout", "lists", "classes", "decoder"))]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]
    return Path(source["index"]) / f"{source['name']}-{name}.npz"


def root_of(source: Mapping[str, Any]) -> Path:
    """The folder of a source node's videos; raises OptionError if it has none yet."""
    name, root = source["name"], source["root"]
    if root is None:
        raise OptionError("root", root, "not set", _give(name))
    return absolute(root)


def _give(name: str) -> str:
    """What a root is of a source of this name."""
    return f"give the folder of {'your videos' if name == 'folder' else f'the videos of {name}'}"


def absolute(path: str) -> Path:
    """A folder as a user gives it, independent of the working directory."""
    return Path(path).expanduser().absolute()


def write(index: Index, path: Path) -> None:
    """Write the index; a kill leaves the old file or the new one."""
    arrays = {field.name: getattr(index, field.name) for field in fields(Index) if field.name != "classes"}
    about = json.dumps({"format": FORMAT, "classes": index.classes}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, about=np.frombuffer(about, np.uint8), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> Index:
    """Load an index; raises FileNotFoundError if there is none and VsslError if it cannot be read."""
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load(path: Path, _changed_ns: int) -> Index:
    try:
        with np.load(path) as file:
            about = json.loads(bytes(file["about"]))
            columns = {name: file[name] for name in file.files if name != "about"}
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this vssl has {FORMAT}")
        return Index(classes=about["classes"], **columns)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VsslError(
            f"{path}: cannot be read ({error.strerror}); make it readable or delete it"
        ) from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise VsslError(f"{path}: not an index ({error}); delete it and run mode=check again") from error


ONLY_FOR_THE_CHECK = ("layout", "lists", "classes", "decoder", "published", "download")
"""Values of a source node that say where files come from and how the lists are read; the index holds what
came of them."""

SELECTION = ("subset", "split", "validation", "group")
"""Values of a source node that say which of the files in its index are meant; see `select`."""


def check_source(source: Mapping[str, Any]) -> None:
    """Raise `OptionError` for a value of a source node that means nothing."""
    for name in ("name", "index"):
        check_text(name, source[name])
    for name in ("root", "lists"):
        if source[name] is not None:
            check_text(name, source[name])
    if source["classes"] is not None:
        check_list("classes", source["classes"], str)
    published = source["published"]
    if published["classes"] is not None:
        check_type("published.classes", published["classes"], int)
        check_at_least("published.classes", published["classes"], 1)
    for subset in ("train", "test"):
        check_list(f"published.{subset}", published[subset], int)
        check_at_least(f"published.{subset}", min(published[subset], default=1), 1)
    check_addresses(source["download"])
    check_module("vssl.data.layouts", "layout", source["layout"])
    check_decoder(source["decoder"])
    check_selection(*(source[name] for name in SELECTION))


def check_selection(subset: str, split: int, validation: float, group: str | None) -> None:
    """Raise `OptionError` for values that select nothing in any index."""
    check_choice("subset", subset, ("train", "test", "val"))
    check_type("split", split, int)
    check_at_least("split", split, 1)
    check_type("validation", validation, float)
    check_below_1("validation", validation)
    if subset == "val" and not validation:
        problem = "is the share that validation=0.1, say, holds out of the training videos"
        remedy = "give a share, or choose test (a folder named val is the test set where none is named test)"
        raise OptionError("subset", subset, problem, remedy)
    remedy = "give a regular expression with a part (?P<group>...), or null"
    try:
        names = ["group"] if group is None else re.compile(group).groupindex
    except (re.error, TypeError) as error:
        raise OptionError("group", group, f"not a regular expression ({error})", remedy) from error
    if "group" not in names:
        raise OptionError("group", group, "names no group", remedy)


def checked(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source node of a real data set with what its index knows: the number of videos and their fingerprint.

    Raises VsslError, with the command that mends it, if there is no index or no video in the subset.
    """
    check_source(source)
    path = index_path(source)
    count, digest = _summary(path, _changed(source, path), *(source[name] for name in SELECTION))
    if not count:
        problem = f"{source['name']} has no usable video in it"
        remedy = f"see {path.with_suffix('.txt')} for files that are left out, and say by lists=DIR or by "
        remedy += "folders named train and test what is for what"
        raise OptionError("subset", source["subset"], problem, remedy)
    kept = {name: value for name, value in source.items() if name not in ONLY_FOR_THE_CHECK}
    known = {"root": str(root_of(source)), "index": str(path), "num_videos": count, "fingerprint": digest}
    return kept | known


@lru_cache(maxsize=64)
def _summary(path: Path, changed_ns: int, *chosen: Any) -> tuple[int, str]:
    """Number of videos and fingerprint of a subset; the points of a sweep ask for few, over and over."""
    index = _load(path, changed_ns)
    rows = select(index, *chosen)
    return len(rows), fingerprint(index, rows)


def rows_of_part(source: Mapping[str, Any], part: Part) -> Column:
    """Which of the videos of a checked source node are in a part of it, by their numbers among these."""
    path = index_path(source)
    index = _load(path, _changed(source, path))
    rows = select(index, *(source[name] for name in SELECTION))
    names = [index.name(row) for row in rows]
    return part.rows(names, index.label[rows].tolist(), group_names(names, source["group"]))


def class_names(source: Mapping[str, Any]) -> list[str]:
    """Names of the classes of a real data set, by label."""
    path = index_path(source)
    return _load(path, _changed(source, path)).classes


def is_checked(source: Mapping[str, Any]) -> bool:
    """Whether a real data set has a root and an index."""
    return source["root"] is not None and index_path(source).is_file()


def assumed(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """A source node of a data set that is not checked, with its published number of videos.

    For a plan to count with; None if no number is published. Its fingerprint stands for its lists: the same
    videos are the same here too.
    """
    check_source(source)
    subset, split, share = (source[name] for name in ("subset", "split", "validation"))
    published = source["published"]["test" if subset == "test" else "train"][split - 1 : split]
    if not published:
        return None
    part = {"train": 1 - share, "val": share, "test": 1.0}[subset]
    lists = json.dumps([source[name] for name in ("layout", "lists", "classes")]).encode()
    left_out = (*ONLY_FOR_THE_CHECK, "index", *(["root"] if source["root"] is None else []))
    kept = {name: value for name, value in source.items() if name not in left_out}
    digest, count = hashlib.sha256(lists).hexdigest()[:16], round(part * published[0])
    return {**kept, "provisional": True, "fingerprint": digest, "num_videos": count}


def _changed(source: Mapping[str, Any], path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError as error:
        name, root, lists = source["name"], source["root"], source["lists"]
        if not absolute(root).is_dir():
            raise OptionError("root", root, "no such folder", _give(name)) from error
        words = ["mode=check", f"source={name}", f"source.root={root}"]
        words += [f"source.lists={lists}"] if lists else []
        words += [f"decoder={source['decoder']}"] if source["decoder"] != "pyav" else []
        if path.parent.name == "index" and path.parent.parent != Path("outputs").absolute():
            words.append(f"outputs={path.parent.parent}")
        command = shlex.join(["python", "launch.py", *words])
        raise VsslError(f"{name}: {root} is not checked yet; run: {command}") from error


def select(index: Index, subset: str, split: int, validation: float, group: str | None) -> Column:
    """Rows of the usable files of a subset, in order.

    subset: train, test, or val: the share `validation` of train, which train then lacks.
    split: official split, from 1. group: see `validation_rows`.
    """
    if split > len(index.subsets):
        problem = f"the lists that were checked have splits 1 to {len(index.subsets)}"
        raise OptionError("split", split, problem, "choose one of them")
    rows = np.flatnonzero(index.subsets[split - 1] == (TEST if subset == "test" else TRAIN))
    if subset != "test" and validation:
        held = validation_rows(index, rows, validation, group)
        rows = held if subset == "val" else np.setdiff1d(rows, held, assume_unique=True)
    return rows[index.usable[rows]]


def validation_rows(index: Index, rows: Column, share: float, group: str | None) -> Column:
    """The share of `rows` that is held out: whole groups, in an order that only their names decide.

    group: see `group_names`.
    """
    names = group_names([index.name(row) for row in rows], group)
    groups, group_of, counts = np.unique(names, return_inverse=True, return_counts=True)
    digests = [hashlib.sha256(str(name).encode("utf-8", "surrogateescape")).digest() for name in groups]
    order = sorted(range(len(groups)), key=digests.__getitem__)
    before = np.cumsum([0, *counts[order]])[:-1]
    held = [i for i, count in zip(order, before, strict=True) if count < share * len(rows)]
    if len(held) == len(groups):
        problem = f"{len(groups)} groups cannot be cut in two"
        raise OptionError("validation", share, problem, "choose a smaller share, or another group")
    return rows[np.isin(group_of, held)]


def fingerprint(index: Index, rows: Column) -> str:
    """Hash of all that the files of these rows bring to a training: content, order, label, length, decoder.

    Not their names: a data set that is moved or renamed stays the same. Nor how `pyav` finds its pictures.
    """
    digest = hashlib.sha256()
    for name, kind in {"digest": "u1", "label": "<i8", "frames": "<i8"}.items():
        digest.update(getattr(index, name)[rows].astype(kind).tobytes())
    decoder = index.decoder[rows].astype("S16")
    digest.update(np.where(decoder == FROM_START.encode(), b"pyav", decoder).astype("S16").tobytes())
    return digest.hexdigest()[:16]
