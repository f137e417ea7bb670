"""All that a GPU has to show, in one go: its tests, its benchmarks, and the claim sweep on real motion.

python tests/gpu/day.py [--minutes 25] [--videos DIR] [--smallest] [WORD ...]

Parts have limits of their own, and what ended is not done again: start it again after any break. The results
are in outputs/gpu-day: `report.md` for BENCHMARKS.md, the logs, and the stages of the sweep. `--videos`: a
folder of class folders of real motion, its lists beside it as `lists01`; without it the sweep is left out.
Words are for the sweep, such as claim.flip=0. `--smallest` tries it all on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "outputs/gpu-day"
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.measuring import kept, markdown  # noqa: E402

BENCHMARKS = {"training": 5.0, "loader": 2.0, "step": 5.0, "augmentation": 2.0}
"""Their limits in minutes; `step` says how many cores keep the GPU busy, by the rates of `loader`."""

TESTS_MIN, CHECK_MIN, SWEEP_MIN, TABLE_MIN = 10.0, 3.0, 60.0, 2.0
GRACE_S = 60.0
"""For stages to save their state."""

INTERRUPTED, NOT_STARTED = "interrupted", "not started"


@dataclass(frozen=True)
class Part:
    """A command, for how many minutes it may run, and its environment."""

    name: str
    command: list[str]
    minutes: float
    variables: dict[str, str]


def parts(videos: Path | None, smallest: bool, words: list[str]) -> list[Part]:
    """All parts, in their order."""
    device = "cpu" if smallest else "cuda"
    some = ["-k", "linear and not compiling"] if smallest else []
    tests = ["-m", "pytest", "-m", "gpu", "-rfEs", "-n", "4", "--dist", "loadgroup", "tests/gpu", *some]
    found = [Part("tests", [sys.executable, *tests], TESTS_MIN, {"VSSL_TEST_DEVICE": device})]
    least = ["--smallest"] if smallest else []
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if smallest else {}
    for name, minutes in BENCHMARKS.items():
        found.append(Part(name, [sys.executable, "tests/benchmarks", name, *least], minutes, hidden))
    if videos or smallest:
        command = [sys.executable, "launch.py", *sweep(videos, smallest), *words]
        modes = {"sweep": [], "table": ["mode=report", f"export.out={FOLDER}"]}
        if videos:  # drawn ones need no check
            modes = {"check": ["mode=check"], **modes}
        limits = {"check": CHECK_MIN, "sweep": SWEEP_MIN, "table": TABLE_MIN}
        found += [Part(name, [*command, *mode], limits[name], hidden) for name, mode in modes.items()]
    return found


def sweep(videos: Path | None, smallest: bool) -> list[str]:
    """The claim sweep by the published backbone, as fast as a GPU does it without compiling; a rehearsal
    if it is to be small. Without videos it is of drawn ones."""
    words = ["+sweeps=claim", f"outputs={FOLDER}/sweep", "tracking=jsonl"]
    for node in ("source", "downstream") if videos else ():
        words += [f"{node}=folder", f"{node}.root={videos}", f"{node}.lists={videos.parent / 'lists01'}"]
    if smallest:
        return [*words, "experiment=quick", "seed=0"]
    return [*words, "backbone=r2plus1d_10", "precision=bfloat16", "runtime.channels_last=true"]


def run(part: Part, minutes: float) -> str:
    """Run a part for so many minutes at most; say how it ended."""
    log = FOLDER / f"{part.name}.log"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, and by all parts
    with log.open("w") as file:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env={**os.environ, **part.variables},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            end(process)
            return f"stopped after {60 * minutes:.0f} s"
        except KeyboardInterrupt:  # of this process alone: the part has a session of its own
            end(process)
            return INTERRUPTED
    return "done" if code == 0 else f"failed, see {log.relative_to(ROOT)}"


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a part: tests and benchmarks end then, and keep their tables. Ctrl-C meanwhile kills it."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)


def report(said: dict[str, str], smallest: bool) -> Path:
    """Everything that was found, as Markdown."""
    lines = ["# A day on a GPU", "", *["**A rehearsal: these numbers mean nothing.**", ""] * smallest]
    lines += [*(f"- {name}: {how}" for name, how in said.items()), ""]
    tests = FOLDER / "tests.log"
    if tests.exists():
        *before, last = tests.read_text().splitlines() or [""]
        told = [line for line in before if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
        lines += ["### Tests", "", *(f"    {line}" for line in [*told, last]), ""]
    lines += [markdown(*found) for name in ("differences", *BENCHMARKS) if (found := kept(name, smallest))]
    table = FOLDER / "claim/table.md"
    if table.exists():
        results = table.read_text().partition("\n## Rows")[0]  # below, what every number rests on
        lines += [f"##{line}" if line.startswith("#") else line for line in results.splitlines()]
        lines += ["", f"What every number rests on: {table.relative_to(ROOT)}"]
    path = FOLDER / "report.md"
    path.write_text("\n".join(lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=25.0, help="for all parts together (default 25)")
    parser.add_argument("--videos", type=Path, help="folder of labelled videos for the sweep")
    parser.add_argument("--smallest", action="store_true", help="see that it runs, on a CPU")
    parser.add_argument("words", nargs="*", help="overrides for the sweep")
    asked = parser.parse_args()
    for folder in [asked.videos, asked.videos.resolve().parent / "lists01"] if asked.videos else []:
        if not folder.is_dir():
            parser.error(
                f"--videos={asked.videos}: {folder} is no folder; give class folders with lists01 beside"
            )
    if asked.smallest:  # what a rehearsal has done is not done
        globals()["FOLDER"] = FOLDER / "smallest"
    FOLDER.mkdir(parents=True, exist_ok=True)
    state = FOLDER / "state.json"
    said: dict[str, str] = json.loads(state.read_text()) if state.exists() else {}
    until = time.monotonic() + 60 * asked.minutes
    for part in parts(asked.videos and asked.videos.resolve(), asked.smallest, asked.words):
        left = (until - time.monotonic()) / 60 - (TABLE_MIN if part.name == "sweep" else 0)
        if said.get(part.name) == "done" and part.name != "table":
            print(f"{part.name}: done before", flush=True)
            continue
        if left <= 0:
            said.setdefault(part.name, NOT_STARTED)
            continue
        print(f"{part.name}: {min(left, part.minutes):.1f} min at most", flush=True)
        said[part.name] = run(part, min(left, part.minutes))
        print(f"{part.name}: {said[part.name]}", flush=True)
        state.write_text(json.dumps(said, indent=1))
        report(said, asked.smallest)
        if said[part.name] == INTERRUPTED:
            until = -float("inf")
    print(f"report: {report(said, asked.smallest)}", flush=True)
    if not all(how == "done" for how in said.values()):
        print("started again, it goes on with what is not done", flush=True)
    sys.exit(any(how.startswith(("failed", INTERRUPTED)) for how in said.values()))


if __name__ == "__main__":
    main()
