"""Which samplers may leave videos out is known without importing them."""

import subprocess
import sys

import pytest
from vssl.stage.left_out import _may_refuse, left_out

from conftest import ROOT, composed, environment
from vssl.pipeline import plan
from vssl.stage.build import build
from vssl.types import ClipSampler

TASKS = sorted(path.stem for path in (ROOT / "conf" / "pretext").glob("*.yaml"))


def specs(task, *overrides):
    return {spec.name: spec for spec in plan(composed(f"pretext={task}", *overrides)) if spec.name != "test"}


@pytest.mark.parametrize("task", TASKS)
def test_it_is_known_of_every_sampler(task):
    for spec in specs(task).values():
        node = spec.recipe.task["sampler"]
        sampler = build(node, "sampler")
        inner = getattr(sampler, "sampler", sampler)
        assert _may_refuse(node) == (type(inner).min_frames is not ClipSampler.min_frames)


@pytest.mark.parametrize(("task", "frames"), [("vcop", 64), ("opn", 88), ("shuffle_learn", 64)])
def test_the_videos_that_are_too_short_are_counted(task, frames):
    spec = specs(task, "source.num_videos=40", "auxiliary=none")["pretext"]
    found = left_out(spec)
    places = {name: value for name, value in spec.recipe.data.items() if name != "repeat"}
    videos = build({**places, **spec.paths}, "data").videos
    assert (found.of, found.frames) == (40, frames)
    assert found.videos == sum(video.num_frames < frames for video in videos) > 0


def test_torch_is_imported_for_none_that_leaves_nothing_out():
    code = (
        "import sys; from vssl.stage.left_out import _may_refuse\n"
        "names = 'order.OPNSampler', 'vspp.VSPPSampler'\n"
        "print([_may_refuse({'_target_': f'vssl.pretext.{name}'}) for name in names])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[True, False]", "False"]
