import ctypes
import gc
import multiprocessing
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from conftest import augmentation
from vssl.data.dataset import ClipDataset
from vssl.data.operations.crop import RandomCrop
from vssl.data.operations.grey import Grey
from vssl.engine.cost import CostMeter
from vssl.engine.loader import Loading, evaluation_batches
from vssl.errors import VsslError
from vssl.types import ClipPlan, ClipSampler
from vssl.video import Video

AUGMENTED = augmentation(crop=RandomCrop([16, 20], 12), grey=Grey(0.2))
PLAIN = AUGMENTED.without_randomness()


@dataclass(frozen=True)
class TwoClips(ClipSampler):
    """Two clips of four frames; the target is the step between frames."""

    @property
    def classes(self):
        return {"step": 3}

    @property
    def min_frames(self):
        return 10

    def plan(self, num_frames, rng):
        step = int(rng.integers(1, 4))
        starts_K1 = rng.integers(0, num_frames - 9, (2, 1))
        return ClipPlan(starts_K1 + step * np.arange(4), {"step": step})


class Numbered:
    """Videos whose frames show their number in red and the video's in green; counts reads."""

    def __init__(self, lengths):
        self.videos = [Video(str(n), length, n % 3 if n else None) for n, length in enumerate(lengths)]
        self.reads = 0

    def prepare(self):
        pass

    def read(self, video, frames_T):
        assert frames_T.ndim == 1
        assert frames_T.max() < video.num_frames
        self.reads += 1
        frames = np.zeros((len(frames_T), 16, 20, 3), np.uint8)
        frames[..., 0] = frames_T[:, None, None]
        frames[..., 1] = int(video.name)
        frames[..., 2] = np.arange(20)
        return frames


class Bad(Numbered):
    """The videos with these names do `harm` when they are read; by default they cannot be."""

    def __init__(self, lengths, *names, harm=None):
        super().__init__(lengths)
        self.names, self.harm = names, harm

    def read(self, video, frames_T):
        if video.name in self.names and self.harm:
            self.harm()
        elif video.name in self.names:
            raise VsslError(f"{video.name}: damaged; mend it")
        return super().read(video, frames_T)


def dataset(lengths=(30, 40, 10), augmentation=AUGMENTED, seed=3, repeat=2, source=None, replace_bad=True):
    source = source or Numbered(lengths)
    return ClipDataset(source, TwoClips(), augmentation, seed, repeat, replace_bad)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_sample_holds_the_planned_frames_and_their_target():
    data = dataset(augmentation=PLAIN)
    for index in range(len(data)):
        sample = data[0, index]
        clips = sample["clips"]
        assert clips.shape == (2, 3, 4, 12, 12)
        assert clips.dtype == torch.uint8
        assert (clips[:, 1] == index % 3).all()
        assert (clips[:, 0, :, 0, 0].int().diff(dim=1) == sample["step"]).all()
        assert sample["label"] == (-1, 1, 2)[index % 3]
        assert sample["index"] == index
        assert {sample[name].dtype for name in ("step", "label", "index")} == {torch.int64}
        assert sample["step"].shape == ()


def test_a_sample_holds_what_each_operation_drew_for_each_clip():
    sample = dataset()[0, 0]
    assert sample["flip.chosen"].shape == sample["grey.chosen"].shape == (2,)
    assert sample["jitter.factors"].shape == sample["jitter.order"].shape == (2, 4, 4)


def test_all_frames_come_from_one_read():
    data = dataset()
    _ = data[0, 0]
    assert data.source.reads == 1


def test_every_tensor_is_contiguous():
    sample = dataset()[0, 0]
    assert all(values.is_contiguous() for values in sample.values())
    assert sample["clips"].stride() == (3 * 4 * 144, 4 * 144, 144, 12, 1)


def test_a_sample_is_a_pure_function_of_seed_epoch_and_index():
    sample = dataset()[1, 2]
    data = dataset()
    _ = data[0, 0], data[5, 1]
    assert equal(data[1, 2], sample)
    for other in (data[2, 2], data[1, 5], dataset(seed=4)[1, 2]):
        assert not torch.equal(other["jitter.factors"], sample["jitter.factors"])


def test_repeat_passes_over_the_videos_with_other_draws():
    data = dataset(repeat=3)
    assert len(data) == 9
    first, second = data[0, 1], data[0, 4]
    assert first["label"] == second["label"] == 1
    assert not torch.equal(first["jitter.factors"], second["jitter.factors"])


def test_short_videos_are_left_out_and_counted():
    data = dataset(lengths=(9, 30, 3, 10))
    assert data.excluded == 2
    assert [video.num_frames for video in data.videos] == [30, 10]
    assert len(data) == 4
    assert data[0, 1]["label"] == 0


def test_only_short_videos_is_an_error_that_says_what_would_do():
    with pytest.raises(VsslError, match=r"longest of 2 videos has 9 frames, but TwoClips needs 10"):
        dataset(lengths=(9, 3))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("bad", [(), ("1",)])
def test_batches_do_not_depend_on_the_number_of_workers(workers, bad):
    order = [(epoch, index) for epoch in range(2) for index in (4, 0, 5, 2, 1, 3)]

    def batches(num_workers):
        videos = dataset(source=Bad((30, 40, 10), *bad))
        return list(DataLoader(videos, batch_size=4, sampler=order, num_workers=num_workers))

    alone, helped = batches(0), batches(workers)
    assert len(alone) == len(helped) == 3
    for expected, batch in zip(alone, helped, strict=True):
        assert equal(expected, batch)
        assert {n: v.stride() for n, v in batch.items()} == {n: v.stride() for n, v in expected.items()}
    assert AUGMENTED.apply(alone[0]).shape == (4, 2, 3, 4, 12, 12)


def test_a_bad_video_is_replaced_and_noted(caplog):
    data = dataset(source=Bad((30, 40, 50), "1"), augmentation=PLAIN)
    taken = set()
    for epoch in range(8):
        samples = [data[epoch, index] for index in range(6)]
        assert [int(sample["bad_video"]) for sample in samples] == [-1, 1, -1, -1, 1, -1]
        assert [int(sample["index"]) for sample in samples] == list(range(6))
        for sample in samples:
            # label and pictures are those of the video that took the place
            shown = int(sample["clips"][0, 1, 0, 0, 0])
            assert sample["label"] == (-1, 1, 2)[shown]
        taken |= {int(samples[at]["clips"][0, 1, 0, 0, 0]) for at in (1, 4)}
    assert taken == {0, 2}
    assert "1: damaged; mend it" in caplog.text


def test_when_all_is_bad_the_last_error_is_raised():
    with pytest.raises(VsslError, match=r"\d: damaged"):
        _ = dataset(source=Bad((30, 40, 50), "0", "1", "2"))[0, 0]


def test_a_test_never_replaces_a_video():
    data = dataset(source=Bad((30, 40, 50), "1"), replace_bad=False)
    assert data[0, 0]["bad_video"] == -1
    with pytest.raises(VsslError, match="1: damaged"):
        _ = data[0, 1]


def spin():
    """Sleep in native code that keeps the interpreter's lock, as a hanging decoder does."""
    left = 60
    while left:  # a signal ends a sleep
        left = ctypes.PyDLL(None).sleep(left)


def crash():
    os._exit(3)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(
    ("harm", "what", "remedy"),
    [
        (spin, r"timed out after 5\.?0? seconds", "take the video out"),
        (crash, r"worker .*(exited|killed)", "take the video out"),
        (die, r"worker .*(exited|killed)", "the system kills for want of memory"),
    ],
)
def test_a_video_that_hangs_or_kills_its_reader_is_named_and_the_processes_end(
    harm, what, remedy, monkeypatch
):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)
    source = Bad((30, 40, 50, 60), "2", harm=harm)
    loading = Loading(workers=2, pin_memory=False, timeout_s=5)
    before = set(multiprocessing.active_children())
    with pytest.raises(VsslError, match=rf"the loader {what}.* while reading .*\b2\b.*; {remedy}"):
        list(evaluation_batches(dataset(source=source, repeat=1), 1, loading, CostMeter(torch.device("cpu"))))
    gc.collect()
    for process in set(multiprocessing.active_children()) - before:
        process.join(5)
        assert not process.is_alive()
