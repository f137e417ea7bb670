"""A few steps of a stage's training on noise, in different ways."""

import math
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from benchmarks.fake_clips import batch_of, stages
from conftest import PRETEXTS, ROOT, RUNTIME
from gpu.conftest import DEVICE
from vssl import distributed
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.engine.precision import has_bfloat16
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage

SIZE, STEPS = 8, 3
DROPPING = "videomoco that drops frames"
OTHERS = {path.stem for path in (ROOT / "conf" / "auxiliary").glob("*.yaml")}
FORMS = sorted(OTHERS - {"none", "auxskd", "longer_pretext", "distillation"})
"""Of distillation, beside auxSKD."""

TRAININGS = {
    **{name: ("pretext", f"pretext={name}", "auxiliary=none") for name in PRETEXTS},
    DROPPING: ("pretext", "pretext=videomoco", "auxiliary=none", "pretext.adversarial_from=0"),
    **{f"auxskd of {name}": ("auxiliary", f"pretext={name}", "auxiliary=auxskd") for name in PRETEXTS},
    **{f"{name} of vspp": ("auxiliary", "pretext=vspp", f"auxiliary={name}") for name in FORMS},
    "finetune": ("finetune", "auxiliary=none", "pretext=none"),
    "linear": ("linear", "protocol=linear", "auxiliary=none", "pretext=none"),
}
COMPILED = [*PRETEXTS, DROPPING, "auxskd of vspp", "isd_plus of vspp", "finetune", "linear"]
"""Compiling takes many seconds each. auxSKD has the same network and augmentation for every pretext, and its
other forms but this one, which augments each clip in its own way, have the same parts."""

CPU = replace(RUNTIME, device="cpu", threads=None, log_every_steps=1000, save_every_s=math.inf)
EXACT = replace(CPU, device=DEVICE, deterministic=True)
FAST = replace(CPU, device=DEVICE)


@dataclass
class Trained:
    """What a few steps came to: the loss of each, and by how much they moved the parameters."""

    losses: list[float] = field(default_factory=list)
    moved: torch.Tensor | None = None
    state: dict[str, torch.Tensor] = field(default_factory=dict)


class Recorder(Silent):
    """Keeps the losses."""

    def __init__(self):
        self.losses = []

    def log(self, metrics, step):
        self.losses.append(metrics["loss"])


def spec_of(name, precision="float32", backbone="tiny"):
    """The stage of a training, with steps of two micro-batches. A GPU draws other numbers than a CPU for what
    drops out, so that nothing does."""
    stage, *overrides = TRAININGS[name]
    group = stage if stage in ("auxiliary", "pretext") else "protocol"
    drop = ["pretext.dropout=0"] if {"pretext=vcop", "pretext=opn"} & set(overrides) else []
    recipe = f"{{batch_size: {SIZE}, micro_batch: {SIZE // 2}, precision: {precision}}}"
    training = [f"{group}.training={recipe}", f"backbone={backbone}"]
    return stages(*overrides, *drop, *training)[stage]


def trained(spec, runtime, steps=STEPS, guard=None):
    """Train for some steps, on this rank's micro-batches; `guard` is a context that all but the first of them
    run in."""
    stage = Stage(spec)
    if runtime.device == "cuda" and stage.training.precision == "bfloat16" and not has_bfloat16():
        pytest.skip("this GPU has no bfloat16")
    torch.manual_seed(0)
    objective = stage.task.objective(stage.backbone())
    made = [batch_of(spec, SIZE // 2) for _ in range(2)]
    batches, augmentation = [batch for batch, _ in made], made[0][1]
    mine = batches[distributed.rank() :: distributed.world_size()]
    callback, clips = Recorder(), batches[0]["clips"].shape[1]
    plan = Steps(100 * SIZE, stage.training, 0)
    runtime = replace(runtime, log_every_steps=1000 if guard else 1)
    loop = Loop(objective, plan, clips, augmentation.apply, Path("never-written"), runtime, callback)
    before = _flat(objective)

    def deliver():
        yield mine
        if guard is None:
            yield from [mine] * (steps - 1)
        else:
            with guard():
                yield from [mine] * (steps - 1)

    with closing(deliver()) as delivered:  # a step that fails leaves the guard at once
        loop.run(delivered)
    torch.compiler.reset()
    state = {name: value.detach().cpu() for name, value in objective.state_dict().items()}
    return Trained(callback.losses, _flat(objective) - before, state)


def _flat(objective):
    return torch.cat([p.detach().cpu().double().flatten() for p in objective.parameters()])


def apart(one, other):
    """The relative distance of two tensors: infinite if one is not finite."""
    if not (one.isfinite().all() and other.isfinite().all()):
        return float("inf")
    one, other = one.double(), other.double()
    return float((one - other).norm() / other.norm().clamp_min(1e-30))


def loss_apart(one, other):
    """How far apart the losses of the first step are. It is relative, but absolute of a loss below 1: the
    cross-entropy of what is known for certain has no digits left that count."""
    difference = abs(one.losses[0] - other.losses[0])
    return difference / max(1.0, abs(other.losses[0])) if math.isfinite(difference) else math.inf
