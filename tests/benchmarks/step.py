"""Training steps through the loop that stages use: backbones, precision, layout, compile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fake_clips import batch_of, runtime, seconds_per_step, stages
from benchmarks.measuring import (
    FOLDER,
    Options,
    Table,
    device,
    median,
    spread,
    unless_impossible,
    wall,
)
from vssl.cores import usable_cores
from vssl.engine.device import predict, to_device
from vssl.engine.precision import Precision
from vssl.engine.runtime import Runtime
from vssl.protocol.finetune import Classifier
from vssl.stage.construct import Stage
from vssl.stage.saved import expected_input
from vssl.stage.spec import StageSpec

PEAK = {
    "MIG": {},
    "H100 PCIe": {"float32": 51e12, "tf32": 378e12, "bfloat16": 756e12},
    "H100 NVL": {"float32": 60e12, "tf32": 418e12, "bfloat16": 835e12},
    "H200": {"float32": 67e12, "tf32": 495e12, "bfloat16": 989e12},
    "H100": {"float32": 67e12, "tf32": 495e12, "bfloat16": 989e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
}
"""Operations per second of dense products, as the vendor states them, by what the GPU's name has: the first
that fits. A slice of a chip (MIG) has no number."""

SMALL = {"tiny": 32, "r3d_10": 2, "r2plus1d_10": 2}
"""Backbones and clips per step on a CPU."""

LARGE = {"r2plus1d_10": 30, "r3d_10": 30}
"""The same on a GPU."""

TRAINED = {"auxiliary": 2, "pretext": 1}
"""Clips of a sample that the student and the teacher see."""


@dataclass(frozen=True)
class Way:
    """One way to compute a step."""

    precision: Precision
    channels_last: bool = False
    compiled: bool = False
    deterministic: bool = False

    def __str__(self) -> str:
        names = ("channels_last", "compiled", "deterministic")
        return ", ".join([self.precision, *(name for name in names if getattr(self, name))])

    def runtime(self) -> Runtime:
        return runtime(self.channels_last, self.compiled, self.deterministic)


PLAIN = Way("float32")


@dataclass(frozen=True)
class Found:
    """Seconds of a step in several runs, the clips in it, and the operations behind a clip."""

    backbone: str
    what: str
    way: Way
    seconds: list[float]
    clips: int
    flops: float

    @property
    def rate(self) -> float:
        return self.clips / median(self.seconds)

    def share_of_peak(self) -> str:
        if device().type != "cuda":
            return "-"
        name = torch.cuda.get_device_name()
        peak = next((peak for chip, peak in PEAK.items() if chip in name), None)
        return f"{self.flops * self.rate / peak[self.way.precision]:.1%}" if peak else "-"


def run(options: Options) -> Iterator[Table]:
    """All backbones in all ways; the table grows by a line at a time."""
    torch.set_num_threads(1 if options.smallest else usable_cores())
    backbones = {"tiny": 4} if options.smallest else LARGE if device().type == "cuda" else SMALL
    found: list[Found] = []
    impossible: list[str] = []
    for name, size in backbones.items():
        for one in measure(name, size, options, impossible):
            found.append(one)
            yield table(found, impossible)
    yield table(found, impossible)


def table(found: list[Found], impossible: list[str]) -> Table:
    """Steps, in all ways that were measured so far."""
    plain = {one.backbone: one.rate for one in found if one.way == PLAIN and one.what == "VSPP"}
    rows: list[list[str | float]] = [
        [
            one.backbone,
            one.what,
            str(one.way),
            one.clips,
            1e3 * median(one.seconds),
            spread(one.seconds, 1e3),
            one.rate,
            one.rate / plain[one.backbone] if one.backbone in plain else "-",
            one.share_of_peak(),
        ]
        for one in found
    ]
    columns = ["backbone", "step", "way", "clips", "ms", "runs", "clips/s", "x plain VSPP", "of peak"]
    remarks = ["VSPP and auxSKD: transfer, augmentation, forward, backward, optimiser. Test: forward only."]
    remarks += impossible
    if device().type == "cuda":
        remarks += decode_cores(found)
    else:
        remarks.append("A CPU computes in float32, see what did not pay.")
    raw = {f"{one.backbone}, {one.what}, {one.way}": one.seconds for one in found}
    return Table("Steps", columns, rows, remarks, {"seconds": raw})


def measure(backbone: str, size: int, options: Options, impossible: list[str]) -> Iterator[Found]:
    """All ways of one backbone for VSPP; auxSKD and the test in the plain and in the fastest of them.
    `impossible` gets what this machine cannot do."""
    blocks, block = (3, 10) if device().type == "cuda" else (options.runs(3), 1)
    found: list[Found] = []

    def possible(what: str, way: Way) -> AbstractContextManager[None]:
        return unless_impossible(f"{backbone}, {what}, {way}", impossible)

    for way in [PLAIN] if options.smallest else ways():
        with possible("VSPP", way):
            spec = chain(backbone, size, way)["pretext"]
            seconds = seconds_per_step(spec, way.runtime(), blocks, block)
            found.append(Found(backbone, "VSPP", way, seconds, size, 3 * forward_flops(spec)))
            yield found[-1]
    best = [PLAIN, max(found, key=lambda one: one.rate).way] if found else []
    for way in dict.fromkeys(best):
        with possible("auxSKD", way):
            spec = chain(backbone, size, way)["auxiliary"]
            seconds = seconds_per_step(spec, way.runtime(), blocks, block)
            # the student's clip goes forward and back, the teacher's only forward
            yield Found(backbone, "auxSKD", way, seconds, 2 * size, 2 * forward_flops(spec))
    for way in dict.fromkeys(replace(one, compiled=False) for one in best):
        # a stage that trains nothing compiles nothing
        with possible("test", way):
            spec = chain(backbone, size, way)["test"]
            seconds = seconds_per_test(spec, way, blocks, block)
            clips = 10 * videos_per_test(spec)
            yield Found(backbone, "test", way, seconds, clips, forward_flops(spec))


def ways() -> list[Way]:
    """Precisions and layouts; on a GPU, what takes minutes only where it is fastest."""
    if device().type == "cpu":
        return [Way("float32", layout, compiled) for compiled in (False, True) for layout in (False, True)]
    plain = [Way(p, layout) for p in ("float32", "tf32", "bfloat16") for layout in (False, True)]
    return [*plain, Way("bfloat16", True, compiled=True), Way("bfloat16", True, deterministic=True)]


def chain(backbone: str, size: int, way: Way) -> dict[str, StageSpec]:
    """The stages of auxSKD and VSPP with this batch."""
    training = f"training={{batch_size: {size}, micro_batch: {size}, precision: {way.precision}}}"
    return stages(f"backbone={backbone}", *(f"{stage}.{training}" for stage in TRAINED))


def seconds_per_test(spec: StageSpec, way: Way, blocks: int, block: int) -> list[float]:
    """Seconds for the clips of some videos, as the test stage classifies them, in several blocks."""
    host, augmentation = batch_of(spec, videos_per_test(spec))
    assert spec.parent is not None
    trained = Stage(spec.parent)
    classifier = trained.task.objective(trained.backbone())
    assert isinstance(classifier, Classifier)
    where = way.runtime()
    logits = to_device(classifier, where).eval().logits

    def classify() -> None:
        predict(logits, [host] * block, augmentation.apply, where, way.precision, lambda clips: None)

    return [wall(classify) / block for _ in range(blocks + 1)][1:]


def videos_per_test(spec: StageSpec) -> int:
    """Videos whose clips make about a batch of training."""
    training = Stage(spec.chain[0]).training
    assert training is not None
    return max(1, training.batch_size // 10)


def forward_flops(spec: StageSpec) -> float:
    """Operations of the backbone for one clip; a multiplication and an addition are two."""
    with torch.device("meta"):
        backbone: nn.Module = Stage(spec).backbone()
        given = expected_input(spec.recipe)
        clip = torch.zeros(2, 3, given["num_frames"], given["crop"], given["crop"])  # batch norm wants two
    with FlopCounterMode(display=False) as counter:
        backbone(clip)
    return float(counter.get_total_flops()) / 2


def decode_cores(found: list[Found]) -> list[str]:
    """How many loader processes keep this GPU busy, if the loader was measured here."""
    path = FOLDER / "loader.json"
    steps = [one for one in found if one.what == "VSPP"]
    if not (path.exists() and steps):
        return []
    fastest = max(steps, key=lambda one: one.rate)
    rates = json.loads(path.read_text())["measured"]["clips_per_second_and_core"]
    best = max((name for name in rates if name.startswith("prepared")), key=rates.__getitem__)
    return [
        f"{fastest.backbone}, {fastest.way}: {fastest.rate / rates[best]:.1f} cores that read {best} videos "
        f"({rates[best]:.0f} clips/s each, loader.json) keep this GPU busy."
    ]
