"""Bad videos are counted by epoch, remembered over a resume, and stop the stage when they are too many."""

import json

import pytest
import torch

from conftest import training
from vssl.engine.bad_videos import BadVideos
from vssl.engine.loader import Steps
from vssl.errors import VsslError
from vssl.video import Video

VIDEOS = [Video(f"v{n}.mp4", 10) for n in range(10)]
STEPS = Steps(10, training(), seed=0)


def batches(bad, start=0):
    """The index and bad_video of every micro-batch, where the videos `bad` cannot be read."""
    for step in range(start, STEPS.total):
        yield [
            {
                "index": torch.tensor([index for _, index in micro]),
                "bad_video": torch.tensor([index if index in bad else -1 for _, index in micro]),
            }
            for micro in STEPS.micro_batches(step)
        ]


def watch(folder, bad, start=0, end=None, max_share=0.2):
    found = BadVideos(folder, VIDEOS, STEPS, start, max_share)
    for _ in zip(found.watch(batches(bad, start)), range(start, end or STEPS.total), strict=False):
        pass
    return found


def test_without_bad_videos_nothing_is_written(tmp_path):
    assert watch(tmp_path, set()).summary() == {"per_epoch": {}, "names": []}
    assert not list(tmp_path.iterdir())


def test_each_epoch_is_counted_and_each_video_named_once(tmp_path):
    found = watch(tmp_path, {7, 3})
    assert found.summary() == {"per_epoch": {"1": 2, "2": 2, "3": 2}, "names": ["v3.mp4", "v7.mp4"]}


def test_a_resumed_training_counts_as_one_that_ran_through(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = watch(tmp_path / "whole", {7, 3})
    watch(tmp_path, {7, 3}, end=7)
    assert watch(tmp_path, {7, 3}, start=4).summary() == whole.summary()
    assert json.loads((tmp_path / "bad_videos.json").read_text()) == [list(at) for at in whole.found]


def test_more_than_the_share_of_an_epoch_fails_with_the_list(tmp_path):
    with pytest.raises(VsslError, match=r"3 of the 10 samples of epoch 1 .*=0.2: v2.mp4, v3.mp4, v7.mp4; "):
        watch(tmp_path, {7, 3, 2})
    with pytest.raises(VsslError, match="epoch 1"):  # and again, until they are mended
        watch(tmp_path, {7, 3, 2})
    assert watch(tmp_path, set()).summary() == {"per_epoch": {}, "names": []}
