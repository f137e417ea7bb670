"""A stage as a file, for a process of its own: `outputs/jobs/<key>.json`."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vssl
from vssl import distributed
from vssl.dispatch.watch import StageLogger
from vssl.files import write_atomically
from vssl.pipeline import describe
from vssl.stage.build import build
from vssl.stage.provenance import git_commit
from vssl.stage.run import Context
from vssl.stage.spec import StageSpec, from_plain, to_plain
from vssl.stage.store import StageStore
from vssl.tracking.metrics import Launch, Tracker


def open_context(plain: Mapping[str, Any]) -> tuple[Context, Tracker]:
    """What stages run in, and the tracker of the launch, which is begun or joined.

    `plain` holds `outputs`, `launch` (fields of a `Launch`), and the nodes `runtime`, `tracking` and, if
    anything is to be looked at, `monitor`.
    """
    store = StageStore(Path(plain["outputs"]))
    tracker: Tracker = build(plain["tracking"], "tracking")
    context = Context(
        store=store,
        runtime=build(plain["runtime"], "runtime"),
        make_callback=lambda spec: watch(spec, store, tracker),
        say=print,
        plain=plain,
        monitoring=build(plain["monitor"], "monitor") if plain.get("monitor") else None,
    )
    if distributed.rank() == 0:  # last: after a mistake in the config, nobody would end the launch
        tracker.begin(Launch(**plain["launch"]))
    return context, tracker


def watch(spec: StageSpec, store: StageStore, tracker: Tracker) -> StageLogger:
    """The callback of a stage."""
    tags = {"git_commit": git_commit(), "host": socket.gethostname(), "what": describe(spec)}
    return StageLogger(spec, store.folder(spec), tracker, tags)


def write_job(spec: StageSpec, plain: Mapping[str, Any]) -> Path:
    """Write what a worker needs to run the stage; return the file."""
    path = Path(plain["outputs"]) / "jobs" / f"{spec.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": spec.key, "chain": to_plain(spec), "context": plain}))
    return path


def read_job(path: Path) -> tuple[StageSpec, dict[str, Any]]:
    """The stage of a job file, and the plain data of its context."""
    job = json.loads(path.read_text())
    spec = from_plain(job["chain"])
    assert spec.key == job["key"], f"{path}: the stage has another key here: {spec.key}"
    return spec, job["context"]


def worker_command(path: Path | str) -> list[str]:
    """The command that runs a job file."""
    return [sys.executable, "-m", "vssl.dispatch.worker", str(path)]


def python_path() -> str:
    """PYTHONPATH for workers: vssl as it is imported here comes first, installed or not."""
    root = str(Path(vssl.__file__).parent.parent)
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
