"""The augmentation of a batch in one pass on the device, beside frame after frame through PIL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as pil

from benchmarks.fake_clips import batch_of, runtime, seconds_per_step, stages
from benchmarks.measuring import (
    Options,
    Table,
    device,
    in_turns,
    median,
    processor,
    spread,
    unless_impossible,
    wall,
)
from vssl.cores import usable_cores
from vssl.types import Batch

GOAL_ERROR, GOAL_SHARE = 2 / 255, 0.05
PUBLISHED = ["auxiliary=none", "pretext=vspp", "backbone=r2plus1d_10"]
OPERATIONS = (pil.adjust_brightness, pil.adjust_contrast, pil.adjust_saturation, pil.adjust_hue)


def run(options: Options) -> Iterator[Table]:
    """On a CPU both get one thread and processor time is counted; a GPU is against one core."""
    on_gpu = device().type == "cuda"
    size = 2 if options.smallest else 30 if on_gpu else 8
    shape = ["backbone.input.num_frames=4"] if options.smallest else []
    [spec] = [stage for stage in stages(*PUBLISHED, *shape).values() if stage.name == "pretext"]
    host, augmentation = batch_of(spec, size)
    batch = {name: value.to(device()) for name, value in host.items()}
    passes: dict[str, Callable[[], Tensor]] = {
        "frame by frame, PIL, one core": lambda: by_pil(host),
        f"one pass, {device().type}": lambda: augmentation.apply(batch),
    }
    impossible: list[str] = []
    if on_gpu:
        compiled = torch.compile(augmentation.apply)
        with unless_impossible("one pass, cuda, compiled", impossible):
            compiled(batch)
            passes["one pass, cuda, compiled"] = lambda: compiled(batch)
    torch.set_num_threads(1)
    seconds = in_turns(passes, options.runs(7), wall if on_gpu else processor)
    errors = {name: error(work(), by_pil(host)) for name, work in passes.items()}
    steps = {} if options.smallest else step_seconds(size, on_gpu, impossible)
    yield table(seconds, errors, steps, size, impossible)


def by_pil(batch: Batch) -> Tensor:
    """The reference: torchvision's functions on PIL images, with the numbers that were drawn."""
    clips = batch["clips"]
    out = torch.zeros(clips.shape)
    for b, k, t in np.ndindex(*clips.shape[:2], clips.shape[3]):
        image = Image.fromarray(clips[b, k, :, t].permute(1, 2, 0).numpy())
        image = pil.hflip(image) if batch["flip.chosen"][b, k] else image
        factors = batch["jitter.factors"][b, k, t].tolist()
        if factors != [1, 1, 1, 0]:
            for operation in batch["jitter.order"][b, k, t].tolist():
                image = OPERATIONS[operation](image, factors[operation])
        out[b, k, :, t] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return out


def error(pixels: Tensor, expected: Tensor) -> float:
    """Mean difference in grey levels, as a share of white."""
    return float((pixels.cpu() - expected).abs().mean() / 255)


def step_seconds(size: int, on_gpu: bool, impossible: list[str]) -> dict[str, float]:
    """A step of VSPP with this batch, all cores, by backbone; on a GPU in bfloat16 and channels_last, too,
    where the share of the augmentation is largest. `impossible` gets what this machine cannot do."""
    torch.set_num_threads(usable_cores())
    found = {}
    for precision in ("float32", "bfloat16") if on_gpu else ("float32",):
        fast = precision == "bfloat16"
        training = f"pretext.training={{batch_size: {size}, micro_batch: {size}, precision: {precision}}}"
        spec = stages(*PUBLISHED, training)["pretext"]
        with unless_impossible(f"a step of R(2+1)D, {precision}", impossible):
            took = seconds_per_step(spec, runtime(channels_last=fast), 3, 10 if on_gpu else 1)
            found[f"R(2+1)D, {precision}"] = median(took)
    return found


def table(
    seconds: dict[str, list[float]],
    errors: dict[str, float],
    steps: dict[str, float],
    size: int,
    impossible: list[str],
) -> Table:
    """Milliseconds per clip, and what that is of a step."""
    names = list(seconds)
    reference = median(seconds[names[0]])
    rows: list[list[str | float]] = [
        [
            name,
            1e3 * median(took) / size,
            spread(took, 1e3 / size),
            reference / median(took),
            255 * errors[name],
            *(f"{median(took) / step:.1%}" for step in steps.values()),
        ]
        for name, took in seconds.items()
    ]
    share = [f"share of a step, {name}" for name in steps]
    columns = ["augmentation", "ms per clip", "runs", "x PIL", "mean error, of 255", *share]
    remarks = [
        f"Clips of 16 x 112 x 112, {size} in a batch; crop and flip per clip, jitter of every frame with its "
        "own factors and order (conf/augmentation/frame_jitter.yaml).",
        f"Goals: mean error below {255 * GOAL_ERROR:g} of 255, share below {GOAL_SHARE:.0%} of a step. "
        "A step takes all cores, the pass one.",
        *impossible,
    ]
    return Table("Augmentation", columns, rows, remarks, {"seconds": seconds, "steps": steps})
