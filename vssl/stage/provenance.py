"""Where a result comes from: code, libraries, machine."""

import hashlib
import json
import platform
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import vssl
from vssl.files import digest, write_atomically

RUNS = "runs.json"
"""File of a stage's folder: the runs of a training, one after the other."""
UNKNOWN = "unknown"
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
        return UNKNOWN
    return commit + ("+changes" if changes else "")


@lru_cache(maxsize=1)
def code_digest() -> str:
    """What the code is, known to git or not: a hash of all files of vssl."""
    root = Path(vssl.__file__).parent
    files = sorted(root.rglob("*.py"))
    named = [f"{path.relative_to(root)} {digest(path)}" for path in files]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:12]


def note_run(folder: Path, continues: bool) -> list[dict[str, Any]]:
    """Note in a stage's folder that this process trains it now; return all runs that its weights come from.

    continues: the stage goes on from a checkpoint, and so from the runs that were noted before.
    """
    path = folder / RUNS
    try:
        before = json.loads(path.read_text()) if continues and path.exists() else []
    except ValueError:  # after a crash of the disk; training goes on, and `mixed_code` says what is not known
        before = [dict.fromkeys(("time", "git_commit", "code", "torch", "host"), UNKNOWN)]
    now = {"time": time.time(), "git_commit": git_commit(), "code": code_digest(), "torch": version("torch")}
    runs = [*before, {**now, "host": socket.gethostname()}]
    write_atomically(path, json.dumps(runs, indent=1))
    return runs


def mixed_code(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """What to say of a stage whose runs had different code; None if it was the same, or nothing is new."""
    if len(runs) < 2 or _code(runs[-2]) == _code(runs[-1]):
        return None
    before, now = (f"commit {run['git_commit']}, code {run['code']}" for run in runs[-2:])
    return (
        f"it was begun with other code ({before}) than goes on now ({now}): its weights are of neither alone"
    )


def _code(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(run[name] for name in ("git_commit", "code", "torch"))


def provenance(device: str) -> dict[str, object]:
    """Git commit, versions, host and device, as plain data."""
    return {
        "git_commit": git_commit(),
        "code": code_digest(),
        "vssl": vssl.__version__,
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
    }


def _version(library: str) -> str | None:
    """None where it is not installed: a decoder that nobody asks for must not cost a finished training."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
