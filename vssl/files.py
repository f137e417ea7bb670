"""Writing files so that a kill at any moment leaves the old file or the new one."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vssl.errors import VsslError


def write_atomically(path: Path, content: str | bytes, private: bool = False) -> None:
    """Write beside, flush to disk, then rename over `path`. What is private only its owner may read."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        mode = 0o600 if private else 0o666
        with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock on a file; not for the process that does, which would lose it."""
    try:
        with open(path) as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # no such file, or no locks on its file system
        return False
    return False


@contextmanager
def owned(folder: Path, doing: str) -> Iterator[None]:
    """Own a folder while the block runs; raises `VsslError` if another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".claim", "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise VsslError(f"{folder}: another process is {doing} there; wait for it") from error
        yield


def digest(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write into `folder`."""
    for beside in folder.glob(".*.[0-9]*"):
        beside.unlink(missing_ok=True)
