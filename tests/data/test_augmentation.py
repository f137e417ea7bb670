from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as pil

from conftest import AUGMENTATION
from vssl.data.augmentation import Augmentation, random_region
from vssl.errors import VsslError

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
FRAMES, SIDE = 6, 24
PAPER = AUGMENTATION
PLAIN = replace(PAPER, random_crop=False, flip=0.0, jitter_probability=0.0)


def coloured_frames(seed, height=24, width=32):
    """Smooth, colourful frames [T,H,W,C]."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(height)[:, None, None] / height, np.arange(width)[None, :, None] / width
    down, right, phase = rng.normal(0, 5, (3, FRAMES, 1, 1, 3))
    waves = np.sin(down * y + right * x + phase)
    return (127 + 120 * waves + rng.normal(0, 3, waves.shape)).clip(0, 255).astype(np.uint8)


def collated(augmentation, size=(4, 2), seed=0):
    """A batch [B,K] as the loader makes it."""
    samples = [
        augmentation.sample(coloured_frames(n), np.random.default_rng([seed, n]))
        for n in range(size[0] * size[1])
    ]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    batch = {name: values.unflatten(0, size) for name, values in batch.items()}
    batch["clips"] = batch.pop("clip")
    return batch


def pil_frame(frame_CHW, flip, factors, order):
    """The reference: torchvision's functions on a PIL image."""
    image = Image.fromarray(frame_CHW.permute(1, 2, 0).numpy())
    image = pil.hflip(image) if flip else image
    operations = (pil.adjust_brightness, pil.adjust_contrast, pil.adjust_saturation, pil.adjust_hue)
    if factors.tolist() != [1, 1, 1, 0]:
        for operation in order.tolist():
            image = operations[operation](image, float(factors[operation]))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def pil_batch(batch):
    clips = batch["clips"]
    expected = torch.zeros(clips.shape)
    for b, k, t in np.ndindex(*clips.shape[:2], clips.shape[3]):
        drawn = (batch["flip"][b, k], batch["jitter"][b, k, t], batch["jitter_order"][b, k, t])
        expected[b, k, :, t] = pil_frame(clips[b, k, :, t], *drawn)
    return expected


def test_it_equals_pil():
    batch = collated(PAPER, size=(12, 2))
    difference = (PAPER.apply(batch) - pil_batch(batch)).abs()
    assert difference.mean() < 1
    assert difference.mean(dim=(2, 4, 5)).quantile(0.95) < 2


def test_without_hue_it_equals_pil_to_one_grey_level():
    """PIL's only loss beyond whole grey levels is its 8-bit hue."""
    augmentation = replace(PAPER, hue=0.0)
    batch = collated(augmentation)
    jittered = (batch["jitter"] != torch.tensor([1.0, 1, 1, 0])).any(-1)
    assert jittered.any()
    assert not jittered.all()
    # a hue of 0 sends PIL through its 8-bit hue as well: leave that step out of the reference
    expected = torch.zeros(batch["clips"].shape)
    operations = (pil.adjust_brightness, pil.adjust_contrast, pil.adjust_saturation)
    for b, k, t in np.ndindex(4, 2, FRAMES):
        image = Image.fromarray(batch["clips"][b, k, :, t].permute(1, 2, 0).numpy())
        image = pil.hflip(image) if batch["flip"][b, k] else image
        for operation in batch["jitter_order"][b, k, t].tolist():
            if operation < 3:
                image = operations[operation](image, float(batch["jitter"][b, k, t, operation]))
        expected[b, k, :, t] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    difference = (augmentation.apply(batch) - expected).abs()
    assert difference.mean() < 0.05
    assert difference.max() <= 5  # one grey level, amplified by up to 1.8 twice


@pytest.mark.parametrize("operation", range(4))
def test_each_operation_alone_equals_pil(operation):
    strengths = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    name = list(strengths)[operation]
    augmentation = replace(PAPER, **{**strengths, name: 0.5}, jitter_probability=1.0, flip=0.0)
    batch = collated(augmentation)
    factors = batch["jitter"][..., operation]
    assert factors.unique().numel() == factors.numel()
    function = getattr(pil, f"adjust_{name}")
    expected = torch.zeros(batch["clips"].shape)
    for b, k, t in np.ndindex(4, 2, FRAMES):
        image = Image.fromarray(batch["clips"][b, k, :, t].permute(1, 2, 0).numpy())
        image = function(image, float(factors[b, k, t]))
        expected[b, k, :, t] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    difference = (augmentation.apply(batch) - expected).abs()
    # PIL stores the hue in 8 bits
    assert difference.mean() < (2 if name == "hue" else 0.02)


def test_one_set_of_factors_per_clip_turns_contrast_about_the_mean_of_the_clip():
    augmentation = replace(
        PAPER, brightness=0.0, saturation=0.0, hue=0.0, jitter_per="clip", jitter_probability=1.0, flip=0.0
    )
    batch = collated(augmentation)
    factor = batch["jitter"][..., 1]
    assert (factor == factor[..., :1]).all()
    clips = batch["clips"].float()
    weights = torch.tensor([0.299, 0.587, 0.114])
    mean = torch.einsum("bkcthw,c->bkthw", clips, weights).mean((2, 3, 4))[..., None, None, None, None]
    factor = factor[..., 0][..., None, None, None, None]
    expected = (factor * clips + (1 - factor) * mean).clamp(0, 255)
    assert (augmentation.apply(batch) - expected).abs().max() < 2


def test_nothing_drawn_changes_nothing():
    batch = collated(PLAIN)
    augmented = PLAIN.apply(batch)
    assert augmented.dtype == torch.float32
    assert augmented.is_contiguous()
    assert torch.equal(augmented, batch["clips"].float())


def test_frames_that_are_not_jittered_pass_through_the_jitter_unchanged():
    batch = collated(replace(PAPER, jitter_probability=0.5, flip=0.0))
    untouched = (batch["jitter"] == torch.tensor([1.0, 1, 1, 0])).all(-1)
    assert 0 < untouched.sum() < untouched.numel()
    frames, augmented = batch["clips"].float().transpose(2, 3), PAPER.apply(batch).transpose(2, 3)
    assert torch.equal(augmented[untouched], frames[untouched])
    assert (augmented[~untouched] != frames[~untouched]).any()


@pytest.mark.parametrize("jitter_per", ["frame", "clip"])
def test_working_in_parts_changes_nothing(jitter_per, monkeypatch):
    augmentation = replace(PAPER, jitter_per=jitter_per)
    batch = collated(augmentation)
    whole = augmentation.apply(batch)
    monkeypatch.setattr("vssl.data.augmentation.CACHED_VALUES", 3 * batch["clips"][0, 0].numel())
    assert torch.equal(augmentation.apply(batch), whole)


def test_the_batch_itself_is_left_alone():
    batch = collated(replace(PAPER, pixel_max=1.0))
    before = {name: values.clone() for name, values in batch.items()}
    PAPER.apply(batch)
    assert all(torch.equal(batch[name], values) for name, values in before.items())


def test_flip_mirrors_whole_clips_about_half_of_them():
    flipping = replace(PLAIN, flip=0.5)
    batch = collated(flipping, size=(10, 2))
    augmented, clips, flip = flipping.apply(batch), batch["clips"].float(), batch["flip"]
    assert 4 <= flip.sum() <= 16
    assert torch.equal(augmented[flip], clips[flip].flip(-1))
    assert torch.equal(augmented[~flip], clips[~flip])


def test_grey_makes_the_channels_of_a_clip_equal():
    greying = replace(PLAIN, grey=0.5)
    batch = collated(greying, size=(10, 2))
    augmented, grey = greying.apply(batch), batch["grey"]
    assert 4 <= grey.sum() <= 16
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]
    expected = (batch["clips"][grey] * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1, -1)
    assert (augmented[grey] - expected).abs().max() <= 0.51
    assert torch.equal(augmented[~grey], batch["clips"][~grey].float())


def test_grey_comes_before_the_jitter():
    """Turning the hue changes how bright the grey of a colour is, so that the order matters."""
    jittering = replace(PAPER, jitter_per="clip", jitter_probability=1.0, flip=0.0)
    batch = collated(replace(jittering, grey=1.0))
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]
    grey = (batch["clips"] * weights).sum(2, keepdim=True).round().expand_as(batch["clips"])
    expected = jittering.apply({**batch, "clips": grey.to(torch.uint8)})
    assert (replace(jittering, grey=1.0).apply(batch) - expected).abs().mean() < 0.5


def test_pixel_max_and_mean_and_std():
    batch = collated(PLAIN)
    clips = batch["clips"].float()
    assert torch.allclose(replace(PLAIN, pixel_max=1.0).apply(batch), clips / 255)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    normalised = replace(PLAIN, pixel_max=1.0, mean=mean, std=std).apply(batch)
    expected = [(clips[:, :, c] / 255 - mean[c]) / std[c] for c in range(3)]
    assert torch.allclose(normalised, torch.stack(expected, dim=2), atol=1e-5)


def where(frames_THWC, rng, augmentation):
    """Offsets of the crop, from frames whose red is the row and green the column."""
    clip_CTHW = augmentation.sample(frames_THWC, rng)["clip"]
    assert (clip_CTHW == clip_CTHW[:, :1]).all()
    return tuple(clip_CTHW[:2, 0, 0, 0].tolist())


@pytest.fixture
def ruler():
    y, x = np.mgrid[:10, :12].astype(np.uint8)
    return np.repeat(np.stack([y, x, x], axis=-1)[None], 3, axis=0)


def test_random_crops_reach_every_place_up_to_both_ends(ruler):
    cropping = replace(PAPER, resize=[10, 12], crop=8)
    places = {where(ruler, np.random.default_rng(n), cropping) for n in range(300)}
    assert places == {(top, left) for top in range(3) for left in range(5)}


def test_the_centre_crop_is_in_the_centre(ruler):
    assert where(ruler, np.random.default_rng(0), replace(PLAIN, resize=[10, 12], crop=8)) == (1, 2)


def test_random_regions_have_the_areas_and_aspects_of_random_resized_crop():
    rng = np.random.default_rng(0)
    regions = [random_region(240, 320, [0.4, 1.0], rng) for _ in range(2000)]
    tops, bottoms = np.array([(rows.start, rows.stop) for rows, _ in regions]).T
    lefts, rights = np.array([(columns.start, columns.stop) for _, columns in regions]).T
    heights, widths = bottoms - tops, rights - lefts
    areas, aspects = heights * widths / (240 * 320), widths / heights
    assert tops.min() == lefts.min() == 0
    assert (bottoms.max(), rights.max()) == (240, 320)
    assert areas.min() > 0.395
    assert aspects.min() > 0.74
    assert aspects.max() < 1.345
    torch.manual_seed(0)
    image, limits = torch.empty(3, 240, 320), ([0.4, 1.0], [3 / 4, 4 / 3])
    reference = np.array([RandomResizedCrop.get_params(image, *limits) for _ in range(2000)])
    for one, other in zip((tops, lefts, heights, widths), reference.T, strict=True):
        assert abs(one.mean() - other.mean()) < 4 * other.std() * (2 / 2000) ** 0.5
        assert 0.9 < one.std() / other.std() < 1.1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((30, 200), (0, 30, 80, 120)),  # 30 * 4/3 = 40 columns
        ((201, 30), (80, 120, 0, 30)),  # half of 161 spare rows above
        ((90, 100), (0, 90, 0, 100)),
    ],
)
def test_a_region_that_never_fits_is_the_centre(size, expected):
    rows, columns = random_region(*size, [0.99, 1.0], np.random.default_rng(0))
    assert (rows.start, rows.stop, columns.start, columns.stop) == expected


def test_a_random_resized_crop_is_taken_from_the_frame_as_it_is():
    resized = replace(PAPER, crop_area=[0.4, 1.0], resize=[24, 24])
    frames = coloured_frames(0, height=60, width=80)
    for seed in range(5):
        rows, columns = random_region(60, 80, [0.4, 1.0], np.random.default_rng(seed))
        part = torch.from_numpy(frames[:, rows, columns]).permute(3, 0, 1, 2).float()
        expected = interpolate(part, [SIDE, SIDE], mode="bilinear", antialias=False)
        clip = resized.sample(frames, np.random.default_rng(seed))["clip"]
        assert clip.is_contiguous()
        assert (clip - expected).abs().max() <= 1  # rounded along rows, then along columns


def test_resize_is_bilinear_without_antialiasing():
    frames = coloured_frames(0, height=40, width=60)
    got = replace(PLAIN, resize=[24, 32]).sample(frames, np.random.default_rng(0))["clip"]

    def positions(size, old):
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, old - 1), at - low

    top, bottom, down = positions(24, 40)
    left, right, along = positions(32, 60)
    rows = frames[:, top] * (1 - down)[:, None, None] + frames[:, bottom] * down[:, None, None]
    resized = rows[:, :, left] * (1 - along)[:, None] + rows[:, :, right] * along[:, None]
    expected = resized[:, :, 4:28].transpose(3, 0, 1, 2)
    assert np.abs(got.numpy() - expected).max() < 1


def test_samples_depend_on_the_generator_only_and_draw_the_same_count():
    first = PAPER.sample(coloured_frames(0), np.random.default_rng(5))
    again = PAPER.sample(coloured_frames(0), np.random.default_rng(5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["clip"].is_contiguous()
    assert first["clip"].shape == (3, FRAMES, SIDE, SIDE)
    for crop_area in (None, [0.9, 1.0]):
        always, never = np.random.default_rng(5), np.random.default_rng(5)
        all_of_it = replace(PAPER, flip=1.0, grey=1.0, jitter_probability=1.0, crop_area=crop_area)
        none_of_it = replace(PAPER, flip=0.0, grey=0.0, jitter_probability=1e-9, crop_area=crop_area)
        all_of_it.sample(coloured_frames(0), always)
        none_of_it.sample(coloured_frames(1, height=200), never)
        assert always.random() == never.random()


def test_factors_and_orders_have_the_distribution_of_colorjitter():
    drawn = [PAPER.sample(coloured_frames(0), np.random.default_rng(n)) for n in range(200)]
    factors = torch.cat([sample["jitter"] for sample in drawn])
    orders = torch.cat([sample["jitter_order"] for sample in drawn])
    jittered = (factors != torch.tensor([1.0, 1, 1, 0])).any(-1)
    assert 0.75 < jittered.float().mean() < 0.85
    low, high = torch.tensor([0.2, 0.2, 0.2, -0.2]), torch.tensor([1.8, 1.8, 1.8, 0.2])
    assert ((factors >= low) & (factors <= high)).all()
    assert torch.allclose(factors[jittered].mean(0), (low + high) / 2, atol=0.06)
    assert torch.allclose(factors[jittered].std(0), (high - low) / 12**0.5, atol=0.05)
    assert (orders.sort(-1).values == torch.arange(4)).all()
    assert len(orders.unique(dim=0)) == 24


def test_a_brightness_above_1_never_makes_negative_factors():
    strong = replace(PAPER, brightness=1.5, jitter_probability=1.0)
    factors = strong.sample(coloured_frames(0), np.random.default_rng(0))["jitter"]
    assert (factors[:, 0] >= 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 25},
        {"crop_area": [0.0, 1.0]},
        {"crop_area": [0.4]},
        {"crop_area": [0.4, 1.0], "random_crop": False},
        {"hue": 0.6},
        {"jitter_per": "video"},
        {"mean": [0.5] * 3},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(VsslError, match="augmentation"):
        replace(PAPER, **wrong)


def test_the_yaml_files_are_the_published_recipes_and_the_one_for_testing():
    sizes = {"resize": [24, 32], "crop": 24}

    def config(name):
        values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        assert values.pop("_target_") == "vssl.data.augmentation.Augmentation"
        return Augmentation(**{**values, **sizes})

    assert config("frame_jitter") == PAPER
    assert config("rspnet") == replace(
        PAPER,
        crop_area=[0.4, 1.0],
        jitter_probability=1.0,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.4,
        jitter_per="clip",
        grey=0.2,
        pixel_max=1.0,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )
    plain = config("center_crop")
    batch = collated(plain)
    assert torch.equal(plain.apply(batch), batch["clips"].float())
