"""Archives: zip and tar by the standard library, rar by a tool of the system."""

import errno
import lzma
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from vssl.errors import VsslError, first_line

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
RAR_TOOLS = {
    "unar": ["unar", "-q", "-f", "-D", "-o", "{folder}", "{archive}"],
    "unrar": ["unrar", "x", "-o+", "-idq", "-p-", "{archive}", "{folder}/"],
    "bsdtar": ["bsdtar", "-x", "-f", "{archive}", "-C", "{folder}"],
    "7zz": ["7zz", "x", "-y", "-bd", "-o{folder}", "{archive}"],
}
"""Programs that unpack rar, best first, and how they are called."""

INSTALL = "apt-get install unar, brew install unar, or without root conda install -c conda-forge libarchive"

Wanted = Callable[[str], bool]
"""Whether a member of an archive is wanted, by its path."""


def is_archive(name: str) -> bool:
    """Whether a file is to be unpacked, by its ending."""
    return name.lower().endswith((".zip", ".rar", *TAR))


def rar_tool(names: Iterable[str]) -> str | None:
    """The program that unpacks rar, if one of the files is one; raises `VsslError` if none is installed."""
    needing = next((name for name in names if name.lower().endswith(".rar")), None)
    if needing is None:
        return None
    for tool in RAR_TOOLS:
        if shutil.which(tool):
            return tool
    raise VsslError(f"{needing}: needs a program for rar, one of {', '.join(RAR_TOOLS)}; {INSTALL}")


def unpack(archive: Path, folder: Path, is_wanted: Wanted | None = None) -> None:
    """Write what an archive holds, and archives inside it hold, below a folder; over what is there.

    is_wanted: chooses members of a tar or zip. Raises `VsslError` for a damaged archive.
    """
    _check_begin(archive)
    folder.mkdir(parents=True, exist_ok=True)
    name = archive.name.lower()
    try:
        if name.endswith(".rar"):
            _unrar_all(archive, folder)
        elif name.endswith(".zip"):
            _unzip(archive, folder, is_wanted)
        else:
            _untar(archive, folder, is_wanted)
    except (OSError, *DAMAGED) as error:
        if isinstance(error, OSError) and error.errno not in OF_CONTENT:
            raise
        remedy = "delete it and run again"
        raise VsslError(f"{archive}: not a whole archive ({first_line(error)}); {remedy}") from error


DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # a password, (NotImplementedError) a compression that is not known, a program for rar
)
OF_CONTENT = (None, errno.EINVAL)
"""`OSError`s that a damaged archive causes (gzip, bzip2, the end of a zip); others are the disk's."""


def _check_begin(archive: Path) -> None:
    """A server that has something to say sends a page instead."""
    with archive.open("rb") as file:
        begin = file.read(60).decode("ascii", "replace")
    if begin.lstrip().startswith("<"):
        shown = " ".join(begin.split())
        remedy = "delete it and say another address"
        raise VsslError(f"{archive}: no archive but a page of the server ({shown}); {remedy}")


def _unzip(archive: Path, folder: Path, is_wanted: Wanted | None) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.namelist():
            if is_wanted is None or is_wanted(member):
                file.extract(member, folder)


def _untar(archive: Path, folder: Path, is_wanted: Wanted | None) -> None:
    with tarfile.open(archive) as file:
        for member in file:
            if is_wanted is None or is_wanted(member.name):
                file.extract(member, folder, filter="data")


def _unrar_all(archive: Path, folder: Path) -> None:
    """In a folder of its own first, where the archives in it are found."""
    own = archive.with_name(f"{archive.name}.unpacked")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    _unrar(archive, own)
    for inner in sorted(own.rglob("*.rar")):
        _unrar(inner, inner.parent)
        inner.unlink()
    for path in sorted(own.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(own)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    shutil.rmtree(own)


def _unrar(archive: Path, folder: Path) -> None:
    tool = rar_tool([archive.name])
    assert tool is not None
    words = [word.format(archive=archive, folder=folder) for word in RAR_TOOLS[tool]]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())[:200]
        raise RuntimeError(f"{tool} says: {said or done.returncode}")
