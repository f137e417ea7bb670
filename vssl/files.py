"""Writing files so that a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside, flush to disk, then rename over `path`."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def digest(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write into `folder`."""
    for beside in folder.glob(".*.[0-9]*"):
        beside.unlink(missing_ok=True)
