"""Views: each clip of a sample has an augmentation of its own, and one clip's numbers do not reach the
other."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from conftest import augmentation
from vssl.data.augmentation import Views
from vssl.data.operations.crop import CenterCrop, RandomCrop
from vssl.data.operations.flip import Flip
from vssl.data.operations.grey import Grey
from vssl.errors import OptionError

STRONG = augmentation()
WEAK = augmentation(grey=Grey(1.0), flip=Flip(0.0), jitter=None)


def frames(clips=2):
    return np.random.default_rng(0).integers(0, 256, (clips, 4, 30, 40, 3), np.uint8)


def test_each_clip_is_augmented_as_by_its_own_view_alone():
    views, clips = Views(student=STRONG, teacher=WEAK), frames()
    rng, same = np.random.default_rng(1), np.random.default_rng(1)
    samples = [views.sample_clips(clips, rng) for _ in range(3)]
    seen = views.apply(default_collate(samples))
    assert seen.shape == (3, 2, 3, 4, 24, 24)
    for number in range(3):
        for place, view in enumerate((STRONG, WEAK)):
            alone = view.sample_clips(clips[place : place + 1], same)
            assert torch.equal(seen[number, place], view.apply(default_collate([alone]))[0, 0])


def test_an_augmentation_draws_as_ever():
    """Of clip 0, then of clip 1, from one generator."""
    rng, same = np.random.default_rng(1), np.random.default_rng(1)
    whole = STRONG.sample_clips(frames(), rng)
    for number, clip_THWC in enumerate(frames()):
        alone = STRONG.sample(clip_THWC, same)
        assert torch.equal(whole["clips"][number], alone.pop("clip"))
        assert all(torch.equal(whole[name][number], value) for name, value in alone.items())
    assert whole["clips"].is_contiguous()


def test_the_first_view_stands_for_all_where_nothing_is_random():
    views = Views(student=STRONG, teacher=WEAK)
    still = views.without_randomness()
    assert isinstance(still.crop, CenterCrop)
    assert not isinstance(still, Views)
    assert (views.pixel_max, views.crop) == (STRONG.pixel_max, STRONG.crop)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_max": 1.0}, r"^teacher\.pixel_max=1\.0: student has 255\.0; give both the same"),
        ({"crop": RandomCrop([24, 32], 16)}, r"^teacher\.crop\.size=16: student has 24; give both the same"),
    ],
)
def test_views_that_cannot_be_shown_together(changes, message):
    with pytest.raises(OptionError, match=message):
        Views(student=STRONG, teacher=augmentation(**changes))


def test_as_many_views_as_clips():
    with pytest.raises(OptionError, match=r"^augmentation=student,teacher: 2 views, and 1 clips of a sample"):
        Views(student=STRONG, teacher=WEAK).sample_clips(frames(1), np.random.default_rng(0))
