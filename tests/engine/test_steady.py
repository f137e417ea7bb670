"""`runtime.deterministic=true` on a GPU: which operations of a training torch refuses there.

Those operations are the same on a CPU, where they run, or on the meta device.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.fake_clips import batch_of, stages
from conftest import ROOT
from gpu.trainings import TRAININGS
from vssl.engine.loop import UNSTEADY
from vssl.stage.construct import Stage
from vssl.types import Progress

REFUSED = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_ctc_loss_backward",
    "_roi_align_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "bincount",
    "cumsum",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "histc",
    "kthvalue",
    "max_pool3d_with_indices_backward",
    "max_unpool2d",
    "max_unpool3d",
    "median",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "scatter_reduce",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
    "upsample_trilinear3d_backward",
}
"""By the documentation of torch.use_deterministic_algorithms in torch 2.11, and by torchvision's code."""

ONE_EACH = [name for name in TRAININGS if not name.startswith("auxskd of")] + ["auxskd of vspp"]
"""What auxSKD computes does not depend on the pretext."""


class Refused(TorchDispatchMode):
    """Writes down the operations that torch has no deterministic implementation of on GPUs."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].partition(".")[0]
        self.seen |= {name} & REFUSED
        return func(*args, **(kwargs or {}))


def refused(spec, device):
    """Those of two steps of a training."""
    stage = Stage(spec)
    batch, augmentation = batch_of(spec, 4)
    batch["clips"] = augmentation.apply(batch)
    objective = stage.task.objective(stage.backbone()).train().to(device)
    batch = {name: value.to(device) for name, value in batch.items()}
    with Refused() as found:
        for _ in range(2):
            objective(batch).loss.backward()
            objective.after_step(Progress(1.0, 0.6))
    return found.seen


@pytest.mark.parametrize("name", ONE_EACH)
def test_every_training_can_repeat_its_bits(name):
    """In deterministic mode torchvision computes the regions of CtP by operations of torch (`roi_align`)."""
    stage, *overrides = TRAININGS[name]
    expected = {"_roi_align_backward"} if name == "ctp" else set()
    assert refused(stages(*overrides)[stage], "cpu") == expected


@pytest.mark.parametrize("path", sorted((ROOT / "conf/backbone").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_backbones_that_cannot_are_those_that_pool(path):
    spec = stages(f"backbone={path.stem}", "auxiliary=none", "pretext=none")["finetune"]
    pools = any(isinstance(part, torch.nn.MaxPool3d) for part in Stage(spec).backbone().modules())
    assert refused(spec, "meta") == ({"max_pool3d_with_indices_backward"} if pools else set())


def test_what_is_refused_would_be_found():
    values = torch.rand(1, 1, 4, 4, 4, requires_grad=True)
    with Refused() as found:
        torch.nn.functional.avg_pool3d(values, 2).sum().backward()
        values.detach().cumsum(0)
    assert found.seen == {"avg_pool3d_backward", "cumsum"}
    assert torch.nn.AvgPool3d in UNSTEADY
