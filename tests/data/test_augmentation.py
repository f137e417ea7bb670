from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import default_collate
from torchvision import transforms
from torchvision.transforms import functional as pil

from conftest import ROOT, augmentation, composed
from vssl.data.dataset import ClipDataset
from vssl.data.operations.crop import CenterCrop, RandomCrop
from vssl.data.operations.flip import Flip
from vssl.data.operations.grey import Grey
from vssl.data.operations.jitter import ColorJitter
from vssl.data.operations.resized_crop import RandomResizedCrop, random_region
from vssl.errors import VsslError
from vssl.pipeline import plan
from vssl.stage.build import build
from vssl.stage.construct import Machine, Stage
from vssl.video import Video

CONF = ROOT / "conf" / "augmentation"
PRESETS = sorted(path.stem for path in CONF.glob("*.yaml"))
FRAMES, SIDE = 6, 24
PAPER = augmentation()
JITTER = PAPER.operations["jitter"]
ALWAYS = replace(JITTER, probability=1.0)
PLAIN = PAPER.without_randomness()


def preset(name):
    """The node of a preset, for small frames."""
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    node["crop"].update(resize=[24, 32], size=24)
    return node


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
        drawn = (batch["flip.chosen"][b, k], batch["jitter.factors"][b, k, t], batch["jitter.order"][b, k, t])
        expected[b, k, :, t] = pil_frame(clips[b, k, :, t], *drawn)
    return expected


def test_it_equals_pil():
    batch = collated(PAPER, size=(12, 2))
    difference = (PAPER.apply(batch) - pil_batch(batch)).abs()
    assert difference.mean() < 1
    assert difference.mean(dim=(2, 4, 5)).quantile(0.95) < 2


def test_without_hue_it_equals_pil_to_one_grey_level():
    """PIL's only loss beyond whole grey levels is its 8-bit hue."""
    no_hue = augmentation(jitter=replace(JITTER, hue=0.0))
    batch = collated(no_hue)
    jittered = (batch["jitter.factors"] != torch.tensor([1.0, 1, 1, 0])).any(-1)
    assert jittered.any()
    assert not jittered.all()
    # a hue of 0 sends PIL through its 8-bit hue as well: leave that step out of the reference
    expected = torch.zeros(batch["clips"].shape)
    operations = (pil.adjust_brightness, pil.adjust_contrast, pil.adjust_saturation)
    for b, k, t in np.ndindex(4, 2, FRAMES):
        image = Image.fromarray(batch["clips"][b, k, :, t].permute(1, 2, 0).numpy())
        image = pil.hflip(image) if batch["flip.chosen"][b, k] else image
        for operation in batch["jitter.order"][b, k, t].tolist():
            if operation < 3:
                image = operations[operation](image, float(batch["jitter.factors"][b, k, t, operation]))
        expected[b, k, :, t] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    difference = (no_hue.apply(batch) - expected).abs()
    assert difference.mean() < 0.05
    assert difference.max() <= 5  # one grey level, amplified by up to 1.8 twice


@pytest.mark.parametrize("operation", range(4))
def test_each_operation_alone_equals_pil(operation):
    strengths = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    name = list(strengths)[operation]
    alone = augmentation(jitter=replace(ALWAYS, **{**strengths, name: 0.5}), flip=None)
    batch = collated(alone)
    factors = batch["jitter.factors"][..., operation]
    assert factors.unique().numel() == factors.numel()
    function = getattr(pil, f"adjust_{name}")
    expected = torch.zeros(batch["clips"].shape)
    for b, k, t in np.ndindex(4, 2, FRAMES):
        image = Image.fromarray(batch["clips"][b, k, :, t].permute(1, 2, 0).numpy())
        image = function(image, float(factors[b, k, t]))
        expected[b, k, :, t] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    difference = (alone.apply(batch) - expected).abs()
    # PIL stores the hue in 8 bits
    assert difference.mean() < (2 if name == "hue" else 0.02)


def test_one_set_of_factors_per_clip_turns_contrast_about_the_mean_of_the_clip():
    contrast = replace(ALWAYS, brightness=0.0, saturation=0.0, hue=0.0, per="clip")
    turning = augmentation(jitter=contrast, flip=None)
    batch = collated(turning)
    factor = batch["jitter.factors"][..., 1]
    assert (factor == factor[..., :1]).all()
    clips = batch["clips"].float()
    weights = torch.tensor([0.299, 0.587, 0.114])
    mean = torch.einsum("bkcthw,c->bkthw", clips, weights).mean((2, 3, 4))[..., None, None, None, None]
    factor = factor[..., 0][..., None, None, None, None]
    expected = (factor * clips + (1 - factor) * mean).clamp(0, 255)
    assert (turning.apply(batch) - expected).abs().max() < 2


def test_nothing_drawn_changes_nothing():
    batch = collated(PLAIN)
    augmented = PLAIN.apply(batch)
    assert augmented.dtype == torch.float32
    assert augmented.is_contiguous()
    assert torch.equal(augmented, batch["clips"].float())


def test_frames_that_are_not_jittered_pass_through_the_jitter_unchanged():
    jittering = augmentation(jitter=replace(JITTER, probability=0.5), flip=None)
    batch = collated(jittering)
    untouched = (batch["jitter.factors"] == torch.tensor([1.0, 1, 1, 0])).all(-1)
    assert 0 < untouched.sum() < untouched.numel()
    frames, augmented = batch["clips"].float().transpose(2, 3), jittering.apply(batch).transpose(2, 3)
    assert torch.equal(augmented[untouched], frames[untouched])
    assert (augmented[~untouched] != frames[~untouched]).any()


@pytest.mark.parametrize("per", ["frame", "clip"])
def test_working_in_parts_changes_nothing(per, monkeypatch):
    jittering = augmentation(jitter=replace(JITTER, per=per))
    batch = collated(jittering)
    whole = jittering.apply(batch)
    monkeypatch.setattr("vssl.data.operations.jitter.CACHED_VALUES", 3 * batch["clips"][0, 0].numel())
    assert torch.equal(jittering.apply(batch), whole)


def test_the_batch_itself_is_left_alone():
    for one in (augmentation(pixel_max=1.0), augmentation(pixel_max=1.0, flip=None, jitter=None)):
        batch = collated(one)
        before = {name: values.clone() for name, values in batch.items()}
        one.apply(batch)
        assert all(torch.equal(batch[name], values) for name, values in before.items())


def test_flip_mirrors_whole_clips_about_half_of_them():
    flipping = augmentation(jitter=None)
    batch = collated(flipping, size=(10, 2))
    augmented, clips, flip = flipping.apply(batch), batch["clips"].float(), batch["flip.chosen"]
    assert 4 <= flip.sum() <= 16
    assert torch.equal(augmented[flip], clips[flip].flip(-1))
    assert torch.equal(augmented[~flip], clips[~flip])


def test_a_flip_of_floats_is_that_of_bytes():
    clips = torch.from_numpy(coloured_frames(0)).permute(0, 3, 1, 2)[:, :, None]
    drawn = {"chosen": torch.arange(FRAMES) % 2 == 0}
    assert torch.equal(Flip(0.5).apply(clips.float(), drawn), Flip(0.5).apply(clips, drawn).float())


def test_grey_makes_the_channels_of_a_clip_equal():
    greying = augmentation(flip=None, grey=Grey(0.5), jitter=None)
    batch = collated(greying, size=(10, 2))
    augmented, grey = greying.apply(batch), batch["grey.chosen"]
    assert 4 <= grey.sum() <= 16
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]
    expected = (batch["clips"][grey] * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1, -1)
    assert (augmented[grey] - expected).abs().max() <= 0.51
    assert torch.equal(augmented[~grey], batch["clips"][~grey].float())


def test_grey_comes_before_the_jitter():
    """Turning the hue changes how bright the grey of a colour is, so that the order matters."""
    jittering = augmentation(jitter=replace(ALWAYS, per="clip"), flip=None)
    both = augmentation(jitter=replace(ALWAYS, per="clip"), flip=None, grey=Grey(1.0))
    batch = collated(both)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]
    grey = (batch["clips"] * weights).sum(2, keepdim=True).round().expand_as(batch["clips"])
    expected = jittering.apply({**batch, "clips": grey.to(torch.uint8)})
    assert (both.apply(batch) - expected).abs().mean() < 0.5


def test_pixel_max_and_mean_and_std():
    batch = collated(PLAIN)
    clips = batch["clips"].float()
    to_1 = augmentation(pixel_max=1.0).without_randomness()
    assert torch.allclose(to_1.apply(batch), clips / 255)
    assert torch.equal(to_1.to_grey_levels(to_1.apply(batch)), batch["clips"])
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    scaling = augmentation(1.0, mean, std).without_randomness()
    normalised = scaling.apply(batch)
    assert torch.equal(scaling.to_grey_levels(normalised), batch["clips"])
    expected = [(clips[:, :, c] / 255 - mean[c]) / std[c] for c in range(3)]
    assert torch.allclose(normalised, torch.stack(expected, dim=2), atol=1e-5)


def where(frames_THWC, rng, crop):
    """Offsets of the crop, from frames whose red is the row and green the column."""
    clip_CTHW = augmentation(crop=crop).sample(frames_THWC, rng)["clip"]
    assert (clip_CTHW == clip_CTHW[:, :1]).all()
    return tuple(clip_CTHW[:2, 0, 0, 0].tolist())


@pytest.fixture
def ruler():
    y, x = np.mgrid[:10, :12].astype(np.uint8)
    return np.repeat(np.stack([y, x, x], axis=-1)[None], 3, axis=0)


def test_random_crops_reach_every_place_up_to_both_ends(ruler):
    places = {where(ruler, np.random.default_rng(n), RandomCrop([10, 12], 8)) for n in range(300)}
    assert places == {(top, left) for top in range(3) for left in range(5)}


def test_the_centre_crop_is_in_the_centre(ruler):
    assert where(ruler, np.random.default_rng(0), CenterCrop([10, 12], 8)) == (1, 2)


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
    reference = np.array([transforms.RandomResizedCrop.get_params(image, *limits) for _ in range(2000)])
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
    resized = augmentation(crop=RandomResizedCrop([24, 24], 24, [0.4, 1.0]))
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
    got = PLAIN.sample(frames, np.random.default_rng(0))["clip"]

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
    for crop in (RandomCrop([24, 32], 24), RandomResizedCrop([24, 32], 24, [0.9, 1.0])):
        always, never = np.random.default_rng(5), np.random.default_rng(5)
        seldom = replace(JITTER, probability=1e-9)
        all_of_it = augmentation(crop=crop, flip=Flip(1.0), grey=Grey(1.0), jitter=ALWAYS)
        none_of_it = augmentation(crop=crop, flip=Flip(0.0), grey=Grey(0.0), jitter=seldom)
        all_of_it.sample(coloured_frames(0), always)
        none_of_it.sample(coloured_frames(1, height=200), never)
        assert always.random() == never.random()


def test_factors_and_orders_have_the_distribution_of_colorjitter():
    drawn = [PAPER.sample(coloured_frames(0), np.random.default_rng(n)) for n in range(200)]
    factors = torch.cat([sample["jitter.factors"] for sample in drawn])
    orders = torch.cat([sample["jitter.order"] for sample in drawn])
    jittered = (factors != torch.tensor([1.0, 1, 1, 0])).any(-1)
    assert 0.75 < jittered.float().mean() < 0.85
    low, high = torch.tensor([0.2, 0.2, 0.2, -0.2]), torch.tensor([1.8, 1.8, 1.8, 0.2])
    assert ((factors >= low) & (factors <= high)).all()
    assert torch.allclose(factors[jittered].mean(0), (low + high) / 2, atol=0.06)
    assert torch.allclose(factors[jittered].std(0), (high - low) / 12**0.5, atol=0.05)
    assert (orders.sort(-1).values == torch.arange(4)).all()
    assert len(orders.unique(dim=0)) == 24


def test_a_brightness_above_1_never_makes_negative_factors():
    strong = augmentation(jitter=replace(ALWAYS, brightness=1.5))
    factors = strong.sample(coloured_frames(0), np.random.default_rng(0))["jitter.factors"]
    assert (factors[:, 0] >= 0).all()


WRONG = {  # an option as it is typed: what is said after it
    "crop.size=25": "does not fit into resize=[24,32]; choose 24 or less",
    "crop.size=0": "too small; choose 1 or more",
    "crop.resize=[24]": "not a size; give [height,width], each 1 or more",
    "crop.resize=[0,32]": "not a size; give",
    "crop.area=[0.0,1.0]": "not a range of shares; give two numbers above 0 and up to 1, the smaller",
    "crop.area=[1.0,0.4]": "not a range of shares; give",
    "crop.area=[0.4]": "not a range of shares; give",
    "flip.probability=1.1": "not a share; choose a number from 0 to 1",
    "grey.probability=-0.1": "not a share; choose",
    "jitter.probability=2": "not a share; choose",
    "jitter.brightness=-1": "too small; choose 0 or more",
    "jitter.contrast=-1": "too small; choose 0 or more",
    "jitter.saturation=-1": "too small; choose 0 or more",
    "jitter.hue=0.6": "out of range; choose a number from 0 to 0.5",
    "jitter.per=clop": "no such value; did you mean 'clip'?",
    "pixel_max=0": "too small; choose a number above 0",
    "mean=[0.5]": "not one number per channel; give three: [red,green,blue]",
    "std=[0.5,0.5,0.0]": "too small; choose numbers above 0",
    "std=null": "mean and std go together; give three numbers, or set both to null",
    "crop=null": "no crop decides the size of the frames; give the node of one, such as vssl.data.",
    "flip=0": "not an Operation (a node with a _target_) or null; set one of its own options (flip.NAME=",
}


@pytest.mark.parametrize(("typed", "message"), WRONG.items())
def test_impossible_settings_are_refused(typed, message):
    path, _, value = typed.partition("=")
    node = OmegaConf.create(preset("rspnet"))
    OmegaConf.update(node, path, yaml.safe_load(value))
    with pytest.raises(VsslError) as caught:
        build(OmegaConf.to_container(node), "augmentation")
    assert str(caught.value).startswith(f"augmentation.{typed}: {message}")
    assert "\n" not in str(caught.value)


def test_one_crop_is_enough():
    with pytest.raises(VsslError, match=r"^second=CenterCrop: a second crop beside crop; set second=null or"):
        augmentation(second=CenterCrop([8, 8], 8))


def test_the_yaml_files_are_the_published_recipes_and_the_one_for_testing():
    paper, rspnet, plain, crop = (
        build(preset(name), "augmentation") for name in ("frame_jitter", "rspnet", "center_crop", "crop")
    )
    assert paper.operations == PAPER.operations
    assert (paper.pixel_max, paper.mean, paper.std) == (255.0, None, None)
    assert rspnet.operations == {
        "crop": RandomResizedCrop([24, 32], 24, [0.4, 1.0]),
        "flip": Flip(0.5),
        "grey": Grey(0.2),
        "jitter": ColorJitter(1.0, 0.4, 0.4, 0.4, 0.4, "clip"),
    }
    assert (rspnet.pixel_max, rspnet.mean, rspnet.std) == (1.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert plain.operations == {"crop": CenterCrop([24, 32], 24)}
    assert (plain.pixel_max, plain.mean, plain.std) == (255.0, None, None)
    assert crop.operations == {"crop": RandomCrop([24, 32], 24), "flip": Flip(0.0), "grey": Grey(0.0)}
    assert (crop.pixel_max, crop.mean, crop.std) == (1.0, None, None)


@pytest.mark.parametrize("name", PRESETS)
def test_without_randomness_nothing_is_drawn_and_sizes_and_range_stay(name):
    random = build(preset(name), "augmentation")
    still, frames = random.without_randomness(), coloured_frames(0, height=60, width=80)
    one, other = np.random.default_rng(0), np.random.default_rng(1)
    samples = [still.sample(frames, rng) for rng in (one, other)]
    assert torch.equal(samples[0]["clip"], samples[1]["clip"])
    assert one.random() == np.random.default_rng(0).random()
    assert samples[0].keys() == {"clip"}
    assert samples[0]["clip"].shape == random.sample(frames, one)["clip"].shape
    assert (still.crop.resize, still.crop.size) == (random.crop.resize, random.crop.size)
    assert (still.pixel_max, still.mean, still.std) == (random.pixel_max, random.mean, random.std)
    assert still.crop.place == "centre"


OPERATION = """
from dataclasses import dataclass
import torch
from vssl.data.operations import Operation

@dataclass(frozen=True)
class Dim(Operation):
    strength: float

    def draw(self, num_frames, rng):
        return {"factors": torch.from_numpy(rng.uniform(1 - self.strength, 1, num_frames))}

    def apply(self, pixels_NCTHW, drawn):
        return pixels_NCTHW.mul_(drawn["factors"][:, None, :, None, None])

    def still(self):
        return None
"""


class Frames:
    """A source of one video of grey frames."""

    videos = (Video("a", 100),)

    def read(self, video, frames_T):
        return np.full((len(frames_T), 48, 48, 3), 200, np.uint8)


def test_an_operation_from_elsewhere_is_one_file_and_one_option(tmp_path, monkeypatch):
    (tmp_path / "mine_dim.py").write_text(OPERATION)
    monkeypatch.syspath_prepend(tmp_path)
    config = composed("+pretext.augmentation.dim={_target_: mine_dim.Dim, strength: 0.5}")
    [pretext] = [Stage(spec) for spec in plan(config) if spec.name == "pretext"]
    pretext.check(Machine())
    dimming = pretext.augmentation
    assert list(dimming.operations)[-1] == "dim"
    data = ClipDataset(Frames(), pretext.task.sampler, dimming, seed=0, repeat=1, replace_bad=False)
    batch = default_collate([data[0, 0], data[1, 0]])
    factors_BKT = batch["dim.factors"]
    assert factors_BKT.shape == batch["clips"].shape[:2] + batch["clips"].shape[3:4]
    expected = 200 * factors_BKT[:, :, None, :, None, None].expand(batch["clips"].shape)
    assert torch.allclose(dimming.apply(batch).double(), expected)
    assert "dim" not in dimming.without_randomness().operations
