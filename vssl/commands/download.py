"""mode=download: fetch a public data set, unpack it, and say how to check it.

`python launch.py mode=download source=ucf101 download.out=DIR`
"""

import shlex
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vssl import options
from vssl.checks import check_folder, make_folder
from vssl.data import layouts
from vssl.data.addresses import Address, check_addresses, read_addresses
from vssl.data.fetch import Cancelled, Fetch, Patience, Watch, check_digest, part_of
from vssl.data.index import absolute
from vssl.data.journal import noted, noting, state_of
from vssl.data.lists import text_of
from vssl.data.unpack import Wanted, is_archive, rar_tool, unpack
from vssl.errors import OptionError, VsslError
from vssl.files import digest, owned, write_atomically
from vssl.pipeline import plain
from vssl.report.progress import Progress
from vssl.secrets import hidden
from vssl.stage.build import naming
from vssl.words import number

PLANNED = False
PATIENCE = Patience()

WORK = ".download"
"""Folder, below that of the data set, of what is being fetched and of the journal."""
DIGESTS = "sha256sums.txt"
SMALL_GB = 0.0001
"""Size of a list of addresses."""


def execute(cfg: DictConfig) -> None:
    """Fetch what is not there yet. The first file that cannot be had stops the others (`VsslError`)."""
    asked: options.Download = options.read(cfg, "download")
    node, name = plain(OmegaConf.select(cfg, "source.download")), str(cfg.source.get("name", "synthetic"))
    with naming("source"):
        check_addresses(node)
    if not node:
        remedy = "choose source=ucf101, hmdb51, kinetics400 or kinetics100"
        raise VsslError(f"mode=download: no addresses are known of {name}; {remedy}")
    if not asked.out:
        raise OptionError("download.out", asked.out, "no folder", "give the folder to write to")
    out = absolute(asked.out)
    check_folder("download.out", out)
    addresses = read_addresses(node, asked.url)
    size = number(sum(one.gb for one in addresses))
    print(f"{name}: about {size} GB into {out}", f"licence: {node['licence']}", sep="\n")
    print(f"{node['stated']}; not tried by the authors of vssl")
    rar_tool(address.name for address in addresses)
    make_folder("download.out", out)
    with owned(out / WORK, "downloading", "download.out"):
        downloads = Downloads(out, asked, name)
        downloads.run([one for one in addresses if not one.parts and not is_archive(one.name)])
        parts = [one for one in addresses if one.parts]
        downloads.run([replace(one, gb=SMALL_GB) for one in parts])
        rest = [one for one in addresses if not one.parts and is_archive(one.name)]
        rest += [part for one in parts for part in one.of_parts(text_of(downloads.place(one)))]
        if classes := plain(cfg.source.classes):  # a part of another data set
            downloads.is_wanted = layouts.chosen(cfg.source.layout, out, classes)
        downloads.run(rest)
    root = shlex.quote(f"roots.{name}={out}")
    print(f"check it: python launch.py mode=check source={name} downstream={name} {root}")


class Downloads(Watch):
    """Files on their way into a folder. Those that the journal has as done are not fetched again."""

    def __init__(self, out: Path, asked: options.Download, name: str) -> None:
        self.out, self.asked, self.name = out, asked, name
        self.is_wanted: Wanted | None = None
        self._journal = out / WORK / "journal.jsonl"
        self._done = {key: outcome for key, _, outcome in noted(self._journal)}
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._bytes = self._breaks = self._unpacking = 0

    def place(self, address: Address) -> Path:
        """Where a file lies once it is here; what is read only once lies with the journal."""
        is_kept = not address.parts and not is_archive(address.name)
        return (self.out if is_kept else self.out / WORK) / address.key

    def run(self, addresses: Sequence[Address]) -> None:
        """Fetch and unpack, several at once."""
        left = [one for one in addresses if not self._is_done(one)]
        if not left:
            return
        self._check_space(left)
        parts = [part_of(self.place(one)) for one in left]
        self._bytes = sum(part.stat().st_size for part in parts if part.exists())
        total, done = round(sum(one.gb for one in left) * 1e3), round(self._bytes / 1e6)
        with (
            noting(self._journal) as self._note,
            Progress(f"download {self.name}", total, "MB", done) as self._progress,
            ThreadPoolExecutor(self.asked.parallel) as threads,
        ):
            try:
                futures = [threads.submit(self._one, address) for address in left]
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                self._stopping.set()
                threads.shutdown(cancel_futures=True)
        errors = [error for one in futures if not one.cancelled() and (error := one.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error
        self._stopping.clear()
        lines = [f"{outcome['sha256']}  {key}\n" for key, outcome in sorted(self._done.items())]
        write_atomically(self.out / DIGESTS, "".join(lines))

    def _is_done(self, address: Address) -> bool:
        if address.key not in self._done:
            return False
        if is_archive(address.name):
            self._tidy(address)  # a kill may have come before
            return True
        return self.place(address).is_file()

    def _one(self, address: Address) -> None:
        path = self.place(address)
        if path.exists():
            check_digest(address, path)
        else:
            Fetch(address, path, PATIENCE, self, self._stopping).run()
        outcome = {"url": hidden(address.url), "bytes": path.stat().st_size, "sha256": digest(path)}
        if self._stopping.is_set():
            raise Cancelled
        if is_archive(address.name):
            self._count_unpacking(1)
            unpack(path, self.out / address.into, self.is_wanted)
            self._count_unpacking(-1)
        with self._lock:
            self._note(address.key, state_of(path) or [], outcome)
            self._done[address.key] = outcome
        self._tidy(address)

    def _tidy(self, address: Address) -> None:
        if is_archive(address.name) and not self.asked.keep:
            self.place(address).unlink(missing_ok=True)

    def came(self, num_bytes: int) -> None:
        with self._lock:
            self._bytes += num_bytes
            self._progress.advance(round(self._bytes / 1e6) - self._progress.done)

    def grew(self, num_bytes: int) -> None:
        with self._lock:
            self._progress.total = max(1, self._progress.total + round(num_bytes / 1e6))

    def broke(self) -> None:
        with self._lock:
            self._breaks += 1
            self._progress.advance(0, breaks=self._breaks)

    def _count_unpacking(self, more: int) -> None:
        with self._lock:
            self._unpacking += more
            self._progress.advance(0, unpacking=self._unpacking)

    def _check_space(self, left: Sequence[Address]) -> None:
        """Refuse to begin what cannot end; what a part of the classes needs is not known before."""
        archives = sorted((one.gb for one in left if is_archive(one.name)), reverse=True)
        inside = 0.0 if self.is_wanted else sum(archives)
        others = sum(one.gb for one in left) - sum(archives)
        need = others + inside + sum(archives if self.asked.keep else archives[: self.asked.parallel])
        need -= sum(path.stat().st_size for path in (self.out / WORK).rglob("*") if path.is_file()) / 1e9
        free = shutil.disk_usage(self.out).free / 1e9
        if free < need:
            problem = f"{number(free)} GB are free, {number(need)} GB are needed"
            raise OptionError("download.out", self.out, problem, "free some space, or choose another disk")
