"""Videos that are too short for a sampler: every sampler says so, and a plan names them."""

import re
from pathlib import Path

import numpy as np
import pytest

from conftest import PRETEXTS, composed
from vssl.commands.plan import execute, plan
from vssl.errors import VsslError
from vssl.pipeline import Point
from vssl.stage.construct import Stage

NUM_VIDEOS, SHORTEST, LONGEST = 40, 30, 120
FORTY = (f"source.num_videos={NUM_VIDEOS}", "auxiliary.training.batch_size=4")


def lengths():
    """Frames of the synthetic videos of seed 0."""
    drawn = (np.random.default_rng([0, False, number]) for number in range(NUM_VIDEOS))
    return [int(rng.integers(SHORTEST, LONGEST + 1)) for rng in drawn]


def stages(task, *overrides):
    return {spec.name: Stage(spec) for spec in plan(composed(f"pretext={task}", *FORTY, *overrides))}


@pytest.fixture
def left_out(tmp_path, capsys):
    """The lines of a plan about videos that are left out."""

    def printed(task, *overrides):
        cfg = composed(f"outputs={tmp_path}", f"pretext={task}", *overrides)
        execute([Point("", 0, plan(cfg), cfg=cfg)], cfg)
        return re.findall(r"^left out: .*", capsys.readouterr().out, re.MULTILINE)

    return printed


@pytest.mark.parametrize("task", PRETEXTS)
def test_the_plan_names_the_videos_that_are_too_short_for_each_sampler(task, left_out):
    """Of the auxiliary stage, which shows the same clips, nothing else is said."""
    made = stages(task)
    frames = made["pretext"].task.sampler.min_frames
    assert made["auxiliary"].task.sampler.min_frames == frames
    short = sum(length < frames for length in lengths())
    assert made["pretext"].dataset.excluded == made["auxiliary"].dataset.excluded == short
    sampler = type(made["pretext"].task.sampler).__name__
    expected = (
        f"left out: {short} of 40 videos of synthetic, shorter than the {frames} frames that {sampler} needs"
    )
    assert left_out(task, *FORTY) == ([expected] if short else [])


@pytest.mark.parametrize(("task", "frames"), [("vcop", 64), ("opn", 88), ("shuffle_learn", 64)])
def test_the_videos_that_are_too_short_are_counted(task, frames):
    """Three (four) clips of 16 frames and gaps of 8 between them."""
    made = stages(task)["pretext"]
    assert made.task.sampler.min_frames == frames
    assert len(made.source.videos) == 40
    assert made.dataset.excluded == sum(length < frames for length in lengths()) > 0
    assert min(video.num_frames for video in made.dataset.videos) >= frames


MODULE = """
from dataclasses import dataclass
import vssl.pretext.order

@dataclass(frozen=True)
class Mine(vssl.pretext.order.ShuffleLearnSampler):
    "Says nothing of its own about short videos."
"""


def test_a_sampler_that_inherits_what_it_needs_through_an_imported_module_is_named(
    left_out, tmp_path_factory, monkeypatch
):
    folder = tmp_path_factory.mktemp("own")
    Path(folder / "mine_sampler.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    short = sum(length < 64 for length in lengths())
    assert left_out("shuffle_learn", *FORTY, "pretext.sampler._target_=mine_sampler.Mine") == [
        f"left out: {short} of 40 videos of synthetic, shorter than the 64 frames that Mine needs"
    ]


def test_a_training_in_which_no_video_is_left_is_refused_by_the_plan(left_out):
    with pytest.raises(
        VsslError, match=r"the longest of 40 videos has \d+ frames, but \w+ needs 64; ask for sh"
    ):
        left_out("vcop", *FORTY, "source.max_frames=60")


def test_videos_that_are_not_checked_are_not_counted_as_too_short(left_out, tmp_path):
    """Nobody knows their frames yet."""
    assert left_out("vcop", "source=ucf101", f"source.root={tmp_path}", "backbone=r3d_10") == []


def test_clips_of_videos_that_are_left_out_are_not_counted():
    """A VCOP tuple is three clips."""
    made = stages("vcop")["pretext"]
    assert made.clips == 3 * sum(length >= 64 for length in lengths()) * made.recipe.epochs
