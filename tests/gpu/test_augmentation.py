"""The augmentation of every training: on the GPU as on the CPU."""

import pytest
import torch

from benchmarks.fake_clips import batch_of
from gpu.conftest import DEVICE, IS_GPU
from gpu.trainings import COMPILED, SIZE, TRAININGS, spec_of

WAYS = [*((name, False) for name in TRAININGS), *((name, True) for name in COMPILED)]


@pytest.mark.parametrize(("name", "compiled"), WAYS)
def test_clips_are_those_of_the_cpu(name, compiled, close):
    host, augmentation = batch_of(spec_of(name), SIZE)
    there = augmentation.apply(host)
    batch = {key: value.to(DEVICE) for key, value in host.items()}
    torch.compiler.reset()  # torch compiles a function for so many objects, and no more
    backend = "inductor" if IS_GPU else "aot_eager"  # which only traces
    one_graph = torch.compile(augmentation.apply, dynamic=False, fullgraph=True, backend=backend)
    apply = one_graph if compiled else augmentation.apply
    grey = [augmentation.to_grey_levels(clips.cpu()).float() for clips in (apply(batch), there)]
    levels = (grey[0] - grey[1]).abs()
    close("augmentation against the CPU: values that differ", name, float((levels > 0).float().mean()), 0.01)
    close("augmentation against the CPU: mean, of white", name, float(levels.mean()) / 255, 1e-4)
