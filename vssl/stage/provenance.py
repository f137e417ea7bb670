"""Where a result comes from: code, libraries, machine."""

from __future__ import annotations

import platform
import socket
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import vssl

LIBRARIES = ("torch", "torchvision", "numpy", "decord", "av", "hydra-core")


@lru_cache(maxsize=1)
def git_commit() -> str:
    """Commit of the checkout that runs, with `+changes` if files differ from it; `unknown` outside git, and
    where git does not answer. Asked once per process."""
    root = Path(vssl.__file__).parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def provenance(device: str) -> dict[str, object]:
    """Git commit, versions, host and device, as plain data."""
    return {
        "git_commit": git_commit(),
        "vssl": vssl.__version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
    }


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
