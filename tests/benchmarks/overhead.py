"""What a stage takes beside its steps: before the first one, and from the last one to its result."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import ROOT, Options, Table, execute, median, spread

GOAL_S = 5.0
TINY = [
    "source.num_videos=16",
    "downstream.train.num_videos=16",
    "downstream.test.num_videos=8",
    "protocol.training={epochs: 1, batch_size: 8}",
    "runtime.device=cpu",
    "runtime.log_every_steps=1",
]
PRETRAINING = [
    "auxiliary.queue_size=20",
    *(f"{stage}.training={{epochs: 1, batch_size: 8}}" for stage in ("auxiliary", "pretext")),
]
ONE_STAGE = ["auxiliary=none", "pretext=none", "runtime.workers=0"]

Times = dict[str, list[float]]


def run(options: Options) -> Iterator[Table]:
    """Whole launches of the default pipeline with two steps per stage, with MLflow and without."""
    found: dict[str, Times] = {}
    with tempfile.TemporaryDirectory() as scratch:
        ways = ["tracking=jsonl"] if options.smallest else ["tracking=mlflow", "tracking=jsonl"]
        for way in ways:
            found[way] = {}
            for number in range(options.runs(3)):
                outputs = Path(scratch) / f"{way.partition('=')[2]}-{number}"
                stages = ONE_STAGE if options.smallest else PRETRAINING
                for what, seconds in launch(outputs, [*TINY, way, *roots(scratch), *stages]).items():
                    found[way].setdefault(what, []).append(seconds)
    rows: list[list[str | float]] = [
        [way, what, median(seconds), spread(seconds)]
        for way, times in found.items()
        for what, seconds in times.items()
    ]
    remarks = [
        "16 synthetic videos, two steps per stage, tiny backbone, default loader processes, on the CPU. "
        "The first launch draws the videos; in each the first optimiser makes torch import its compiler.",
        f"Goal: {GOAL_S:g} s from start to first step, and {GOAL_S:g} s from last step to result.",
    ]
    yield Table("Overhead of stages", ["launch", "what", "s", "runs"], rows, remarks, {"seconds": found})


def roots(folder: str) -> list[str]:
    """One copy of the synthetic videos for all launches."""
    return [f"{node}.root={folder}" for node in ("source", "downstream.train", "downstream.test")]


def launch(outputs: Path, overrides: list[str]) -> dict[str, float]:
    """Seconds of each part of one launch."""
    command = [sys.executable, str(ROOT / "launch.py"), f"outputs={outputs}", *overrides]
    began = time.time()
    execute(command)
    ended = time.time()
    stages = sorted((outputs / "stages").glob("*/*"), key=claimed)
    found = {"whole launch": ended - began, "command to first stage": claimed(stages[0]) - began}
    for stage in stages:
        found |= {f"{stage.parent.name}: {what}": s for what, s in parts(stage).items()}
    last = max(result(stage) for stage in stages)
    return {**found, "last result to prompt": ended - last}


def parts(stage: Path) -> dict[str, float]:
    """Seconds of one stage: until the end of its first step, and from that of its last step on."""
    steps = [json.loads(line)["time"] for line in (stage / "metrics.jsonl").read_text().splitlines()]
    if stage.parent.name == "test":
        return {"start to result": result(stage) - claimed(stage)}
    return {
        "start to first step": steps[0] - claimed(stage),
        "last step to result": result(stage) - steps[-1],
    }


def claimed(stage: Path) -> float:
    """When the stage began."""
    since: float = json.loads((stage / "owner.json").read_text())["since"]
    return since


def result(stage: Path) -> float:
    """When its result was written."""
    return (stage / "result.json").stat().st_mtime
