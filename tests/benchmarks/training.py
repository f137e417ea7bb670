"""Real training on prepared videos: how busy the device is, and what Kinetics-100 takes at that rate."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import torch

from benchmarks.fake_clips import runtime, stages
from benchmarks.loader import Files, draw, usable
from benchmarks.measuring import Options, Table, device, synchronise, unless_impossible
from vssl.cores import usable_cores
from vssl.data.dataset import ClipDataset
from vssl.engine.cost import CostMeter
from vssl.engine.device import predict, to_device
from vssl.engine.loader import Steps, evaluation_batches, training_batches
from vssl.engine.loop import Loop
from vssl.engine.runtime import Runtime
from vssl.protocol.finetune import Classifier
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage
from vssl.stage.spec import StageSpec

T = TypeVar("T")

GOAL_BUSY = 0.9
VIDEOS = 6000
"""As many entries as an epoch needs; all are a few files."""

KINETICS_100 = {
    "auxiliary": 20 * 32_552 * 2,
    "pretext": 20 * 32_552,
    "finetune": 25 * 9_537 * 10,
    "test": 3_783 * 10,
}
"""Clips of each stage: 20 epochs of auxSKD and of VSPP, fine-tuning and the 10-clip test on UCF101."""


@dataclass(frozen=True)
class Way:
    """A precision, and the layout and compilation that go with it."""

    precision: str
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        return ", ".join(
            [self.precision, *["channels_last"] * self.channels_last, *["compiled"] * self.compiled]
        )

    def runtime(self) -> Runtime:
        workers = min(16, usable_cores()) if device().type == "cuda" else 2
        return replace(runtime(self.channels_last, self.compiled), workers=workers)


@dataclass
class Rate:
    """What some steps in a row took."""

    clips: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    busy: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.clips / self.seconds


def run(options: Options) -> Iterator[Table]:
    """Each kind of stage, in TF32 and in bfloat16 on a GPU; the table grows by a way at a time."""
    on_gpu = device().type == "cuda"
    ways = [Way("tf32"), Way("bfloat16", True), Way("bfloat16", True, True)] if on_gpu else [Way("float32")]
    backbone, size = ("r2plus1d_10", 30) if on_gpu else ("tiny", 4 if options.smallest else 30)
    seconds = 0.1 if options.smallest else 5.0
    with tempfile.TemporaryDirectory() as scratch:
        drawn = options.videos or draw(Path(scratch) / "drawn", 1 if options.smallest else 6)
        videos = usable(drawn, Path(scratch) / "prepared")
        labelled = [replace(video, label=n % 8) for n, video in enumerate(islice(cycle(videos), VIDEOS))]
        files = Files(Path(scratch) / "prepared", labelled, "pyav")
        rates: dict[Way, dict[str, Rate]] = {}
        impossible: list[str] = []
        for way in ways:
            with unless_impossible(str(way), impossible):
                specs = chain(backbone, size, way)
                rates[way] = {name: measure(spec, way, files, seconds) for name, spec in specs.items()}
            yield table(backbone, size, rates, impossible)


def chain(backbone: str, size: int, way: Way) -> dict[str, StageSpec]:
    """The default pipeline with this batch."""
    training = f"training={{batch_size: {size}, micro_batch: {size}, precision: {way.precision}}}"
    groups = ("auxiliary", "pretext", "protocol")
    return stages(f"backbone={backbone}", *(f"{group}.{training}" for group in groups))


def measure(spec: StageSpec, way: Way, files: Files, seconds: float) -> Rate:
    """The rate of a stage, its loader processes and the way to the device included."""
    stage, where = Stage(spec), way.runtime()
    torch.set_num_threads(where.num_threads())
    data = ClipDataset(files, stage.task.sampler, stage.augmentation, 0, 1, replace_bad=False)
    meter = CostMeter(device())
    if stage.training is None:
        return _tested(stage, way, data, meter, seconds)
    steps = Steps(len(data), replace(stage.training, epochs=100), 0)
    objective = stage.task.objective(stage.backbone())
    clips = stage.clips_per_sample
    loop = Loop(objective, steps, clips, data.augmentation.apply, Path("never-written"), where, Silent())
    rate = Rate()
    with closing(training_batches(data, steps, 0, where.loading(), loop.cost)) as batches:
        loop.run(_timed(batches, rate, loop.cost, steps.training.batch_size * clips, seconds))
    return rate


def _tested(stage: Stage, way: Way, data: ClipDataset, meter: CostMeter, seconds: float) -> Rate:
    assert stage.spec.parent is not None
    assert stage.recipe.batch_size is not None
    trained = Stage(stage.spec.parent)
    classifier = trained.task.objective(trained.backbone())
    assert isinstance(classifier, Classifier)
    rate, where = Rate(), way.runtime()
    clips = stage.recipe.batch_size * 10
    logits, precision = to_device(classifier, where).eval().logits, trained.steps.training.precision
    with closing(evaluation_batches(data, stage.recipe.batch_size, where.loading(), meter)) as batches:
        timed = _timed(batches, rate, meter, clips, seconds)
        predict(logits, timed, data.augmentation.apply, where, precision, lambda clips: None)
    return rate


def _timed(batches: Iterator[T], rate: Rate, meter: CostMeter, clips: int, seconds: float) -> Iterator[T]:
    """Pass on batches for so many seconds, after as many to warm up, and note what they took."""
    yield from _until(batches, seconds / 2)
    synchronise()
    waited = meter.waiting_seconds
    with _watching(rate.busy):
        began = perf_counter()
        for batch in _until(batches, seconds):
            rate.clips += clips
            yield batch
        synchronise()
        rate.seconds = perf_counter() - began
    rate.waited = meter.waiting_seconds - waited


def _until(source: Iterator[T], seconds: float) -> Iterator[T]:
    """Two batches at least."""
    began = perf_counter()
    yield from islice(source, 2)
    while perf_counter() - began < seconds:
        yield next(source)


@contextmanager
def _watching(busy: list[float]) -> Iterator[None]:
    """Note five times a second how busy the GPU was, as its driver says."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            with suppress(Exception):
                busy.append(torch.cuda.utilization() / 100)

    watcher = threading.Thread(target=watch, daemon=True)
    if device().type == "cuda":
        watcher.start()
    try:
        yield
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()


def table(backbone: str, size: int, rates: dict[Way, dict[str, Rate]], impossible: list[str]) -> Table:
    """Rates, and what Kinetics-100 comes to."""
    rows: list[list[str | float]] = []
    for way, found in rates.items():
        minutes = {name: KINETICS_100[name] / rate.per_second / 60 for name, rate in found.items()}
        for name, rate in found.items():
            busy = f"{sum(rate.busy) / len(rate.busy):.0%}" if rate.busy else "-"
            waits = f"{rate.waited / rate.seconds:.0%}"
            rows.append([name, str(way), rate.per_second, busy, waits, KINETICS_100[name], minutes[name]])
        total = sum(minutes.values())
        rows.append(
            [
                "all four",
                str(way),
                sum(KINETICS_100.values()) / total / 60,
                "",
                "",
                sum(KINETICS_100.values()),
                total,
            ]
        )
    columns = ["stage", "way", "clips/s", "device busy", "waiting", "clips of Kinetics-100", "minutes"]
    remarks = [
        f"{backbone}, {size} samples in a step; videos of 128 x 171 that mode=prepare wrote; augmentation "
        "as published.",
        "Busy: the share of time in which the GPU computed, as its driver counts. Waiting: for the loader. "
        f"Goal: busy {GOAL_BUSY:.0%}.",
        "Kinetics-100: 20 epochs of auxSKD and of VSPP on 32,552 videos; fine-tuning (25 epochs, each video "
        "10 times) and the 10-clip test on UCF101, at the rates measured.",
        *impossible,
    ]
    measured = {
        str(way): {
            name: {"clips_per_second": rate.per_second, "busy": rate.busy} for name, rate in found.items()
        }
        for way, found in rates.items()
    }
    return Table("Training", columns, rows, remarks, measured)
