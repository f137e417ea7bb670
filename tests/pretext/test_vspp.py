"""VSPP: frame lists worked by hand, and the loss against its formula. Lists count frames from 1."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from vssl.auxiliary.auxskd import PairSampler
from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.pretext.vspp import VSPP, VSPPSampler

RELEASED = {
    (2, 1): "1 3 5 7 9 10 11 12 13 14 15 16 17 18 19 20",
    (2, 2): "1 2 3 4 6 8 10 12 14 15 16 17 18 19 20 21",
    (2, 3): "1 2 3 4 5 6 7 8 10 12 14 16 18 19 20 21",
    (2, 4): "1 2 3 4 5 6 7 8 9 10 11 12 14 16 18 20",
    (3, 1): "1 4 7 10 13 14 15 16 17 18 19 20 21 22 23 24",
    (3, 2): "1 2 3 4 7 10 13 16 19 20 21 22 23 24 25 26",
    (3, 3): "1 2 3 4 5 6 7 8 11 14 17 20 23 24 25 26",
    (3, 4): "1 2 3 4 5 6 7 8 9 10 11 12 15 18 21 24",
    (4, 1): "1 5 9 13 17 18 19 20 21 22 23 24 25 26 27 28",
    (4, 2): "1 2 3 4 8 12 16 20 24 25 26 27 28 29 30 31",
    (4, 3): "1 2 3 4 5 6 7 8 12 16 20 24 28 29 30 31",
    (4, 4): "1 2 3 4 5 6 7 8 9 10 11 12 16 20 24 28",
}
EQ4 = {
    (2, 1): "2 4 6 8 9 10 11 12 13 14 15 16 17 18 19 20",
    (2, 2): "1 2 3 4 6 8 10 12 13 14 15 16 17 18 19 20",
    (2, 3): "1 2 3 4 5 6 7 8 10 12 14 16 17 18 19 20",
    (2, 4): RELEASED[2, 4],
    (3, 1): "3 6 9 12 13 14 15 16 17 18 19 20 21 22 23 24",
    (3, 2): "1 2 3 4 7 10 13 16 17 18 19 20 21 22 23 24",
    (3, 3): "1 2 3 4 5 6 7 8 11 14 17 20 21 22 23 24",
    (3, 4): RELEASED[3, 4],
    (4, 1): "4 8 12 16 17 18 19 20 21 22 23 24 25 26 27 28",
    (4, 2): "1 2 3 4 8 12 16 20 21 22 23 24 25 26 27 28",
    (4, 3): "1 2 3 4 5 6 7 8 12 16 20 24 25 26 27 28",
    (4, 4): RELEASED[4, 4],
}
NATURAL = {(1, zeta): "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16" for zeta in (1, 2, 3, 4)}
LISTS = [
    (variant, *case, text)
    for variant, table in {"released": RELEASED, "eq4": EQ4}.items()
    for case, text in {**NATURAL, **table}.items()
]


def sampler(**changes):
    settings = {
        "num_frames": 16,
        "num_segments": 4,
        "max_speed": 4,
        "variant": "released",
        "start": "inside",
        "out_of_bounds": "loop",
        "wrap_lookahead": 1,
    }
    return VSPPSampler(**{**settings, **changes})


def frames_from_1(sampler, num_frames, start, speed, zeta):
    """The frames of a clip, with start and zeta counted from 1 as in the paper."""
    return (sampler.frames(num_frames, start - 1, speed, zeta - 1) + 1).tolist()


def numbers(text):
    return [int(word) for word in text.split()]


@pytest.mark.parametrize(("variant", "speed", "zeta", "expected"), LISTS)
@pytest.mark.parametrize("out_of_bounds", ["loop", "repeat_last"])
def test_frames_of_a_long_video(variant, speed, zeta, expected, out_of_bounds):
    clip = frames_from_1(sampler(variant=variant, out_of_bounds=out_of_bounds), 300, 1, speed, zeta)
    assert clip == numbers(expected)


@pytest.mark.parametrize(
    ("num_segments", "speed", "zeta", "expected"),
    [
        (1, 2, 1, "1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31"),
        (2, 2, 1, "1 3 5 7 9 11 13 15 17 18 19 20 21 22 23 24"),  # positions 0-8
        (2, 2, 2, "1 2 3 4 5 6 7 8 10 12 14 16 18 20 22 24"),  # positions 8-15
        (3, 2, 1, "1 3 5 7 9 11 12 13 14 15 16 17 18 19 20 21"),  # positions 0-5
        (3, 2, 2, "1 2 3 4 5 7 9 11 13 15 17 18 19 20 21 22"),  # positions 5-10
        (3, 2, 3, "1 2 3 4 5 6 7 8 9 10 12 14 16 18 20 22"),  # positions 10-15
        (16, 3, 16, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 18"),  # position 15
    ],
)
def test_other_numbers_of_segments(num_segments, speed, zeta, expected):
    clip = frames_from_1(sampler(num_segments=num_segments), 300, 1, speed, zeta)
    assert clip == numbers(expected)


@pytest.mark.parametrize(
    ("zeta", "expected"),
    [
        (1, "2 4 6 8 10 11 12 13 14 15 16 17 18 19 20 21"),
        (2, "1 2 3 4 5 7 9 11 13 15 16 17 18 19 20 21"),
        (3, "1 2 3 4 5 6 7 8 9 10 12 14 16 18 20 22"),
    ],
)
def test_eq4_rounds_down_where_segments_do_not_divide_the_clip(zeta, expected):
    """Table 4 has a row of three segments: of 16 frames, they begin at positions 0, 5 and 10."""
    clip = frames_from_1(sampler(num_segments=3, variant="eq4"), 300, 1, 2, zeta)
    assert clip == numbers(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"out_of_bounds": "loop"}, "24 25 26 27 31 35 39 1 5 6 7 8 9 10 11 12"),
        ({"out_of_bounds": "loop", "wrap_lookahead": 3}, "24 25 26 27 31 1 5 9 13 14 15 16 17 18 19 20"),
        ({"out_of_bounds": "repeat_last"}, "24 25 26 27 31 35 39 40 40 40 40 40 40 40 40 40"),
        ({"out_of_bounds": "loop", "variant": "eq4"}, "24 25 26 27 31 35 39 3 4 5 6 7 8 9 10 11"),
        (
            {"out_of_bounds": "repeat_last", "variant": "eq4"},
            "24 25 26 27 31 35 39 40 40 40 40 40 40 40 40 40",
        ),
    ],
)
def test_the_end_of_a_video_of_40_frames(changes, expected):
    assert frames_from_1(sampler(**changes), 40, 24, 4, 2) == numbers(expected)


@pytest.mark.parametrize(
    ("lookahead", "expected"),
    [
        (1, "24 26 28 30 32 33 34 35 36 37 38 39 40 1 2 3"),
        (3, "24 26 28 30 32 33 34 35 36 37 38 1 2 3 4 5"),
    ],
)
def test_natural_pace_looks_ahead_too(lookahead, expected):
    assert frames_from_1(sampler(wrap_lookahead=lookahead), 40, 24, 2, 1) == numbers(expected)


def test_after_the_segment_its_pace_decides_although_the_next_frame_exists():
    clip = frames_from_1(sampler(), 34, 10, 4, 2)
    assert clip == numbers("10 11 12 13 17 21 25 29 33 1 2 3 4 5 6 7")


@pytest.mark.parametrize("variant", ["released", "eq4"])
@pytest.mark.parametrize("out_of_bounds", ["loop", "repeat_last"])
@pytest.mark.parametrize("start", ["inside", "anywhere"])
def test_no_frame_outside_the_video(variant, out_of_bounds, start):
    """Every draw, in the shortest and longest videos of the data sets and in shorter ones still."""
    one = sampler(variant=variant, out_of_bounds=out_of_bounds, start=start, max_speed=9)
    for num_frames in (1, 2, 7, 16, 17, 29, 33, 60, 300):
        room = num_frames - 16 if start == "inside" else num_frames
        starts = range(room) if num_frames > 16 else [0]
        for begin, speed, segment in product(starts, (1, 2, 4, 9), range(4)):
            frames_T = one.frames(num_frames, begin, speed, segment)
            assert len(frames_T) == 16
            assert frames_T.min() >= 0
            assert frames_T.max() < num_frames


def test_short_videos():
    assert sampler(out_of_bounds="repeat_last").frames(3, 0, 2, 0).tolist() == [0, 2, *[2] * 14]
    assert sampler(out_of_bounds="loop").frames(3, 0, 1, 0).tolist() == [0, 1, 2] * 5 + [0]
    assert sampler(out_of_bounds="loop").frames(1, 0, 4, 1).tolist() == [0] * 16


@pytest.mark.parametrize(("start", "expected"), [("inside", range(4)), ("anywhere", range(20))])
def test_range_and_spread_of_what_is_drawn(start, expected):
    rng = np.random.default_rng(0)
    plans = [sampler(start=start, max_speed=3).plan(20, rng) for _ in range(2000)]
    begins, counts = np.unique([plan.frames_KT[0, 0] for plan in plans], return_counts=True)
    assert begins.tolist() == list(expected)
    assert counts.min() > 0.6 * 2000 / len(expected)
    pairs = {(plan.targets["speed"], plan.targets["segment"]) for plan in plans}
    assert pairs == set(product(range(3), range(4)))


def test_targets_name_speed_and_segment_of_the_clip():
    one = sampler()
    for seed in range(50):
        plan = one.plan(300, np.random.default_rng(seed))
        begin = plan.frames_KT[0, 0]
        expected = one.frames(300, begin, plan.targets["speed"] + 1, plan.targets["segment"])
        assert plan.frames_KT.dtype == np.int64
        assert plan.frames_KT.tolist() == [expected.tolist()]


def test_a_pair_differs_in_both_targets_only_if_asked_to(monkeypatch):
    drawn = []
    plan = VSPPSampler.plan
    monkeypatch.setattr(VSPPSampler, "plan", lambda *args: drawn.append(plan(*args)) or drawn[-1])
    shared = 0
    for seed in range(60):
        for distinct in (True, False):
            drawn.clear()
            clips = PairSampler(sampler(), distinct).plan(100, np.random.default_rng(seed))
            assert clips.frames_KT.shape == (2, 16)
            same = {name: drawn[0].targets[name] == drawn[-1].targets[name] for name in ("speed", "segment")}
            if distinct:
                assert not any(same.values())
            shared += any(same.values())
    assert shared > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_segments": 0}, "num_segments=0: out of range"),
        ({"num_segments": 17}, "num_segments=17: out of range; choose a number from 1 to 16"),
        ({"max_speed": 0}, "max_speed=0: too small"),
        ({"wrap_lookahead": 0}, "wrap_lookahead=0: too small"),
    ],
)
def test_what_cannot_be_sampled(changes, message):
    with pytest.raises(VsslError, match=message):
        sampler(**changes)


def objective(speed_weight=1.0, segment_weight=1.0, mask=False):
    torch.manual_seed(0)
    return VSPP(sampler(), speed_weight, segment_weight, mask).objective(Tiny([4, 6])).double()


def batch(speeds=(0, 1, 2, 3, 0), segments=(3, 2, 1, 0, 1)):
    clips = torch.rand(len(speeds), 1, 3, 16, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    return {"clips": clips, "speed": torch.tensor(speeds), "segment": torch.tensor(segments)}


def cross_entropies(net, name, data):
    """-ln softmax of the right class, per sample."""
    features_BD = net.backbone(data["clips"][:, 0])
    head = net.heads[name]
    exponentials_BN = (features_BD @ head.weight.T + head.bias).exp()
    rows = torch.arange(len(features_BD))
    return -(exponentials_BN[rows, data[name]] / exponentials_BN.sum(dim=1)).log()


def gradients(loss, net):
    grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(net.parameters(), grads, strict=True)]


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_loss_and_gradient_follow_equation_5(alpha, beta):
    net, data = objective(alpha, beta), batch()
    speed, segment = cross_entropies(net, "speed", data), cross_entropies(net, "segment", data)
    expected = alpha * speed.sum() / 5 + beta * segment.sum() / 5
    loss, metrics = net(data)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients(loss, net), gradients(expected, net), rtol=1e-6, atol=1e-6)
    assert metrics["speed_loss"] == pytest.approx(speed.mean().item())
    assert metrics["segment_loss"] == pytest.approx(segment.mean().item())


def test_mask_leaves_out_the_segment_of_natural_clips():
    net, data = objective(mask=True), batch(speeds=(0, 1, 2, 0, 0))
    expected = cross_entropies(net, "speed", data).mean() + cross_entropies(net, "segment", data)[1:3].mean()
    loss = net(data).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients(loss, net), gradients(expected, net), rtol=1e-6, atol=1e-6)


def test_mask_with_natural_clips_only():
    net, data = objective(mask=True), batch(speeds=(0, 0, 0, 0, 0))
    loss, metrics = net(data)
    torch.testing.assert_close(loss, cross_entropies(net, "speed", data).mean())
    assert metrics["segment_loss"] == 0


@pytest.mark.parametrize(("weights", "name"), [((1.0, 0.0), "speed"), ((0.0, 1.0), "segment")])
def test_a_sub_task_is_switched_off_with_its_head(weights, name):
    net, data = objective(*weights), batch()
    assert list(net.heads) == [name]
    loss, metrics = net(data)
    torch.testing.assert_close(loss, cross_entropies(net, name, data).mean())
    assert set(metrics) == {f"{name}_loss", f"{name}_accuracy"}


def test_accuracy_counts_the_right_answers():
    net = objective()
    with torch.no_grad():
        for head in net.heads.values():
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
    metrics = net(batch(speeds=(2, 2, 0, 1, 3), segments=(2, 2, 2, 0, 1))).metrics
    assert metrics["speed_accuracy"] == pytest.approx(2 / 5)
    assert metrics["segment_accuracy"] == pytest.approx(3 / 5)


def test_two_linear_heads_of_the_published_size():
    """R(2+1)D with two 4-way heads has 2 x (512 x 4 + 4) parameters more than its 512-d backbone."""
    heads = VSPP(sampler(), 1.0, 1.0, False).objective(Tiny([512])).heads
    assert sum(p.numel() for p in heads.parameters()) == 14_369_407 - 14_365_303


def test_nothing_to_learn():
    with pytest.raises(VsslError, match="speed_weight=0: segment_weight is 0 too"):
        VSPP(sampler(), 0.0, 0.0, False)
    with pytest.raises(VsslError, match="segment_weight=-1"):
        VSPP(sampler(), 1.0, -1.0, False)


def best_guess(classes, target):
    """Accuracy and cross-entropy of who knows all plans of a long video by heart, by counting: the clips that
    look alike, wherever they begin."""
    seen = {}
    speeds, segments = classes.max_speed, classes.num_segments
    for speed, segment in product(range(speeds), range(segments)):
        looks = tuple(np.diff(classes.frames(10**6, 0, speed + 1, segment)))
        seen.setdefault(looks, []).append((speed, segment)[target])
    hits = sum(max(Counter(answers).values()) for answers in seen.values())
    nats = sum(
        -count * math.log(count / len(answers))
        for answers in seen.values()
        for count in Counter(answers).values()
    )
    return hits / (speeds * segments), nats / (speeds * segments)


@pytest.mark.parametrize("variant", ["released", "eq4"])
@pytest.mark.parametrize(("segments", "speed"), [(4, 4), (1, 4), (2, 3), (8, 2), (4, 1)])
def test_references_are_what_the_sampler_allows(variant, segments, speed):
    chosen = sampler(variant=variant, num_segments=segments, max_speed=speed)
    references = VSPP(chosen, 1.0, 1.0, False).references()
    for target, (name, count) in enumerate(chosen.classes.items()):
        accuracy, loss = best_guess(chosen, target)
        assert references[f"{name}_accuracy"] == pytest.approx({"chance": 1 / count, "reachable": accuracy})
        assert references[f"{name}_loss"] == pytest.approx({"chance": math.log(count), "reachable": loss})


def test_references_of_the_published_task():
    """A quarter of the clips is at natural speed, where the segment is one of four at random."""
    references = VSPP(sampler(), 1.0, 1.0, False).references()
    assert references["segment_accuracy"] == {"chance": 0.25, "reachable": 0.8125}
    assert references["segment_loss"]["reachable"] == pytest.approx(0.347, abs=5e-4)
    assert references["speed_accuracy"] == {"chance": 0.25, "reachable": 1.0}
    masked = VSPP(sampler(), 1.0, 1.0, True).references()
    assert masked["segment_accuracy"] == {"chance": 0.25, "reachable": 1.0}
