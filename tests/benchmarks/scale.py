"""What grows with the data set, and what with the processes: cost per clip, memory of a loader, step time."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.fake_clips import LENGTH, runtime, seconds_per_step, stages
from benchmarks.measuring import Options, Table, in_turns, median, processor, spread
from conftest import planted_index
from multiprocess import run_together
from vssl import distributed
from vssl.data.dataset import ClipDataset
from vssl.data.decode import read_frames
from vssl.data.index import fingerprint, load, select, write
from vssl.data.listed import ListedVideos
from vssl.data.synthetic import SyntheticVideos
from vssl.engine.cost import CostMeter
from vssl.engine.loader import Loading, Steps, training_batches
from vssl.stage.construct import Stage
from vssl.video import Video

SIZES = (100, 1_000, 10_000, 240_000)
CLIPS = 200
BACKBONES = {"tiny": 32, "r3d_10": 4}
"""Clips of a step that one process computes, or two share."""
AGREEING = (2, 8, 32)
"""Processes that agree on something."""
FLAGS = 72
"""One for each parameter of R(2+1)D-10."""


@dataclass(frozen=True)
class OneFile(ListedVideos):
    """A data set of any size whose videos are all one file."""

    file: str

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames of the file, in the place of those of the video."""
        return read_frames(Path(self.file), frames_T, "pyav")


@dataclass(frozen=True)
class Watched:
    """A dataset whose samples say how many megabytes the process that made them has for itself."""

    data: ClipDataset

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, at: tuple[int, int]) -> dict[str, Tensor]:
        return {**self.data[at], "own_mb": torch.tensor(own_mb())}

    def reading(self) -> list[str]:
        """As the data says."""
        return self.data.reading()


def run(options: Options) -> Iterator[Table]:
    """Planted indexes of up to 240,000 videos, then gradients between processes on the CPU."""
    torch.set_num_threads(1)
    sizes = SIZES[:1] if options.smallest else SIZES
    with tempfile.TemporaryDirectory() as scratch:
        data = {size: planted(size, Path(scratch)) for size in sizes}
        rows, measured = by_videos(data, options)
    more_rows, more = by_processes(options)
    last_rows, last = by_agreeing(options)
    columns = ["what", "scale", "measured", "runs", "x first"]
    remarks = [
        f"Clips of videos of {LENGTH} frames, drawn from the whole index; all are one file of 128 x 172. "
        "Memory: what a loader process has for itself, beside what it shares with the others.",
        "Processes: one step of VSPP, the same clips in two micro-batches, one thread each, gloo. With a "
        "core for each process, half the time would be perfect.",
        f"Agreeing: which of {FLAGS} flags is set by any process, as each step asks for the parameters that "
        "have a gradient. All processes share the cores of this machine.",
    ]
    yield Table("Scale", columns, rows + more_rows + last_rows, remarks, measured | more | last)


def planted(size: int, folder: Path) -> ClipDataset:
    """A training set of so many videos."""
    synthetic = SyntheticVideos(str(folder), "train", 1, 0, 128, 172, LENGTH, LENGTH, 25, 4.0, 23, "pyav")
    synthetic.prepare()
    path = folder / f"{size}.npz"
    write(planted_index(size, [f"playing_a_game/{n:011}_000001_000011.mp4" for n in range(size)]), path)
    index = load(path)
    rows = select(index, "train", 1, 0.0, None)
    mark = fingerprint(index, rows)
    file = str(synthetic.folder / synthetic.videos[0].name)
    source = OneFile("planted", "/", str(path), "train", 1, 0.0, None, size, mark, file)
    stage = Stage(stages("auxiliary=none", "pretext=vspp", "backbone=r2plus1d_10")["pretext"])
    return ClipDataset(source, stage.task.sampler, stage.augmentation, 0, 1, replace_bad=True)


Rows = list[list[str | float]]


def by_videos(data: Mapping[int, ClipDataset], options: Options) -> tuple[Rows, dict[str, object]]:
    """Milliseconds per clip, and megabytes of a loader process after many clips."""
    clips = options.runs(CLIPS)

    def read(of: ClipDataset) -> Callable[[], object]:
        chosen = np.random.default_rng(0).integers(len(of), size=clips).tolist()
        return lambda: [of[0, n] for n in chosen]

    seconds = in_turns({f"{n:,} videos": read(of) for n, of in data.items()}, options.runs(5), processor)
    memory = {f"{n:,} videos": worker_mb(of, 2 * clips) for n, of in data.items()}
    first, first_mb = median(next(iter(seconds.values()))), next(iter(memory.values()))[-1]
    rows: Rows = [
        ["ms per clip", n, 1e3 * median(took) / clips, spread(took, 1e3 / clips), median(took) / first]
        for n, took in seconds.items()
    ]
    for n, found in memory.items():
        rows.append(
            ["MB of a loader process", n, found[-1], f"{found[0]:.0f} at first", found[-1] / first_mb]
        )
    return rows, {"seconds": seconds, "worker_mb": memory}


def worker_mb(data: ClipDataset, clips: int) -> list[float]:
    """Megabytes of a loader process after each batch."""
    training = Stage(stages("auxiliary=none")["pretext"]).training
    assert training is not None
    steps = Steps(max(len(data), training.batch_size), training, 0)
    gc.collect()  # or this process does so meanwhile, and what it writes is the loader's alone
    loading, cost = Loading(1, False, 60.0), CostMeter(torch.device("cpu"))
    with closing(training_batches(Watched(data), steps, 0, loading, cost)) as batches:
        some = islice(batches, max(1, clips // training.batch_size))
        return [float(one["own_mb"].max()) for [one] in some]


def own_mb() -> float:
    """Megabytes that belong to this process only."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def by_processes(options: Options) -> tuple[Rows, dict[str, object]]:
    """Seconds of a step by one process and by two."""
    rows: Rows = []
    measured = {}
    for backbone, size in {"tiny": 4}.items() if options.smallest else BACKBONES.items():
        first = None
        for processes in (1, 2):
            found = run_together(in_ranks, backbone, size, options.runs(5), processes=processes)
            slowest = [max(of_run) for of_run in zip(*found, strict=True)]
            first = first or median(slowest)
            what, scale = f"ms per step, {backbone}", f"{processes} processes"
            rows.append([what, scale, 1e3 * median(slowest), spread(slowest, 1e3), median(slowest) / first])
            measured[f"{backbone}, {scale}"] = slowest
    return rows, {"step": measured}


def in_ranks(backbone: str, size: int, runs: int) -> list[float]:
    """What one process of a step measures."""
    training = f"pretext.training={{batch_size: {size}, micro_batch: {size // 2}}}"
    spec = stages("auxiliary=none", f"backbone={backbone}", training)["pretext"]
    return seconds_per_step(spec, runtime(), runs)


def by_agreeing(options: Options) -> tuple[Rows, dict[str, object]]:
    """Seconds until all processes know which flags any of them has set."""
    rows: Rows = []
    measured: dict[str, list[float]] = {}
    for processes in AGREEING[:1] if options.smallest else AGREEING:
        # rank 0 knows it after all others have asked
        seconds = run_together(agreeing, options.runs(50), processes=processes)[0]
        scale = f"{processes} processes"
        measured[scale] = seconds
        first = median(next(iter(measured.values())))
        rows.append(
            ["ms to agree", scale, 1e3 * median(seconds), spread(seconds, 1e3), median(seconds) / first]
        )
    return rows, {"agreeing": measured}


def agreeing(runs: int) -> list[float]:
    """What one process measures."""
    distributed.barrier()
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        distributed.any_rank(*[False] * FLAGS)
        took.append(time.perf_counter() - began)
    return took
