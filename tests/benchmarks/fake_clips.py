"""Stages on videos of noise, which cost nothing to read: for measuring what comes after reading."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from torch.utils.data import default_collate

from benchmarks.measuring import ROOT, device, synchronise
from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.engine.runtime import Runtime
from vssl.pipeline import plan
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage
from vssl.stage.spec import StageSpec
from vssl.types import Batch
from vssl.video import Video

LENGTH = 300
"""Frames of a video: ten seconds of Kinetics."""


def stages(*overrides: str) -> dict[str, StageSpec]:
    """The stages of `python launch.py *overrides`, by name."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return {spec.name: spec for spec in plan(compose("config", overrides=list(overrides)))}


@dataclass(frozen=True)
class Noise:
    """A VideoSource of random pixels, in the size that training resizes to."""

    num_videos: int
    height: int
    width: int

    @cached_property
    def videos(self) -> list[Video]:
        return [Video(str(n), LENGTH, n % 8) for n in range(self.num_videos)]

    @property
    def class_names(self) -> list[str]:
        return [str(n) for n in range(8)]

    def prepare(self) -> None:
        """Nothing to do."""

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Other frames for each video."""
        size = (len(frames_T), self.height, self.width, 3)
        return np.random.default_rng(int(video.name)).integers(0, 256, size, np.uint8)


def batch_of(spec: StageSpec, size: int) -> tuple[Batch, Augmentation]:
    """A batch as the loader sends it, pinned where a GPU waits for it, and the augmentation of the stage."""
    stage = Stage(spec)
    source = Noise(size, *stage.augmentation.crop.resize)
    data = ClipDataset(source, stage.task.sampler, stage.augmentation, 0, 1, replace_bad=False)
    batch: Batch = default_collate([data[0, n] for n in range(size)])
    if device().type == "cuda":
        batch = {name: value.pin_memory() for name, value in batch.items()}
    return batch, stage.augmentation


def runtime(channels_last: bool = False, compiled: bool = False, deterministic: bool = False) -> Runtime:
    """As in conf/runtime, without loader processes and checkpoints."""
    return Runtime("auto", 0, None, channels_last, compiled, deterministic, 1e9, 10, 1.0, 300.0)


def seconds_per_step(spec: StageSpec, where: Runtime, blocks: int, block: int = 1) -> list[float]:
    """Seconds of a training step in several blocks of so many steps, through the loop that stages use:
    transfer, augmentation, forward, backward, optimiser. One block warms up."""
    stage = Stage(spec)
    assert stage.training is not None
    steps = Steps(stage.training.batch_size * (blocks + 1) * block * 100, stage.training, 0)
    made = [batch_of(spec, len(micro_batch)) for micro_batch in steps.mine(0)]
    batches, augmentation = [batch for batch, _ in made], made[0][1]
    ends: list[float] = []

    def deliver() -> Iterator[list[Batch]]:
        for _ in range(blocks + 1):
            ends.append(_now())
            for _ in range(block):
                yield batches
        ends.append(_now())

    objective = stage.task.objective(stage.backbone())
    clips = batches[0]["clips"].shape[1]
    loop = Loop(objective, steps, clips, augmentation.apply, Path("never-written"), where, Silent())
    loop.run(deliver())
    return [(end - begin) / block for begin, end in pairwise(ends)][1:]


def _now() -> float:
    synchronise()
    return time.perf_counter()
