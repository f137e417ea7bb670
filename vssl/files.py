"""Writing files so that a kill at any moment leaves the old file or the new one."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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


def take(lock: IO[str], option: str) -> bool:
    """Take the lock of an open file, until it is closed or this process ends; False if another one has it.

    It is a POSIX record lock: the kernel drops it when its owner dies, so a dead owner's claim is simply
    free. Raises `VsslError` where there are none; `option` says where else to write.
    """
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise VsslError(
            f"{Path(lock.name).parent}: its file system has no POSIX locks ({why}), "
            f"which keep two launches from working on the same; say {option}=DIR on one that has"
        ) from error
    return True


@contextmanager
def owned(folder: Path, doing: str, option: str) -> Iterator[None]:
    """Own a folder while the block runs; raises `VsslError` if another process does.

    option: which says where the folder is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".claim", "a") as file:
        if not take(file, option):
            raise VsslError(f"{folder}: another process is {doing} there; wait for it")
        yield


def digest(path: Path, kind: str = "sha256") -> str:
    """Hash of a file's content, however large it is."""
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write into `folder`."""
    for beside in folder.glob(".*.[0-9]*"):
        beside.unlink(missing_ok=True)
