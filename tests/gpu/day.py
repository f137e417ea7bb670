"""All that a GPU has to show, in one go: its tests, its benchmarks, and the claim sweep on real motion.

python tests/gpu/day.py [--minutes 25] [--videos DIR] [--smallest] [WORD ...]

Parts have limits of their own, and what is done is not done again: start it again after any break. Tests
and benchmarks that were stopped begin anew, after those that were not. The results are in outputs/gpu-day:
`report.md` for BENCHMARKS.md, the logs, and the stages of the sweep. `--videos`: a folder of class folders of
real motion, its lists beside it as `lists01`; without it the sweep is left out. Words are for the sweep, such
as claim.flip=0. `--smallest` tries it all on a CPU, the sweep on drawn videos.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "outputs/gpu-day"
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.measuring import kept, kept_since, markdown  # noqa: E402
from vssl import stop  # noqa: E402
from vssl.files import write_atomically  # noqa: E402
from vssl.stage.provenance import git_commit  # noqa: E402

BENCHMARKS = {"training": 5.0, "loader": 2.0, "step": 5.0, "augmentation": 2.0}
"""Their limits in minutes; `step` says how many cores keep the GPU busy, by the rates of `loader`."""

TESTS_MIN, CHECK_MIN, PLAN_MIN, SWEEP_MIN, TABLE_MIN = 10.0, 3.0, 1.0, 60.0, 2.0
DAY_MIN = 25.0
"""In a longer day, limits grow in proportion: a slow GPU needs `--minutes 60`."""
LEAST_MIN = 0.5
"""With less time left nothing is started that takes longer."""
GRACE_S = 60.0
"""For a part that is stopped to save its state; part of the day."""
ASKED_FIRST = ("check", "plan")
"""Where these fail, the videos or the words of the sweep are wrong: nothing else is started."""
SEEDS = 3
"""So many times the rows are compared by a linear classifier, seed by seed, before all that the sweep has."""

DONE, STOPPED, INTERRUPTED, NOT_STARTED = "done", "stopped", "interrupted", "not started"


@dataclass(frozen=True)
class Part:
    """A command, for how many minutes it may run, and its environment."""

    name: str
    command: list[str]
    minutes: float
    variables: dict[str, str]


@dataclass(frozen=True)
class Try:
    """How the last try of a part ended, of which command and commit, when it began, and on which GPU."""

    how: str
    command: list[str]
    commit: str
    began: float
    gpu: str = ""

    def is_of(self, part: Part, gpu: str) -> bool:
        """Whether it still stands for the part: the same command on the same GPU."""
        return (self.command, self.gpu) == (part.command, gpu)


def parts(videos: Path | None, smallest: bool, words: list[str]) -> list[Part]:
    """All parts, in their order."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if smallest else {}
    found: list[Part] = []

    def launch(name: str, minutes: float, rehearses: bool, *more: str) -> None:
        command = [sys.executable, "launch.py", *sweep(videos, smallest, rehearses), *words, *more]
        found.append(Part(name, command, minutes, hidden))

    if videos:  # drawn ones need no check
        launch("check", CHECK_MIN, False, "mode=check")
        launch("plan", PLAN_MIN, False, "mode=plan")
    device = "cpu" if smallest else "cuda"
    some = ["-k", "linear and not compiling"] if smallest else []
    tests = ["-m", "pytest", "-m", "gpu", "-rfEs", "-n", "auto", "--dist", "loadgroup", "tests/gpu", *some]
    found.append(Part("tests", [sys.executable, *tests], TESTS_MIN, {"VSSL_TEST_DEVICE": device}))
    least = ["--smallest"] if smallest else []
    for name, minutes in BENCHMARKS.items():
        found.append(Part(name, [sys.executable, "tests/benchmarks", name, *least], minutes, hidden))
    if videos or smallest:
        for seed in range(1 if smallest else SEEDS):
            launch(f"linear-{seed}", SWEEP_MIN, smallest, "only=[linear]", f"seed={seed}")
        launch("sweep", SWEEP_MIN, smallest)
        launch("table", TABLE_MIN, smallest, "mode=report", f"export.out={FOLDER}")
    return found


def sweep(videos: Path | None, smallest: bool, rehearses: bool) -> list[str]:
    """The claim sweep by the published backbone, as fast as a GPU does it without compiling; `rehearses`: a
    tiny one instead, on drawn videos."""
    words = ["+sweeps=claim", f"outputs={FOLDER}/sweep", "tracking=jsonl"]
    for node in ("source", "downstream") if videos else ():
        words += [f"{node}=folder", f"{node}.root={videos}", f"{node}.lists={videos.parent / 'lists01'}"]
    if rehearses:
        return [*words, "experiment=quick", "seed=0"]
    words += ["backbone=r2plus1d_10", "runtime.channels_last=true"]
    return words if smallest else [*words, "precision=bfloat16"]  # which is for GPUs


def gpu_name() -> str:
    """The GPU that torch sees, nothing without one. Asked in another process: this one takes none of it."""
    asking = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    done = subprocess.run([sys.executable, "-c", asking], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def run(part: Part, minutes: float) -> str:
    """Run a part for so many minutes at most; say how it ended."""
    log = FOLDER / f"{part.name}.log"
    process = None
    with log.open("w") as file:
        try:
            with stop.undivided():
                process = subprocess.Popen(
                    part.command,
                    cwd=ROOT,
                    env={**os.environ, **part.variables},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=partial(_end_with, os.getpid()),  # noqa: PLW1509 (there are no other threads here)
                )
            code = process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            end(process)
            return f"{STOPPED} after {60 * minutes:.0f} s"
        except KeyboardInterrupt:  # of this process alone: the part has a session of its own
            if process:
                end(process)
            return INTERRUPTED
    return DONE if code == 0 else f"failed, see {log.relative_to(ROOT)}"


def _end_with(parent: int) -> None:
    """Have this process interrupted when the one that started it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # killed already
            os._exit(1)


@contextmanager
def alone() -> Iterator[None]:
    """Two days at once would measure each other."""
    with (FOLDER / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{FOLDER}: another gpu-day is running there; wait for it, or end it")
        yield


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a part: tests and benchmarks end then, and keep their tables. Ctrl-C meanwhile kills it."""
    with suppress(ProcessLookupError):  # it has just ended
        try:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGKILL)


def report(tries: dict[str, Try], smallest: bool) -> Path:
    """Everything that was found, as Markdown."""
    lines = ["# A day on a GPU", "", *["**A rehearsal: these numbers mean nothing.**", ""] * smallest]
    lines += [*(f"- {name}: {told(last)}" for name, last in tries.items()), ""]
    tests = FOLDER / "tests.log"
    if tests.exists():
        *before, last = tests.read_text().splitlines() or [""]
        named = [line for line in before if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
        lines += ["### Tests", "", *(f"    {line}" for line in [*named, last]), ""]
    for name in ("differences", *BENCHMARKS):
        if found := kept(name, smallest):
            lines.append(markdown(*found))
            last = tries.get("tests" if name == "differences" else name)
            if last and not kept_since(last.began, name, smallest):
                lines += ["- **From an earlier try: the last one did not come as far.**", ""]
    table = FOLDER / "claim/table.md"
    if table.exists():
        results = table.read_text().partition("\n## Rows")[0]  # below, what every number rests on
        lines += [f"##{line}" if line.startswith("#") else line for line in results.splitlines()]
        lines += ["", f"What every number rests on: {table.relative_to(ROOT)}"]
    path = FOLDER / "report.md"
    path.write_text("\n".join(lines))
    return path


def told(last: Try) -> str:
    """How a part ended, for people."""
    return last.how if last.how == NOT_STARTED else f"{last.how} (commit {last.commit[:8]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=DAY_MIN, help="for all parts together")
    parser.add_argument("--videos", type=Path, help="folder of labelled videos for the sweep")
    parser.add_argument("--smallest", action="store_true", help="see that it runs, on a CPU")
    parser.add_argument("words", nargs="*", help="overrides for the sweep")
    asked = parser.parse_args()
    for folder in [asked.videos, asked.videos.resolve().parent / "lists01"] if asked.videos else []:
        if not folder.is_dir():
            parser.error(
                f"--videos={asked.videos}: {folder} is no folder; give class folders with lists01 beside"
            )
    gpu = "" if asked.smallest else gpu_name()
    if not (asked.smallest or gpu):
        print("skipped: no GPU is visible to torch; DEVICE=cpu (--smallest) only shows that it runs")
        return
    if asked.smallest:  # what a rehearsal has done is not done
        globals()["FOLDER"] = FOLDER / "smallest"
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = parts(asked.videos and asked.videos.resolve(), asked.smallest, asked.words)
    with alone():
        try:
            tries = spend(asked.minutes, found, gpu)
        except KeyboardInterrupt:
            sys.exit(f"{INTERRUPTED} between two parts; started again, it goes on")
        print(f"report: {report(tries, asked.smallest)}", flush=True)
    if not all(last.how == DONE for last in tries.values()):
        print("started again, it goes on with what is not done", flush=True)
    sys.exit(any(last.how.startswith(("failed", INTERRUPTED)) for last in tries.values()))


def spend(minutes: float, found: list[Part], gpu: str) -> dict[str, Try]:
    """Run what is not done on this GPU (none: a rehearsal), for so many minutes; how the last try of each
    part ended."""
    state = FOLDER / "tries.json"
    before = json.loads(state.read_text()) if state.exists() else {}
    tries = {name: Try(**last) for name, last in before.items()}
    for part in found:
        if part.name not in tries or not tries[part.name].is_of(part, gpu):
            tries[part.name] = Try(NOT_STARTED, part.command, git_commit(), 0.0, gpu)

    def keep(part: Part, how: str, began: float) -> None:
        tries[part.name] = Try(how, part.command, git_commit(), began, gpu)
        write_atomically(state, json.dumps({name: asdict(last) for name, last in tries.items()}, indent=1))

    for asking in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asking, signal.default_int_handler)  # ignored in the background, and by all parts
    until = time.monotonic() + 60 * minutes - GRACE_S
    longer = max(1.0, minutes / DAY_MIN)
    for part in in_turn(found, tries):
        if tries[part.name].how == DONE and part.name != "table":
            print(f"{part.name}: done before", flush=True)
            continue
        sweeps = part.minutes == SWEEP_MIN
        left = min((until - time.monotonic()) / 60 - TABLE_MIN * sweeps, part.minutes * longer)
        if left < min(LEAST_MIN, part.minutes):
            continue
        print(f"{part.name}: {left:.1f} min at most", flush=True)
        began = time.time()
        keep(part, f"{STOPPED} with the day", began)
        keep(part, run(part, left), began)
        how = tries[part.name].how
        print(f"{part.name}: {how}", flush=True)
        report(tries, not gpu)
        if how.startswith("failed") and part.name in ASKED_FIRST:
            print((FOLDER / f"{part.name}.log").read_text().strip().rpartition("\n")[2], flush=True)
            break
        if how == INTERRUPTED:
            break
    return tries


def in_turn(found: list[Part], tries: dict[str, Try]) -> list[Part]:
    """The parts in their order; of tests and benchmarks those last that were stopped, as they begin anew."""
    places = [place for place, part in enumerate(found) if part.name in ("tests", *BENCHMARKS)]
    measuring = [found[place] for place in places]
    measuring.sort(key=lambda part: tries[part.name].how.startswith(STOPPED))
    ordered = list(found)
    for place, part in zip(places, measuring, strict=True):
        ordered[place] = part
    return ordered


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # a full disk, a folder that may not be written
        sys.exit(f"{error.filename or FOLDER}: {error.strerror}; give {FOLDER} room, then start it again")
