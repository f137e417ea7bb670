"""The check of a data set: what its files are, kept in a journal as they are read, and made into an index."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vssl.data.decode import Decoder
from vssl.data.health import Finding, examine_file
from vssl.data.index import DIGEST_BYTES, VERDICTS, Index, pack_names
from vssl.data.journal import State, noted, noting, state_of
from vssl.data.lists import Entry, Listing, printable
from vssl.data.pool import Lost, Outcome, Task, each

COLUMNS = {"frames": "i4", "width": "i4", "height": "i4", "fps": "f4", "size": "i8"}
COLUMNS |= {"codec": "S32", "verdict": "S32", "decoder": "S32"}
"""Types of the columns of an index that a finding fills as it is."""

RULES = 3
"""Raised where the same file would be found to be something else: what was noted before is read again."""

UNREAD = Finding("")


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
        exist = {entry.path for entry in listing.entries if entry.exists}
        missing = Finding("missing", "no such file")
        self._found = {entry.path: UNREAD if entry.exists else missing for entry in listing.entries}
        self.cpu_s = 0.0
        for name, state, finding in noted(journal):
            if name in exist and state == state_of(root / name, decoder, RULES):
                with suppress(TypeError):  # it was noted by another version
                    noted_then = Finding(*finding)._replace(size=state[0])
                    self._found[name] = noted_then if noted_then.verdict in VERDICTS else UNREAD

    @property
    def left(self) -> list[str]:
        """Names of the files that are still to be read."""
        return [name for name, finding in self._found.items() if finding is UNREAD]

    def run(self, workers: int, timeout_s: float) -> Iterator[str]:
        """Read the files that are left, in `workers` processes; yield their names as they are done."""
        tasks = [(name, self.root, self.decoder, "") for name in self.left]
        with noting(self.journal) as note:
            for (name, *_), result, cpu_s in self._outcomes(tasks, workers, timeout_s):
                self.cpu_s += cpu_s
                if isinstance(result, Lost):  # not for the journal: another time it may have more time
                    finding = Finding(result.cause, result.reason)
                else:
                    state, finding = result
                    if finding.digest:  # else it could not be read: another time it may
                        note(name, state, finding)
                        finding = finding._replace(size=state[0] if state else 0)
                self._found[name] = finding
                yield name

    def _outcomes(self, tasks: list[Task], workers: int, timeout_s: float) -> Iterator[Outcome]:
        """Files that an optional decoder does not survive are read once more, without it."""
        again: list[Task] = []
        for outcome in each(_examine, tasks, workers, timeout_s):
            if isinstance(outcome.result, Lost) and self.decoder != "pyav":
                again.append((*outcome.task[:3], outcome.result.reason))
            else:
                yield outcome
        yield from each(_examine, again, workers, timeout_s)

    def index(self, min_frames: int) -> Index:
        """The index of all files; usable ones that are shorter than `min_frames`, or copies, are noted."""
        self._note(min_frames)
        found, entries = list(self._found.values()), self.listing.entries
        columns = {
            name: np.array([getattr(one, name) for one in found], kind) for name, kind in COLUMNS.items()
        }
        digests = np.array([bytes.fromhex(one.digest) for one in found], f"S{DIGEST_BYTES}")
        names, offsets = pack_names([entry.path for entry in entries])
        return Index(
            self.listing.classes,
            names,
            offsets,
            label=np.array([entry.label for entry in entries], np.int32),
            digest=digests.view(np.uint8).reshape(-1, DIGEST_BYTES),
            subsets=self.listing.subsets_SN,
            **columns,
        )

    def remarks(self) -> list[Remark]:
        """All files of which there is something to say, in order."""
        return [
            Remark(finding.verdict, printable(name), printable(finding.detail))
            for name, finding in self._found.items()
            if finding.verdict != "ok" and finding is not UNREAD
        ]

    def _note(self, min_frames: int) -> None:
        first: dict[str, Entry] = {}
        for entry in self.listing.entries:
            finding = self._found[entry.path]
            if finding is UNREAD or not VERDICTS[finding.verdict].usable:
                continue
            original = first.setdefault(finding.digest, entry)
            if original is not entry:
                differs = ["class"] * (original.label != entry.label)
                differs += ["subset"] * (original.subsets != entry.subsets)
                where = f", in another {' and '.join(differs)}" if differs else ""
                verdict, detail = "duplicate content", f"the same as {original.path}{where}"
            elif finding.frames < min_frames:
                verdict, detail = "shorter than a clip", f"{finding.frames} frames"
            else:
                continue
            self._found[entry.path] = finding._replace(verdict=verdict, detail=detail)


def _examine(name: str, root: Path, decoder: Decoder, broken: str) -> tuple[State | None, Finding]:
    """The finding on a file, and its state then. broken: how the decoder ended on it, if it did."""
    state = state_of(root / name, decoder, RULES)
    found = examine_file(root / name, "pyav" if broken else decoder)
    if broken and VERDICTS[found.verdict].usable:
        detail = f"{decoder} does not survive it ({broken}): read through {found.decoder}"
        found = found._replace(verdict="codec", detail=detail)
    return state, found
