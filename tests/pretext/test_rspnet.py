"""RSPNet: frames by hand, the losses against the authors' formulas, and the order of events."""

import copy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from conftest import PROGRESS, composed, context_in
from objectives import objective_of, random_clips
from vssl.backbone.tiny import Tiny
from vssl.engine.checkpoint import load_checkpoint, save
from vssl.errors import OptionError, VsslError
from vssl.pipeline import plan
from vssl.pretext.rspnet import RSPNet, RSPNetSampler
from vssl.stage.callback import Silent
from vssl.stage.construct import Stage
from vssl.stage.store import StageStore
from vssl.stage.train import train
from vssl.types import Backbone

# Sampling


def sampler(**changes):
    return RSPNetSampler(
        **{"num_frames": 16, "num_clips": 2, "relative_speed": 2, "out_of_bounds": "loop", **changes}
    )


def plans(sampler, num_frames, count=300):
    return np.array([sampler.plan(num_frames, np.random.default_rng(n)).frames_KT for n in range(count)])


@pytest.mark.parametrize("num_frames", [33, 40, 300])
def test_two_independent_windows_of_successive_frames(num_frames):
    windows_NKT = plans(sampler(), num_frames, count=3000)
    assert windows_NKT.shape == (3000, 2, 32)
    assert windows_NKT.dtype == np.int64
    starts_NK = windows_NKT[:, :, 0]
    assert (windows_NKT == starts_NK[:, :, None] + np.arange(32)).all()
    for starts_N in starts_NK.T:
        assert set(starts_N) == set(range(num_frames - 31))
    assert abs(np.corrcoef(starts_NK.T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("num_frames", "wrap", "clamp"),
    [
        (32, [*range(32)], [*range(32)]),
        (31, [*range(31), 0], [*range(31), 30]),
        (20, [*range(20), *range(12)], [*range(20), *[19] * 12]),
        (7, [*range(7)] * 4 + [0, 1, 2, 3], [*range(7), *[6] * 25]),
        (1, [0] * 32, [0] * 32),
    ],
)
def test_windows_of_short_videos(num_frames, wrap, clamp):
    for out_of_bounds, expected in {"loop": wrap, "repeat_last": clamp}.items():
        assert (plans(sampler(out_of_bounds=out_of_bounds), num_frames, count=20) == expected).all()


def test_windows_are_as_long_as_the_fast_clip_needs():
    assert plans(sampler(num_frames=8, relative_speed=4), 100, count=1).shape == (1, 2, 32)
    with pytest.raises(VsslError, match="relative_speed=1"):
        sampler(relative_speed=1)


def test_pairs_are_two_clips_each_at_a_speed_of_its_own():
    natural, fast = np.arange(16), np.arange(0, 32, 2)
    speeds, starts = set(), set()
    for seed in range(300):
        pair = sampler().pair(40, np.random.default_rng(seed), distinct=True)
        assert pair.targets == {}
        frames_KT = pair.frames_KT - pair.frames_KT[:, :1]
        assert all(frames_T.tolist() in (natural.tolist(), fast.tolist()) for frames_T in frames_KT)
        speeds.add(tuple(frames_KT[:, 1].tolist()))
        starts.add(tuple(pair.frames_KT[:, 0].tolist()))
    assert speeds == set(product((1, 2), (1, 2)))
    for of_one_clip in zip(*starts, strict=True):
        assert set(of_one_clip) == set(range(9))
    assert len(starts) > 50


def test_a_pair_of_a_short_video():
    clips = [sampler().pair(5, np.random.default_rng(n), True).frames_KT.tolist() for n in range(20)]
    possible = ([0, 1, 2, 3, 4] * 3 + [0], [0, 2, 4, 1, 3] * 3 + [0])
    assert all(frames_T in possible for clip in clips for frames_T in clip)


# Which clips go where


class Recorder(Backbone):
    """Keeps the clips it sees; its feature is their mean colour."""

    feature_dim = 3

    def __init__(self):
        super().__init__()
        self.seen = []
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, clips_BCTHW):
        self.seen.append(clips_BCTHW[:, 0, :, 0, 0].tolist())
        return clips_BCTHW.mean(dim=(2, 3, 4)) * self.scale


def numbered_batch(size):
    """Frames that show 1000 b + 100 k + t."""
    b, k, t = torch.arange(size)[:, None, None], torch.arange(2)[:, None], torch.arange(32)
    numbers_BKT = (1000 * b + 100 * k + t).float()
    return {"clips": numbers_BKT[:, :, None, :, None, None].expand(-1, -1, 3, -1, 2, 2)}


def speeds_of(clips, k):
    """Speeds of clips that must come from the beginning of window k of their samples."""
    speeds = [int(frames[1] - frames[0]) for frames in clips]
    for b, (frames, speed) in enumerate(zip(clips, speeds, strict=True)):
        assert frames == [1000 * b + 100 * k + speed * t for t in range(16)]
    return speeds


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_half_the_batch_has_natural_speed_and_the_other_key_the_other_one(size):
    recorder = Recorder()
    net = task().objective(recorder)
    [key_recorder, _] = net.key_encoder.network
    chosen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        net(numbered_batch(size))
        own = speeds_of(recorder.seen[-1], k=0)
        other, positive = (speeds_of(clips, k=1) for clips in key_recorder.seen[-2:])
        assert sorted(own) == [1] * (size // 2) + [2] * (size - size // 2)
        assert positive == own
        assert other == [3 - speed for speed in own]
        chosen.add(tuple(own))
    assert len(recorder.seen) == 40
    assert len(key_recorder.seen) == 80
    assert {speeds[0] for speeds in chosen} == {1, 2}


def test_the_half_depends_on_torchs_generator_only():
    own = []
    for _ in range(2):
        recorder = Recorder()
        net = task().objective(recorder)
        torch.manual_seed(5)
        for _ in range(3):
            net(numbered_batch(8))
        own.append(recorder.seen)
    assert own[0] == own[1]
    assert own[0][0] != own[0][1] or own[0][1] != own[0][2]


def test_a_batch_of_one_is_refused():
    with pytest.raises(VsslError, match=r"a batch of 1 .*; give each process 2"):
        task().objective(Recorder())(numbered_batch(1))


def test_training_that_it_does_not_go_with():
    task().check(batch_size=4, drop_last=False)
    with pytest.raises(OptionError, match=r"^queue_size=10: cannot hold the keys of a batch of 12"):
        task().check(batch_size=12, drop_last=False)


# Losses


def task(**changes):
    settings = {
        "sampler": sampler(),
        "embedding_dim": 5,
        "queue_size": 10,
        "momentum": 0.9,
        "temperature": 0.07,
        "margin": 2.0,
        "appearance_weight": 1.0,
        "motion_weight": 1.0,
        "enqueue": "other_speed",
        "key_init": "random",
        "shuffle_bn": False,
    }
    return RSPNet(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(seed=0, size=4):
    return random_clips(size, 2, 32, seed=seed)


def unit(vectors):
    return vectors / vectors.square().sum(dim=1, keepdim=True).sqrt()


def embed(backbone, heads, clips_BCTHW):
    features_BD = backbone(clips_BCTHW)
    return [unit(features_BD @ fc.weight.T + fc.bias) for fc in (heads.appearance, heads.motion)]


def embeddings(net, data, seed):
    """Those of the query, the positive and the other key in a forward under torch.manual_seed(seed)."""
    torch.manual_seed(seed)
    size = len(data["clips"])
    natural = torch.randperm(size) < size // 2
    clips = {True: data["clips"][..., :16, :, :], False: data["clips"][..., ::2, :, :]}

    def play(k, own):
        return torch.stack([clips[bool(natural[b]) == own][b, k] for b in range(size)])

    with torch.no_grad():
        keys = [embed(*net.key_encoder.network, play(1, own)) for own in (True, False)]
    return embed(net.backbone, net.heads, play(0, True)), *keys


def released_losses(net, data, seed, temperature=0.07, margin=2.0):
    """As the released code has them, with the queue as columns and the ranking flattened."""
    (q_A, q_M), (k_A, k_M), (k_neg_A, k_neg_M) = embeddings(net, data, seed)
    queue = net.queue.keys.T
    l_neg_A = torch.einsum("nc,ck->nk", q_A, queue)
    labels = torch.zeros(len(q_A), dtype=torch.long)
    cross_entropies = []
    for key in (k_A, k_neg_A):
        l_pos = torch.einsum("nc,nc->n", q_A, key)[:, None]
        logits = torch.cat([l_pos, l_neg_A], dim=1) / temperature
        cross_entropies.append(nn.CrossEntropyLoss()(logits, labels))
    l_pos_M = torch.einsum("nc,nc->n", q_M, k_M) / temperature
    l_neg_M = torch.einsum("nc,nc->n", q_M, k_neg_M) / temperature
    ranking = nn.MarginRankingLoss(margin=margin)(l_pos_M, l_neg_M, torch.ones(len(q_A)))
    return cross_entropies[0] + cross_entropies[1], ranking


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize(("weight_A", "weight_M"), [(1.0, 1.0), (0.5, 3.0), (0.0, 1.0)])
def test_loss_and_gradient_are_those_of_the_released_code(size, weight_A, weight_M):
    net, data = objective(appearance_weight=weight_A, motion_weight=weight_M), batch(size=size)
    appearance, motion = released_losses(net, data, seed=3)
    expected = weight_A * appearance + weight_M * motion
    torch.manual_seed(3)
    loss, metrics = net(data)
    assert metrics["appearance_loss"] == pytest.approx(appearance.item(), rel=1e-6)
    assert metrics["motion_loss"] == pytest.approx(motion.item(), rel=1e-6)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    trained = [p for p in net.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(value, trained, materialize_grads=True) for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert any(grad.abs().max() > 1e-3 for grad in ours)


def test_temperature_and_margin_count():
    net, data = objective(temperature=0.2, margin=0.5), batch()
    expected = sum(released_losses(net, data, seed=3, temperature=0.2, margin=0.5))
    torch.manual_seed(3)
    torch.testing.assert_close(net(data).loss, expected, rtol=1e-6, atol=1e-6)


def test_losses_worked_by_hand():
    """All clips look alike to a network that returns a constant: every key is the query itself."""
    net = objective()
    with torch.no_grad():
        for head in (net.heads.appearance, net.heads.motion):
            head.weight.zero_()
            head.bias.copy_(torch.eye(5)[0])
        net.key_encoder.network.load_state_dict(nn.Sequential(net.backbone, net.heads).state_dict())
        net.queue.keys.copy_(torch.eye(5).repeat(2, 1))  # two keys like the query, eight orthogonal to it
    metrics = net(batch()).metrics
    same, orthogonal = np.exp(1 / 0.07), 1
    assert metrics["appearance_loss"] == pytest.approx(-2 * np.log(same / (3 * same + 8 * orthogonal)))
    assert metrics["motion_loss"] == pytest.approx(2.0)
    assert metrics["motion_accuracy"] == 0
    assert metrics["appearance_accuracy"] == 0


def test_accuracies_of_a_network_that_tells_all_apart():
    net = objective()
    (_, q_M), (_, k_M), (_, other_M) = embeddings(net, batch(), seed=3)
    expected = ((q_M * k_M).sum(1) > (q_M * other_M).sum(1)).double().mean()
    torch.manual_seed(3)
    net.queue.keys.zero_()
    metrics = net(batch()).metrics
    assert metrics["motion_accuracy"] == pytest.approx(expected.item())
    assert metrics["appearance_accuracy"] == 1


# Key encoder and queue


def train_step(net, optimizer, *batches, seed=0):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    losses = [net(data).loss for data in batches]
    sum(losses).backward()
    optimizer.step()
    net.after_step(PROGRESS)
    return losses[-1].item()


def sgd(net):
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)


def query_state(net):
    return nn.Sequential(net.backbone, net.heads).state_dict()


def assert_equal_states(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_heads_have_the_published_size():
    heads = task(embedding_dim=128).objective(Tiny([512])).heads
    assert sum(p.numel() for p in heads.parameters()) == 2 * (512 * 128 + 128)


@pytest.mark.parametrize("key_init", ["random", "query"])
def test_the_key_encoder_starts_as_the_query_encoder_and_gets_no_gradient(key_init):
    net = objective(key_init=key_init)
    assert_equal_states(net.key_encoder.network.state_dict(), query_state(net))
    net(batch()).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in net.key_encoder.parameters())
    assert all(p.grad is not None for p in [*net.backbone.parameters(), *net.heads.parameters()])


@pytest.mark.parametrize("key_init", ["random", "query"])
def test_weights_of_an_auxiliary_stage_reach_the_key_encoder_only_if_asked_to(key_init):
    net = objective(key_init=key_init)
    initial = copy.deepcopy(query_state(net))
    net.backbone.load_state_dict(objective(seed=1).backbone.state_dict())
    assert not torch.equal(query_state(net)["0.layers.0.0.weight"], initial["0.layers.0.0.weight"])
    expected = initial if key_init == "random" else query_state(net)
    assert_equal_states(net.key_encoder.network.state_dict(), expected)
    assert_equal_states(net.key_encoder.network[1].state_dict(), net.heads.state_dict())


def test_the_key_encoder_follows_the_updated_query_parameters_but_not_its_buffers():
    net = objective()
    before = copy.deepcopy(net.key_encoder.network.state_dict())
    train_step(net, sgd(net), batch())
    query = dict(nn.Sequential(net.backbone, net.heads).named_parameters())
    for name, parameter in net.key_encoder.network.named_parameters():
        assert not torch.equal(parameter, before[name])
        torch.testing.assert_close(parameter, 0.9 * before[name] + 0.1 * query[name], rtol=0, atol=1e-12)
    buffers = copy.deepcopy(dict(net.key_encoder.named_buffers()))
    net.after_step(PROGRESS)
    assert all(torch.equal(buffers[name], value) for name, value in net.key_encoder.named_buffers())


@pytest.mark.parametrize(("enqueue", "which"), [("other_speed", 2), ("positive", 1)])
def test_appearance_keys_join_the_queue_after_the_step(enqueue, which):
    net, data = objective(enqueue=enqueue), batch()
    before = net.queue.keys.clone()
    keys_A, _ = embeddings(net, data, seed=3)[which]
    torch.manual_seed(3)
    net(data)
    assert torch.equal(net.queue.keys, before)
    net.after_step(PROGRESS)
    torch.testing.assert_close(net.queue.keys[:4], keys_A)
    assert torch.equal(net.queue.keys[4:], before[4:])
    net.after_step(PROGRESS)
    assert net.queue.pointer == 4


def test_the_queue_wraps_and_keeps_the_order_of_accumulated_batches():
    """A step of two batches of 4, then one of 4, in a queue of 10: the last two rows come first."""
    net = objective(queue_size=10)
    keys = []
    net.key_encoder.register_forward_hook(lambda module, inputs, output: keys.append(output[:, :5]))
    optimizer = sgd(net)
    train_step(net, optimizer, batch(1), batch(2))
    train_step(net, optimizer, batch(3))
    first, second, third = keys[::2]  # the other speed is played before the query's own
    assert torch.equal(net.queue.keys, torch.cat([third[2:], first[2:], second, third[:2]]))


def test_the_queue_is_read_before_the_batch_joins_it():
    net, data = objective(), batch()
    torch.manual_seed(3)
    first = net(data).loss
    torch.manual_seed(3)
    assert net(data).loss == first
    net.after_step(PROGRESS)
    torch.manual_seed(3)
    assert net(data).loss != first


@pytest.mark.parametrize("key_init", ["random", "query"])
def test_training_goes_on_the_same_from_a_saved_state(key_init):
    net = objective(key_init=key_init)
    optimizer = sgd(net)
    for seed in (1, 2, 3):
        train_step(net, optimizer, batch(seed), seed=seed)
    restored = objective(seed=7, key_init=key_init)
    restored.load_state_dict(copy.deepcopy(net.state_dict()))
    assert_equal_states(restored.state_dict(), net.state_dict())
    for seed in (4, 5, 6):
        loss = train_step(restored, sgd(restored), batch(seed), seed=seed)
        assert loss == train_step(net, optimizer, batch(seed), seed=seed)
    assert_equal_states(restored.state_dict(), net.state_dict())


def test_evaluation_changes_neither_queue_nor_the_mode_of_the_key_encoder():
    net = objective().eval()
    before = net.queue.keys.clone()
    assert not net.backbone.training
    assert all(module.training for module in net.key_encoder.network.modules())
    assert torch.isfinite(net(batch(1)).loss)
    net.train()
    net.after_step(PROGRESS)
    assert torch.equal(net.queue.keys, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queue_size": 0}, "queue_size=0"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"margin": -1.0}, "margin=-1.0"),
        ({"motion_weight": -1.0}, "motion_weight=-1.0"),
    ],
)
def test_values_that_make_no_sense(changes, message):
    with pytest.raises(VsslError, match=message):
        task(**changes)


# The stage


OVERRIDES = [
    "pretext=rspnet",
    "auxiliary=auxskd",
    "backbone=r2plus1d_10",
    "backbone.input.crop=16",
    "source.num_videos=4",
    "pretext.momentum=1.0",
    "pretext.queue_size=8",
    "pretext.training.epochs=1",
    "pretext.training.batch_size=4",
    "pretext.training.micro_batch=4",
]
TINY = {"_target_": "vssl.backbone.tiny.Tiny", "widths": [4, 6]}


@pytest.mark.parametrize("key_init", ["random", "query"])
def test_a_stage_gives_its_parents_weights_to_the_key_encoder_only_if_asked_to(key_init, data, tmp_path):
    """With a momentum of 1 the key encoder stays what it was at the beginning."""
    config = composed(*OVERRIDES, *data, f"outputs={tmp_path}", f"pretext.key_init={key_init}")
    auxiliary, pretext = plan(config)[:2]
    pretext = replace(pretext, recipe=replace(pretext.recipe, backbone=TINY))
    store = StageStore(tmp_path)
    torch.manual_seed(0)
    initial = Tiny([4, 6]).state_dict()
    trained = Tiny([4, 6]).state_dict()
    for spec in (auxiliary, pretext):
        store.folder(spec).mkdir(parents=True)
    save(store.folder(auxiliary) / "weights.pt", trained)
    train(Stage(pretext), context_in(tmp_path), Silent())
    state = load_checkpoint(store.folder(pretext) / "checkpoint.pt")["objective"]
    expected = initial if key_init == "random" else trained
    for name in ("layers.0.0.weight", "layers.1.0.weight", "layers.1.1.bias"):
        assert torch.equal(state[f"key_encoder.network.0.{name}"], expected[name]), name
        assert not torch.equal(state[f"backbone.{name}"], initial[name])
