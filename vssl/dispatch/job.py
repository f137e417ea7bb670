"""A stage as a file, for a process of its own: `outputs/jobs/<key>.json`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vssl
from vssl.files import write_atomically
from vssl.stage.spec import StageSpec


def write_job(spec: StageSpec, plain: Mapping[str, Any]) -> Path:
    """Write what a worker needs to run the stage; return the file."""
    path = Path(plain["outputs"]) / "jobs" / f"{spec.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    chain = [
        {"spec": one.to_plain(), "paths": dict(one.paths), "options": dict(one.options)} for one in spec.chain
    ]
    write_atomically(path, json.dumps({"chain": chain, "context": plain}))
    return path


def read_job(path: Path) -> tuple[StageSpec, dict[str, Any]]:
    """The stage of a job file, and the plain data of its context."""
    job = json.loads(path.read_text())
    spec: StageSpec | None = None
    for one in job["chain"]:
        spec = StageSpec.from_plain(one["spec"], spec, paths=one["paths"], options=one["options"])
        assert spec.key == one["spec"]["key"], f"{path}: the stage has another key here: {spec.key}"
    assert spec is not None, "a chain has at least one stage"
    return spec, job["context"]


def worker_command(path: Path | str) -> list[str]:
    """The command that runs a job file."""
    return [sys.executable, "-m", "vssl.worker", str(path)]


def python_path() -> str:
    """PYTHONPATH for workers: vssl as it is imported here comes first, installed or not."""
    root = str(Path(vssl.__file__).parent.parent)
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
