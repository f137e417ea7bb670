"""What all benchmarks share: fair turns, the machine in words, tables for readers and for programs."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from vssl.cores import usable_cores
from vssl.errors import first_line
from vssl.files import write_atomically
from vssl.stage.provenance import git_commit

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "outputs/bench"
LIBRARIES = ("torch", "torchvision", "numpy", "av", "decord", "pillow", "opencv-python-headless")


@dataclass(frozen=True)
class Options:
    """`smallest`: just enough to see that it runs. `videos`: a folder of them for the loader, else drawn."""

    smallest: bool = False
    videos: Path | None = None

    def runs(self, number: int) -> int:
        """How often to measure."""
        return 1 if self.smallest else number


@dataclass(frozen=True)
class Table:
    """What a benchmark has found: a table, remarks below it, and all that was measured, by name."""

    title: str
    columns: list[str]
    rows: list[list[str | float]]
    remarks: list[str] = field(default_factory=list)
    measured: Mapping[str, object] = field(default_factory=dict)


def device() -> torch.device:
    """The GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Wait for the GPU, so that a clock can be read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def wall(work: Callable[[], object]) -> float:
    """Seconds that `work` takes, on whatever device."""
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began


def processor(work: Callable[[], object]) -> float:
    """Seconds of processor time that `work` takes in this process: other programs disturb it little."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(
    candidates: Mapping[str, Callable[[], object]],
    runs: int,
    clock: Callable[[Callable[[], object]], float] = wall,
) -> dict[str, list[float]]:
    """Seconds of each candidate in each run, side by side: what disturbs one run disturbs all of them. One
    more run comes before, to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in range(runs + 1):
        for name, work in candidates.items():
            took = clock(work)
            if run:
                seconds[name].append(took)
    return seconds


def median(values: list[float]) -> float:
    """The middle of several runs."""
    return statistics.median(values)


def spread(values: list[float], scale: float = 1.0) -> str:
    """Smallest and largest of several runs."""
    return f"{_short(scale * min(values))} to {_short(scale * max(values))}"


@contextmanager
def unless_impossible(what: str, remarks: list[str]) -> Iterator[None]:
    """What this machine cannot do (too small a GPU, no compiler) becomes a remark; others are measured."""
    try:
        yield
    except RuntimeError as error:  # all that torch and its compiler raise
        remarks.append(f"{what}: not measured ({first_line(error)})")
    torch.compiler.reset()
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()  # of what has failed


def execute(command: list[str]) -> None:
    """Run a command in the repository's root; if it fails, raise what it said."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def environment() -> dict[str, object]:
    """Machine, versions and date of a measurement."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": _processor_name(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gpu_gib": _gpu_gib() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": dict(_versions()),
    }


def same_machine(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether tables that began with these can be compared."""
    return all(one[name] == other[name] for name in ("processor", "cores", "gpu"))


def _gpu_gib() -> str:
    """How much of the GPU's memory is in use, by others, too."""
    free, total = torch.cuda.mem_get_info()
    return f"{(total - free) / 2**30:.1f} of {total / 2**30:.0f}"


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # not needed by vssl
            continue
    return found


def _processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write(name: str, table: Table, begun: Mapping[str, object], smallest: bool = False) -> Path:
    """Keep a table, and what `environment` said before it was measured, in outputs/bench/<name>.json; trials
    of `smallest` in a folder of their own."""
    path = _path(name, smallest)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"environment": begun, **asdict(table)}, indent=1) + "\n")
    return path


def _path(name: str, smallest: bool) -> Path:
    return (FOLDER / "smallest" if smallest else FOLDER) / f"{name}.json"


def kept(name: str, smallest: bool = False) -> tuple[Table, dict[str, object]] | None:
    """A table that was written, with its environment; None if there is none."""
    path = _path(name, smallest)
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    begun = content.pop("environment")
    return Table(**content), begun


def kept_since(time: float, name: str, smallest: bool = False) -> bool:
    """Whether a table was written after that time."""
    return _path(name, smallest).stat().st_mtime >= time


def markdown(table: Table, begun: Mapping[str, object]) -> str:
    """A table for people: Markdown whose columns also line up on a terminal."""
    cells = [table.columns, *([_short(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [not isinstance(cell, str) for cell in (table.rows or [table.columns])[0]]
    lines = [_line(row, widths, numeric) for row in cells]
    rule = ["-" * (w - 1) + (":" if right else "-") for w, right in zip(widths, numeric, strict=True)]
    lines.insert(1, f"| {' | '.join(rule)} |")
    remarks = [f"- {remark}" for remark in [*table.remarks, _in_words(begun)]]
    return "\n".join([f"### {table.title}", "", *lines, "", *remarks, ""])


def _line(row: list[str], widths: list[int], numeric: list[bool]) -> str:
    cells = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(row, widths, numeric, strict=True)
    ]
    return f"| {' | '.join(cells)} |"


def _in_words(begun: Mapping[str, object]) -> str:
    versions = begun["versions"]
    assert isinstance(versions, dict)
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    gpu = f"{begun['gpu']} ({begun.get('gpu_gib', '?')} GiB in use before), " if begun["gpu"] else ""
    commit, _, changes = str(begun["git_commit"]).partition("+")
    return (
        f"{begun['date']}, {gpu}{begun['processor']}, {begun['cores']} cores, load {begun['load']} before; "
        f"Python {begun['python']}, {libraries}; commit {commit[:8]}{' with ' * bool(changes)}{changes}"
    )


def _short(cell: str | float) -> str:
    """Three digits are more than a second run repeats."""
    if isinstance(cell, str):
        return cell
    return f"{cell:,.0f}" if abs(cell) >= 100 or cell == int(cell) else f"{cell:.3g}"
