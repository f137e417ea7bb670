"""CtP: frames and key frames by hand, what is pasted where, mirrored boxes, targets, and the loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from conftest import augmentation
from vssl.auxiliary.auxskd import PairSampler
from vssl.backbone.tiny import Tiny
from vssl.data.dataset import ClipDataset
from vssl.data.operations.flip import Flip
from vssl.errors import VsslError
from vssl.pretext.ctp import CTP, CTPSampler, alpha, between, draw_keys, draw_track, mirrored, paste, targets
from vssl.video import Video

SAMPLER = CTPSampler(num_frames=16, max_stride=5, num_patches=3)


@pytest.mark.parametrize("num_frames", [100, 40, 10])
def test_frames_at_uneven_distances(num_frames):
    strides = set()
    for seed in range(300):
        frames_KT = SAMPLER.plan(num_frames, np.random.default_rng(seed)).frames_KT
        assert frames_KT.shape == (1, 16)
        rng = np.random.default_rng(seed)
        stride = int(rng.integers(1, 6))
        start = int(rng.integers(max(0, num_frames - 15 * stride - 1) + 1))
        jitter = rng.integers(stride, size=16)
        assert frames_KT[0].tolist() == [
            min(start + i * stride + jitter[i], num_frames - 1) for i in range(16)
        ]
        strides.add(stride)
    assert strides == {1, 2, 3, 4, 5}


def test_key_frames():
    """One in the middle, give or take 2 of 16 frames; two at 5 and 10, give or take 1."""
    drawn = [draw_keys(16, np.random.default_rng(seed)).tolist() for seed in range(600)]
    inner = [keys[1:-1] for keys in drawn]
    assert all(keys[0] == 0 and keys[-1] == 15 for keys in drawn)
    counts = np.bincount([len(keys) for keys in inner]) / 600
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=0.07)
    assert {keys[0] for keys in inner if len(keys) == 1} == {6, 7, 8, 9}
    assert {tuple(keys) for keys in inner if len(keys) == 2} == {(a, b) for a in (4, 5) for b in (9, 10)}


@pytest.mark.parametrize("frames", range(4, 9))
def test_key_frames_of_short_clips_part_them_evenly(frames):
    for seed in range(40):
        keys = draw_keys(frames, np.random.default_rng(seed))
        assert keys[0] == 0
        assert keys[-1] == frames - 1
        assert (np.diff(keys) > 0).all()
    rng, clips = np.random.default_rng(0), torch.zeros(1, 3, frames, 32, 32, dtype=torch.uint8)
    for _ in range(20):
        assert CTPSampler(frames, 5, 3).edit(clips, rng)[1]["boxes"].shape == (1, 3, frames, 4)


def test_values_between_key_frames():
    seen = set()
    for seed in range(60):
        values = between(np.array([0, 4, 6]), np.array([[0.0], [16.0], [20.0]]), np.random.default_rng(seed))
        assert values.shape == (7, 1)
        assert values[[0, 4, 6], 0].tolist() == [0, 16, 20]
        seen.add(tuple(values[:5, 0].tolist()))
    assert seen == {(0, 4, 8, 12, 16), (0, 1, 4, 9, 16), (0, 7, 12, 15, 16)}


@pytest.mark.parametrize("side", [112, 32])
def test_a_track_stays_inside_and_does_not_jump(side):
    for seed in range(200):
        boxes = draw_track(16, side, np.random.default_rng(seed))
        assert boxes.shape == (16, 4)
        assert boxes.min() >= 0
        assert boxes.max() <= side
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        # In the fastest frame of a rising pace it goes up to twice as far; boxes are whole pixels.
        assert np.abs(np.diff(centres, axis=0)).max() <= 2 * 3 * side / 112 + 2


def test_shapes_and_soft_edges():
    ellipse, rhombus = alpha((8, 8), 1, None), alpha((8, 8), 2, None)
    assert alpha((4, 6), 0, None).tolist() == [[1.0] * 6] * 4
    assert ellipse[0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert rhombus[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 0]
    assert rhombus[1].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    soft = alpha((10, 10), 0, 0.4)  # distances .05, .15, ... .45: the outermost one is half way
    assert soft[5].tolist() == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.5])


def test_what_the_source_box_holds_is_pasted_into_the_others():
    """A clip of noise: outside of the boxes nothing changes; inside, the first frame always does."""
    clip = torch.rand(3, 16, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    shown = []
    for seed in range(60):
        boxes = draw_track(16, 32, np.random.default_rng(seed))
        pasted = paste(clip, boxes, np.random.default_rng(seed))
        source = int(np.random.default_rng(seed).integers(16))
        for t, (left, top, right, bottom) in enumerate(boxes.tolist()):
            outside = torch.ones(32, 32, dtype=torch.bool)
            outside[top:bottom, left:right] = False
            assert torch.equal(pasted[:, t][:, outside], clip[:, t][:, outside])
            if t not in (0, source):
                shown.append(not torch.equal(pasted[:, t], clip[:, t]))
        assert torch.allclose(pasted[:, source], clip[:, source], atol=1e-3)  # onto itself
    assert 0.7 < np.mean(shown) < 0.88


def test_edit_adds_patches_and_their_boxes_and_larger_ones_lie_below():
    clips = torch.randint(
        256, (1, 3, 16, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    edited, added = SAMPLER.edit(clips, np.random.default_rng(0))
    assert edited.dtype == torch.uint8
    assert not torch.equal(edited, clips)
    boxes = added["boxes"]
    assert (boxes.shape, boxes.dtype) == ((1, 3, 16, 4), torch.float32)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1).mean(dim=-1)[0]
    assert areas.tolist() == sorted(areas.tolist(), reverse=True)


class Noise:
    videos = (Video("a", 100),)

    def read(self, video, frames_T):
        return np.random.default_rng(0).integers(0, 256, (len(frames_T), 40, 40, 3), np.uint8)


def test_boxes_travel_with_the_batch_and_auxskds_clips_get_none():
    settings = {"augmentation": augmentation(), "seed": 0, "repeat": 1, "replace_bad": False}
    one = ClipDataset(Noise(), SAMPLER, **settings)
    assert one[0, 0]["boxes"].shape == (1, 3, 16, 4)
    assert torch.equal(one[0, 0]["boxes"], one[0, 0]["boxes"])
    assert not torch.equal(one[0, 0]["boxes"], one[1, 0]["boxes"])
    pairs = ClipDataset(
        Noise(), PairSampler(SAMPLER, True), augmentation(), seed=0, repeat=1, replace_bad=False
    )
    assert "boxes" not in pairs[0, 0]
    assert pairs[0, 0]["clips"].shape[:2] == (2, 3)


def test_boxes_are_mirrored_as_their_clips_are():
    boxes = torch.tensor([[[[[2.0, 3, 7, 9]]]], [[[[2.0, 3, 7, 9]]]]])
    found = mirrored(boxes, torch.tensor([[True], [False]]), 32)
    assert found.flatten().tolist() == [25, 3, 30, 9, 2, 3, 7, 9]
    clips = torch.zeros(2, 1, 4, 32, 32)
    clips[..., 3:9, 2:7] = 1
    turned = Flip(1.0).apply(clips, {"chosen": torch.tensor([True, False])})
    assert turned[0, 0, 0, 3:9, 25:30].all()
    assert torch.equal(mirrored(boxes, None, 32), boxes)


def test_targets_worked_by_hand():
    """8 pixels to the right, and twice as high, of 112 and of half as many."""
    boxes = torch.tensor([[[[10.0, 10, 30, 20], [18, 5, 38, 25]]]])
    way, growth = 8 / 0.8, np.log(2) / 0.04
    assert targets(boxes, 112)[0, 0].tolist() == [[0, 0, 0, 0], pytest.approx([way, 0, 0, growth])]
    assert targets(boxes, 56)[0, 0, 1].tolist() == pytest.approx([2 * way, 0, 0, growth])


def test_the_loss_is_that_of_the_released_code():
    torch.manual_seed(0)
    net = CTP(SAMPLER, 9).objective(Tiny([4, 4, 8, 16])).train()
    torch.nn.init.normal_(net.boxes.weight)
    clips = torch.rand(2, 1, 3, 16, 32, 32)
    boxes = torch.stack(
        [SAMPLER.edit(clips[0].byte(), np.random.default_rng(n))[1]["boxes"] for n in range(2)]
    )
    flipped = torch.tensor([[True], [False]])
    seen = mirrored(boxes, flipped, 32)[:, 0]
    features = net.squeeze(net.backbone.feature_map(clips[:, 0])).relu()[:, :, 0]
    pooled = roi_align(features, list(seen[:, :, 0]), 5, 2 / 32, 2, True)
    predicted = net.boxes(net.hidden(pooled.flatten(1)).relu()).view(2, 3, 16, 4)
    expected = 0
    for part in (slice(0, 2), slice(2, 4)):
        errors = F.smooth_l1_loss(predicted[..., part], targets(seen, 32)[..., part], reduction="sum")
        expected = expected + errors / (2 * 3 * 16)
    loss, metrics = net({"clips": clips, "boxes": boxes, "flip.chosen": flipped})
    torch.testing.assert_close(loss, expected)
    wrong, still = (
        (one - targets(seen, 32)).abs()[..., :2].sum() for one in (predicted.detach(), torch.zeros(1))
    )
    assert metrics["centre_explained"] == pytest.approx(float(1 - wrong / still), rel=1e-4)
    for name, part in {"centre": slice(0, 2), "size": slice(2, 4)}.items():
        wanted, given = targets(seen, 32)[..., part].flatten(), predicted.detach()[..., part].flatten()
        right = [float(a) * float(b) > 0 for a, b in zip(given, wanted, strict=True) if b]
        assert metrics[f"{name}_direction_accuracy"] == pytest.approx(np.mean(right))


def test_in_mixed_precision_every_clip_is_asked_for_its_own_patch():
    """bfloat16 has no whole numbers between 256 and 258, and none between 512 and 516."""
    torch.manual_seed(0)
    net = CTP(CTPSampler(4, 1, 1), 9).objective(Tiny([4, 4])).eval()
    torch.nn.init.normal_(net.hidden.weight)
    torch.nn.init.normal_(net.boxes.weight)
    clips = torch.rand(300, 3, 4, 8, 8)
    boxes = torch.tensor([1.0, 2, 5, 7]).expand(300, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        together = net._predict(clips, boxes)[250:]
        alone = torch.cat([net._predict(clips[n : n + 1], boxes[:1]) for n in range(250, 300)])
    torch.testing.assert_close(together, alone, rtol=0.05, atol=0.05)


def test_to_predict_no_motion_explains_nothing():
    net = CTP(SAMPLER, 9).objective(Tiny([4, 4, 8, 16])).train()
    torch.nn.init.zeros_(net.boxes.weight)
    boxes = SAMPLER.edit(torch.zeros(1, 3, 16, 32, 32).byte(), np.random.default_rng(0))[1]["boxes"]
    metrics = net({"clips": torch.rand(2, 1, 3, 16, 32, 32), "boxes": torch.stack([boxes, boxes])}).metrics
    assert [float(value) for value in metrics.values()] == [0, 0, 0, 0]


def test_the_head_has_the_published_size():
    with torch.device("meta"):
        net = CTP(SAMPLER, 512).objective(Tiny([512]))
    assert (
        sum(p.numel() for part in (net.squeeze, net.hidden, net.boxes) for p in part.parameters())
        == 7_111_744
    )


def test_a_map_of_one_time_step():
    with pytest.raises(VsslError, match=r"^the map of Tiny has one time step, and CtP takes two; choose a"):
        CTP(CTPSampler(4, 5, 3), 9).check_backbone(Tiny([4, 4, 8]).to("meta"), 32)


def squares(rng, moves, grows, count=16, frames=8, side=32):
    """White squares on black that do one thing at an even pace: move, or grow and shrink."""
    clips, boxes = torch.zeros(count, 1, 3, frames, side, side), torch.zeros(count, 1, 1, frames, 4)
    for i in range(count):
        centre, size = rng.uniform(12, side - 12, 2), rng.uniform(6, 12)
        step, rate = moves * rng.uniform(-1, 1, 2), grows * rng.uniform(-0.06, 0.06)
        for t in range(frames):
            half = size * np.exp(rate * t) / 2
            first = (centre + step * t - half).round().clip(0, side - 1).astype(int)
            last = (centre + step * t + half).round().clip(1, side).astype(int)
            clips[i, 0, :, t, first[1] : last[1], first[0] : last[0]] = 1
            boxes[i, 0, 0, t] = torch.from_numpy(np.concatenate([first, last]))
    return {"clips": clips, "boxes": boxes}


@pytest.mark.parametrize(("moves", "grows", "name"), [(1, 0, "centre"), (0, 1, "size")])
def test_way_and_growth_are_learnt_where_nothing_else_happens(moves, grows, name):
    """On the toy's videos growth hides behind the way, and a small network does not find it there."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = CTP(CTPSampler(8, 1, 1), 32).objective(Tiny([8, 16])).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    explained = []
    for _ in range(120):
        loss, metrics = net(squares(rng, moves, grows))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 40)
        optimizer.step()
        explained.append(float(metrics[f"{name}_explained"]))
    assert np.mean(explained[:10]) < 0.1
    assert np.mean(explained[-10:]) > 0.4
