"""The check of a data set: what its files are, kept in a journal as they are read, and made into an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vssl.data.decode import Decoder
from vssl.data.health import Finding, examine_file
from vssl.data.index import DIGEST_BYTES, Column, Index, are_usable, pack_names
from vssl.data.lists import Listing, printable
from vssl.data.pool import Lost, each

State = list[int | str]
"""Size, time of change and first decoder: a file that has another state now is read again."""


class Remark(NamedTuple):
    """Something to be said about a file, in words that can be printed."""

    verdict: str
    name: str
    detail: str


class Check:
    """The findings on all files of a listing. Those that stand in the journal are not read again.

    journal: a file that a kill at any moment leaves usable; several data sets below one root may share it.
    """

    def __init__(self, listing: Listing, root: Path, decoder: Decoder, journal: Path) -> None:
        self.listing, self.root, self.decoder, self.journal = listing, root, decoder, journal
        self._row = {entry.path: row for row, entry in enumerate(listing.entries)}
        rows = len(listing.entries)
        self._details: dict[int, str] = {}
        self._columns: dict[str, Column] = {
            **{name: np.zeros(rows, np.int32) for name in ("frames", "width", "height")},
            **{name: np.zeros(rows, "S32") for name in ("codec", "verdict", "decoder")},
            "fps": np.zeros(rows, np.float32),
            "size": np.zeros(rows, np.int64),
            "digest": np.zeros((rows, DIGEST_BYTES), np.uint8),
        }
        for entry in listing.entries:
            if not entry.exists:
                self._put(entry.path, Finding("missing", "no such file"))
        self._read_journal()

    @property
    def left(self) -> list[str]:
        """Names of the files that are still to be read."""
        return [self.listing.entries[row].path for row in np.flatnonzero(self._columns["verdict"] == b"")]

    def run(self, workers: int, timeout_s: float) -> Iterator[str]:
        """Read the files that are left, in `workers` processes; yield their names as they are done."""
        tasks = ((name, self.root, self.decoder) for name in self.left)
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with open(self.journal, "a", encoding="utf-8") as file:
            file.write("\n")  # ends the line in which an earlier check was killed
            for (name, *_), found in each(_examine, tasks, workers, timeout_s):
                if isinstance(found, Lost):  # not for the journal: another time it may have more time
                    finding = Finding("crashes" if found.in_time else "hangs", found.reason)
                else:
                    state, finding = found
                    if finding.digest:  # else it could not be read: another time it may
                        file.write(json.dumps([name, state, finding]) + "\n")
                        file.flush()
                        self._columns["size"][self._row[name]] = state[0] if state else 0
                self._put(name, finding)
                yield name

    def index(self, min_frames: int) -> Index:
        """The index of all files; usable ones that are shorter than `min_frames`, or copies, are noted."""
        usable = np.flatnonzero(are_usable(self._columns["verdict"])).tolist()
        for row in usable:
            if self._columns["frames"][row] < min_frames:
                self._note(row, "shorter than a clip", f"{self._columns['frames'][row]} frames")
        self._note_copies(usable)
        names, offsets = pack_names([entry.path for entry in self.listing.entries])
        label = np.array([entry.label for entry in self.listing.entries], np.int32)
        subsets = self.listing.subsets_SN
        return Index(self.listing.classes, names, offsets, label=label, subsets=subsets, **self._columns)

    def remarks(self) -> list[Remark]:
        """All files of which there is something to say, in order."""
        rows = sorted(self._details)
        verdicts = [self._columns["verdict"][row].decode() for row in rows]
        return [
            Remark(verdict, printable(self.listing.entries[row].path), printable(self._details[row]))
            for row, verdict in zip(rows, verdicts, strict=True)
        ]

    def _note_copies(self, usable: list[int]) -> None:
        digests = [self._columns["digest"][row].tobytes() for row in usable]
        first = dict(zip(reversed(digests), reversed(usable), strict=True))
        for row, digest in zip(usable, digests, strict=True):
            if first[digest] != row:
                self._note(row, "duplicate content", f"the same as {self._about(first[digest], row)}")

    def _about(self, original: int, copy: int) -> str:
        """The original of a copy, and what makes the copy a problem."""
        one, other = self.listing.entries[original], self.listing.entries[copy]
        differs = [
            what
            for what, same in (("class", one.label == other.label), ("subset", one.subsets == other.subsets))
            if not same
        ]
        return one.path + (f", in another {' and '.join(differs)}" if differs else "")

    def _put(self, name: str, finding: Finding) -> None:
        row = self._row[name]
        for column, value in finding._asdict().items():
            if column == "digest":
                self._columns[column][row] = np.frombuffer(
                    bytes.fromhex(value).ljust(DIGEST_BYTES, b"\0"), "u1"
                )
            elif column != "detail":
                self._columns[column][row] = value
        if finding.verdict != "ok":
            self._details[row] = finding.detail

    def _note(self, row: int, verdict: str, detail: str) -> None:
        self._columns["verdict"][row] = verdict
        self._details[row] = detail

    def _read_journal(self) -> None:
        if not self.journal.is_file():
            return
        with open(self.journal, encoding="utf-8") as file:
            for line in file:
                try:
                    name, state, finding = json.loads(line)
                except ValueError:  # blank, or the process was killed while it wrote this line
                    continue
                if (
                    name in self._row
                    and self.listing.entries[self._row[name]].exists
                    and state == _state(self.root / name, self.decoder)
                ):
                    self._columns["size"][self._row[name]] = state[0]
                    self._put(name, Finding(*finding))


def _state(path: Path, decoder: Decoder) -> State | None:
    """The state of a file; None if the system does not tell it."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, decoder]


def _examine(name: str, root: Path, decoder: Decoder) -> tuple[State | None, Finding]:
    path = root / name
    return _state(path, decoder), examine_file(path, decoder)
