"""How long the commands take that train nothing: help, config, plan, status."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fake_clips import stages
from benchmarks.measuring import Options, Table, execute, in_turns, median, spread
from vssl.result import Cost, StageResult
from vssl.stage.construct import Stage
from vssl.stage.store import StageStore

POINTS = 1000
SEEDS = POINTS // 4
"""A point of the default pipeline has four stages: auxiliary, pretext, fine-tuning, test."""

DONE = 8
"""Seeds whose stages are planted as done, and as failed."""


def run(options: Options) -> Iterator[Table]:
    """Wall time of whole commands, as a person waits for them."""
    with tempfile.TemporaryDirectory() as scratch:
        plant(Path(scratch), 1 if options.smallest else DONE)
        once = commands(Path(scratch), 1.5)
        many = {} if options.smallest else large(Path(scratch))
        if options.smallest:
            once = {"mode=plan": once["mode=plan"]}
        seconds = in_turns(works(once), options.runs(5)) | in_turns(works(many), options.runs(3))
    floor = median(next(iter(seconds.values())))
    goals = {name: goal for name, (_, goal) in (once | many).items()}
    rows: list[list[str | float]] = [
        [name, median(took), spread(took), median(took) / floor, f"{goals[name]:g} s" if goals[name] else "-"]
        for name, took in seconds.items()
    ]
    columns = ["command", "s", "runs", "x first", "goal"]
    yield Table("Commands that train nothing", columns, rows, [], {"seconds": seconds})


def commands(outputs: Path, goal: float) -> dict[str, tuple[list[str], float]]:
    """Commands of one point, with their goals in seconds (0: none)."""
    launch = [sys.executable, "launch.py"]
    to = f"outputs={outputs}"
    return {
        "python -c 'import hydra'": ([sys.executable, "-c", "import hydra"], 0.0),
        "--help": ([*launch, "--help"], goal),
        "--cfg job": ([*launch, "--cfg", "job"], goal),
        "mode=plan": ([*launch, to, "mode=plan"], 5.0),  # imports torch, as it constructs all
        "mode=status": ([*launch, to, "mode=status"], goal),
    }


def large(outputs: Path) -> dict[str, tuple[list[str], float]]:
    """Sweeps of a thousand points, and of a thousand stages."""
    launch = [sys.executable, "launch.py", "-m", f"outputs={outputs}"]
    return {
        f"mode=plan, {POINTS:,} points": ([*launch, "mode=plan", f"seed=range({POINTS})"], 20.0),
        f"mode=status, {4 * SEEDS:,} stages": ([*launch, "mode=status", f"seed=range({SEEDS})"], 3.0),
    }


def works(chosen: dict[str, tuple[list[str], float]]) -> dict[str, Callable[[], object]]:
    def work(command: list[str]) -> Callable[[], object]:
        return lambda: execute(command)

    return {name: work(command) for name, (command, _) in chosen.items()}


def plant(outputs: Path, seeds: int) -> None:
    """Folders of stages that never ran: done for the first seeds, failed for as many more."""
    store = StageStore(outputs)
    for seed in range(2 * seeds):
        for spec in stages(f"seed={seed}").values():
            with store.claim(spec):
                if seed < seeds:
                    cost = Cost(seconds=3600.0, gpus=1, clips=Stage(spec).clips)
                    store.finish(spec, StageResult({}, {}, cost, {"device": "cuda"}))
                else:
                    store.fail(spec, "planted")
