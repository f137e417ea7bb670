"""VideoPace: frame lists worked by hand, and the losses against their formulas. Lists count frames from 1."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.pretext.videopace import VideoPace, VideoPaceSampler, grouped_info_nce


def sampler(**changes):
    settings = {
        "num_frames": 16,
        "num_clips": 1,
        "max_pace": 4,
        "start": "anywhere",
        "out_of_bounds": "loop",
        "pair_start": "inside",
        "pair_distinct": False,
    }
    return VideoPaceSampler(**{**settings, **changes})


def frames_from_1(sampler, num_frames, start, pace):
    return (sampler.frames(num_frames, start - 1, pace) + 1).tolist()


def numbers(text):
    return [int(word) for word in text.split()]


LONG = {
    1: "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    2: "1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31",
    3: "1 4 7 10 13 16 19 22 25 28 31 34 37 40 43 46",
    4: "1 5 9 13 17 21 25 29 33 37 41 45 49 53 57 61",
}


@pytest.mark.parametrize("out_of_bounds", ["loop", "repeat_last"])
@pytest.mark.parametrize("pace", LONG)
def test_frames_of_a_long_video_and_of_one_that_just_fits(pace, out_of_bounds):
    expected = numbers(LONG[pace])
    for num_frames in (300, expected[-1]):
        assert frames_from_1(sampler(out_of_bounds=out_of_bounds), num_frames, 1, pace) == expected


@pytest.mark.parametrize(
    ("num_frames", "start", "pace", "wrap", "clamp"),
    [
        (40, 30, 4, "30 34 38 1 5 9 13 17 21 25 29 33 37 1 5 9", "30 34 38" + " 40" * 13),
        (40, 40, 1, "40 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "40" + " 40" * 15),
        (60, 1, 4, LONG[4][:-2] + "1", LONG[4][:-2] + "60"),  # 61 is one too many
        (61, 2, 4, "2 6 10 14 18 22 26 30 34 38 42 46 50 54 58 1", None),
        (3, 2, 2, "2 1 3 1 3 1 3 1 3 1 3 1 3 1 3 1", "2" + " 3" * 15),
        (3, 3, 4, "3" + " 1" * 15, "3" + " 3" * 15),
        (1, 1, 3, "1" + " 1" * 15, "1" + " 1" * 15),
    ],
)
def test_the_end_of_a_video(num_frames, start, pace, wrap, clamp):
    assert frames_from_1(sampler(out_of_bounds="loop"), num_frames, start, pace) == numbers(wrap)
    if clamp:
        assert frames_from_1(sampler(out_of_bounds="repeat_last"), num_frames, start, pace) == numbers(clamp)


@pytest.mark.parametrize(
    ("num_frames", "percent"), [(300, 12.5), (250, 15), (187, 20), (100, 37.5), (60, 62.5)]
)
def test_share_of_clips_that_jump_back(num_frames, percent):
    clips = [sampler().frames(num_frames, *draw) for draw in product(range(num_frames), (1, 2, 3, 4))]
    jumping = np.mean([(np.diff(frames_T) < 0).any() for frames_T in clips])
    assert 100 * jumping == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize(("start", "expected"), [("anywhere", range(20)), ("inside", range(4))])
def test_range_and_spread_of_what_is_drawn(start, expected):
    rng = np.random.default_rng(0)
    plans = [sampler(start=start).plan(20, rng) for _ in range(2000)]
    drawn = [(int(plan.frames_KT[0, 0]), plan.targets["pace"]) for plan in plans]
    assert set(drawn) == set(product(expected, range(4)))
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert counts.min() > 0.4 * 2000 / (4 * len(expected))


def test_inside_begins_at_the_first_frame_of_videos_that_are_not_longer_than_a_clip():
    starts = {sampler(start="inside").plan(16, np.random.default_rng(n)).frames_KT[0, 0] for n in range(50)}
    assert starts == {0}
    starts = {sampler(start="anywhere").plan(3, np.random.default_rng(n)).frames_KT[0, 0] for n in range(50)}
    assert starts == {0, 1, 2}


def test_the_targets_are_the_paces_of_the_clips_less_one():
    two = sampler(num_clips=2)
    assert two.classes == {"pace": 4, "pace_2": 4}
    paces = set()
    for seed in range(200):
        plan = two.plan(300, np.random.default_rng(seed))
        assert plan.frames_KT.shape == (2, 16)
        assert plan.frames_KT.dtype == np.int64
        for frames_T, name in zip(plan.frames_KT, ("pace", "pace_2"), strict=True):
            expected = two.frames(300, int(frames_T[0]), plan.targets[name] + 1)
            assert frames_T.tolist() == expected.tolist()
        paces.add((plan.targets["pace"], plan.targets["pace_2"]))
    assert paces == set(product(range(4), range(4)))


def paces_of_pairs(sampler, distinct):
    """Paces of the pairs of a video so long that no clip wraps."""
    pairs = [sampler.pair(100_000, np.random.default_rng(seed), distinct) for seed in range(300)]
    assert all(pair.frames_KT.shape == (2, 16) and pair.targets == {} for pair in pairs)
    return [tuple((pair.frames_KT[:, 1] - pair.frames_KT[:, 0]).tolist()) for pair in pairs]


@pytest.mark.parametrize(
    ("pair_distinct", "distinct", "differ"),
    [(False, True, False), (False, False, False), (True, True, True), (True, False, False)],
)
def test_paces_of_a_pair(pair_distinct, distinct, differ):
    paces = paces_of_pairs(sampler(pair_distinct=pair_distinct), distinct)
    possible = {(one, two) for one, two in product(range(1, 5), range(1, 5)) if not differ or one != two}
    assert set(paces) == possible


def test_a_pair_of_the_only_pace_cannot_differ():
    assert set(paces_of_pairs(sampler(max_pace=1, pair_distinct=True), distinct=True)) == {(1, 1)}


@pytest.mark.parametrize(("pair_start", "expected"), [("inside", range(4)), ("anywhere", range(20))])
def test_both_clips_of_a_pair_begin_where_pairs_may(pair_start, expected):
    one = sampler(pair_start=pair_start)
    pairs = np.array([one.pair(20, np.random.default_rng(n), True).frames_KT for n in range(600)])
    assert set(pairs[:, 0, 0]) == set(pairs[:, 1, 0]) == set(expected)
    assert (pairs[:, 0, 0] != pairs[:, 1, 0]).any()


def objective(contrastive="none", **changes):
    torch.manual_seed(0)
    settings = {
        "sampler": sampler(num_clips=1 if contrastive == "none" else 2),
        "pace_weight": 1.0,
        "contrastive": contrastive,
        "contrastive_weight": 0.1,
        "projection_dim": 5,
        "temperature": 0.07,
    }
    return VideoPace(**{**settings, **changes}).objective(Tiny([4, 6])).double()


def batch(paces_BK=((0,), (1,), (2,), (3,), (0,))):
    paces_BK = torch.tensor(paces_BK)
    generator = torch.Generator().manual_seed(1)
    clips = torch.rand(*paces_BK.shape, 3, 16, 8, 8, generator=generator).double()
    names = ("pace", "pace_2")[: paces_BK.shape[1]]
    return {"clips": clips, **dict(zip(names, paces_BK.T, strict=True))}


PAIRS = ((0, 1), (1, 1), (2, 0), (3, 2))


def cross_entropy(features_MD, head, targets_M):
    """-ln softmax of the right class, averaged."""
    exponentials_MN = (features_MD @ head.weight.T + head.bias).exp()
    rows = torch.arange(len(features_MD))
    return -(exponentials_MN[rows, targets_M] / exponentials_MN.sum(dim=1)).log().mean()


def contrast(embeddings, groups, temperature):
    """The formula of `grouped_info_nce`, pair by pair."""
    similarity = (embeddings @ embeddings.T / temperature).exp()
    losses = []
    for i, j in product(range(len(groups)), repeat=2):
        if i != j and groups[i] == groups[j]:
            others = sum(similarity[i, k] for k in range(len(groups)) if groups[k] != groups[i])
            losses.append(-(similarity[i, j] / (similarity[i, j] + others)).log())
    return sum(losses) / len(losses)


def assert_same_loss_and_gradient(net, loss, expected):
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(value, list(net.parameters())) for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_loss_and_gradient_of_the_released_task_are_the_cross_entropy():
    net, data = objective(), batch()
    expected = cross_entropy(net.backbone(data["clips"][:, 0]), net.head, data["pace"])
    loss, metrics = net(data)
    assert_same_loss_and_gradient(net, loss, expected)
    assert set(metrics) == {"pace_loss", "pace_accuracy"}
    assert metrics["pace_loss"] == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("contrastive", "groups"),
    [("same_context", [0, 0, 1, 1, 2, 2, 3, 3]), ("same_pace", [0, 1, 1, 1, 2, 0, 3, 2])],
)
@pytest.mark.parametrize(("lambda_cls", "lambda_ctr"), [(1.0, 0.1), (0.5, 2.0)])
def test_loss_and_gradient_with_contrast(contrastive, groups, lambda_cls, lambda_ctr):
    net = objective(contrastive, pace_weight=lambda_cls, contrastive_weight=lambda_ctr)
    data = batch(PAIRS)
    features_MD = net.backbone(data["clips"].flatten(0, 1))
    embeddings_MD = features_MD @ net.projection.weight.T + net.projection.bias
    embeddings_MD = embeddings_MD / embeddings_MD.norm(dim=1, keepdim=True)
    pace = cross_entropy(features_MD, net.head, torch.tensor(PAIRS).flatten())
    contrastive = contrast(embeddings_MD, groups, 0.07)
    loss, metrics = net(data)
    assert_same_loss_and_gradient(net, loss, lambda_cls * pace + lambda_ctr * contrastive)
    assert metrics["contrastive_loss"] == pytest.approx(contrastive.item())


def test_contrast_worked_by_hand():
    vectors = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))  # like 1 / 0.5, the two others 0
    assert grouped_info_nce(vectors, torch.tensor([0, 0, 1, 1]), 0.5).item() == pytest.approx(expected)


@pytest.mark.parametrize("groups", [[0, 1, 2], [0, 0, 0]])
def test_without_positives_or_negatives_there_is_nothing_to_learn(groups):
    vectors = torch.nn.functional.normalize(torch.rand(3, 4, generator=torch.Generator().manual_seed(0)))
    loss = grouped_info_nce(vectors.requires_grad_(), torch.tensor(groups), 0.07)
    loss.backward()
    assert loss == 0
    assert torch.equal(vectors.grad, torch.zeros(3, 4))


def test_accuracy_counts_all_clips():
    net = objective("same_pace")
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert net(batch(PAIRS)).metrics["pace_accuracy"] == pytest.approx(3 / 8)


def test_the_head_has_the_published_size_and_the_released_task_no_projection():
    net = VideoPace(sampler(), 1.0, "none", 0.1, 128, 0.07).objective(Tiny([512]))
    assert sum(p.numel() for p in net.head.parameters()) == 512 * 4 + 4
    assert not hasattr(net, "projection")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampler": sampler(num_clips=2)},
            "^contrastive=none: takes 1 clips of a video; say sampler.num_clips=1",
        ),
        ({"contrastive": "same_pace", "sampler": sampler()}, "^contrastive=same_pace: .*num_clips=2"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"contrastive_weight": -1.0}, "contrastive_weight=-1.0"),
    ],
)
def test_values_that_make_no_sense(changes, message):
    with pytest.raises(VsslError, match=message):
        objective(**changes)


@pytest.mark.parametrize("changes", [{"num_clips": 3}, {"num_clips": 0}, {"max_pace": 0}])
def test_what_cannot_be_sampled(changes):
    with pytest.raises(VsslError, match=next(iter(changes))):
        sampler(**changes)
