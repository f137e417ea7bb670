"""VideoMoCo: the loss and both gradients against two separate backward passes; ages, phases, the
generator."""

import copy

import pytest
import torch
from torch.nn import functional as F

from objectives import objective_of, random_clips
from vssl.errors import OptionError
from vssl.pretext.videomoco import (
    AgeingQueue,
    Generator,
    VideoMoCo,
    _pool_overlapping,
    _resize,
    drop_frames,
    through_scores,
)
from vssl.pretext.windows import Windows
from vssl.types import Progress

BEFORE, AFTER = Progress(epochs=1.0, share=0.25), Progress(epochs=3.0, share=0.5)


def task(**changes):
    settings = {
        "sampler": Windows(8, 2, 1, "same", "loop"),
        "embedding_dim": 5,
        "queue_size": 10,
        "momentum": 0.9,
        "temperature": 0.07,
        "temporal_decay": 0.9,
        "adversarial_from": 0.5,
        "drop_share": 0.25,
        "generator_weight": 100.0,
        "generator_gradient": "intended",
        "key_init": "random",
        "shuffle_bn": False,
    }
    return VideoMoCo(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(seed=0, size=4):
    return random_clips(size, 2, 8, side=32, seed=seed)


def trained(net):
    return [p for p in net.parameters() if p.requires_grad]


def contrast(net, query_BD, key_BD, temperature=0.07):
    """As the released code has it: one positive, and a queue as columns that is weighted by age."""
    queue_DH = net.queue.keys.T * net.task.temporal_decay**net.queue.ages
    logits = torch.cat([(query_BD * key_BD).sum(1, keepdim=True), query_BD @ queue_DH], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def unit(net, clips):
    return F.normalize(net.head.layer(net.backbone(clips)))


def test_before_the_generator_sets_in_it_is_momentum_contrast():
    net, data = objective(), batch()
    net.queue.ages.copy_(torch.arange(10))
    with torch.no_grad():
        key = unit(net, data["clips"][:, 1])  # the key encoder starts as the query encoder
    expected = contrast(net, unit(net, data["clips"][:, 0]), key)
    output = net(data)
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(p.grad is None for p in net.generator.parameters())
    assert output.metrics["drop_distance"] == 0


@pytest.mark.parametrize("gradient", ["intended", "released"])
def test_one_backward_pass_gives_both_networks_the_gradients_of_two(gradient):
    """The released order: the generator's loss with the encoder frozen, then the contrastive one, whose
    gradient the generator gets on top."""
    net, data = objective(generator_gradient=gradient), batch()
    net.after_step(AFTER)
    net.queue.ages.copy_(torch.arange(10))
    reference = copy.deepcopy(net)
    net(data).loss.backward()

    clips = data["clips"][:, 0]
    scores = reference.generator(clips)
    fake = StraightThrough.apply(clips, scores)
    with torch.no_grad():
        key = F.normalize(reference.key_encoder.network(data["clips"][:, 1]))
    query, whole = unit(reference, fake), unit(reference, clips)
    loss_g, loss_d = -100 * (query - whole).abs().mean(), contrast(reference, query, key)
    of_generator = list(reference.generator.parameters())
    of_encoder = [*reference.backbone.parameters(), *reference.head.parameters()]
    expected_g = torch.autograd.grad(loss_g, of_generator, retain_graph=True)
    if gradient == "released":
        more = torch.autograd.grad(loss_d, of_generator, retain_graph=True)
        expected_g = [one + other for one, other in zip(expected_g, more, strict=True)]
    expected_d = torch.autograd.grad(loss_d, of_encoder)
    # The backward LSTM has read one channel by the last step, and has come back to itself from nowhere.
    unused = {name for name, p in net.generator.named_parameters() if not p.grad.abs().sum() > 0}
    assert unused == {"lstm.weight_hh_l0_reverse"}
    torch.testing.assert_close([p.grad for p in net.generator.parameters()], list(expected_g))
    found = [p.grad for p in [*net.backbone.parameters(), *net.head.parameters()]]
    torch.testing.assert_close(found, list(expected_d))


class StraightThrough(torch.autograd.Function):
    """The released code's own: frames dropped forward, the frames' gradients summed up for the scores."""

    @staticmethod
    def forward(ctx, clips, scores):
        fake = clips.clone()
        for b, lowest in enumerate(scores.argsort(dim=1)[:, : scores.shape[1] // 4].tolist()):
            for t in lowest:
                fake[b, :, t] = clips[b, :, t].mean()
        return fake

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient.sum(dim=(1, 3, 4))


def test_the_value_of_the_loss_is_that_of_the_contrast_and_the_distance_is_reported():
    net, data = objective(), batch()
    net.after_step(AFTER)
    reference = copy.deepcopy(net)
    clips = data["clips"][:, 0]
    with torch.no_grad():
        fake = drop_frames(clips, reference.generator(clips), 0.25)
        key = F.normalize(reference.key_encoder.network(data["clips"][:, 1]))
        query, whole = unit(reference, fake), unit(reference, clips)
    output = net(data)
    torch.testing.assert_close(output.loss.detach(), contrast(reference, query, key))
    torch.testing.assert_close(output.metrics["drop_distance"], (query - whole).abs().mean())


def test_frames_of_the_lowest_scores_become_their_mean():
    clips = torch.arange(2 * 3 * 4 * 2 * 2.0).view(2, 3, 4, 2, 2)
    scores = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4]])
    dropped = drop_frames(clips, scores, share=0.5)
    for b, (gone, kept) in enumerate([((1, 3), (0, 2)), ((0, 1), (2, 3))]):
        for t in gone:
            assert (dropped[b, :, t] == clips[b, :, t].mean()).all()
        for t in kept:
            assert torch.equal(dropped[b, :, t], clips[b, :, t])


def test_the_term_for_the_scores_is_0_and_hands_on_the_gradient_of_the_frames():
    clips = torch.rand(2, 3, 4, 5, 5, requires_grad=True)
    scores = torch.rand(2, 4, requires_grad=True)
    weights = torch.rand(2, 3, 4, 5, 5)
    term = through_scores((clips * weights).sum(), clips, scores)
    assert term == 0
    term.backward()
    torch.testing.assert_close(scores.grad, weights.sum(dim=(1, 3, 4)))
    assert clips.grad is None


def test_the_generator_is_the_released_one_at_its_size():
    torch.manual_seed(0)
    generator = Generator(32)
    assert sum(p.numel() for p in generator.parameters()) == 558_560
    scores = generator(torch.rand(2, 3, 32, 112, 112))
    assert scores.shape == (2, 32)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(2))
    assert 0.02 < scores.min() < scores.max() < 0.045  # near 1/32, as measured of the released one


def test_the_lstm_stays_out_of_mixed_precision():
    """For which torch has float16 on GPUs, whatever else is asked for."""
    seen, generator = [], Generator(8)
    generator.lstm.register_forward_hook(lambda lstm, given, states: seen.extend([given[0], states[0]]))
    with torch.autocast("cpu", torch.bfloat16):
        scores = generator(torch.rand(2, 3, 8, 32, 32))
    assert [tensor.dtype for tensor in seen] == [torch.float32, torch.float32]
    assert scores.isfinite().all()


def test_pooling_is_that_of_torch():
    maps = torch.rand(2, 3, 9, 12)
    torch.testing.assert_close(_pool_overlapping(maps), F.max_pool2d(maps, 2, stride=1, padding=1))
    torch.testing.assert_close(_resize(maps), F.adaptive_avg_pool2d(maps, 13))
    same = torch.rand(2, 3, 13, 13)
    assert torch.equal(_resize(same), same)


def test_keys_age_by_one_a_step_and_weigh_less():
    queue = AgeingQueue(6, 2)
    queue.enqueue(torch.ones(2, 2))
    assert queue.ages.tolist() == [1, 1, 1, 1, 1, 1]  # the noise has aged too, from 0
    queue.enqueue(torch.ones(2, 2))
    queue.enqueue(torch.ones(3, 2))
    assert queue.ages.tolist() == [1, 3, 2, 2, 1, 1]
    torch.testing.assert_close(queue.weights(0.9), torch.tensor([0.9, 0.729, 0.81, 0.81, 0.9, 0.9]))
    assert AgeingQueue(6, 2).weights(0.9).tolist() == [1.0] * 6


def test_the_oldest_key_of_the_published_setting_weighs_98_percent():
    queue = AgeingQueue(65536, 1)
    queue.ages.fill_(65536 // 32)
    assert queue.weights(0.99999)[0] == pytest.approx(0.9797, abs=1e-4)


def test_phase_queue_and_ages_are_part_of_the_state():
    net = objective()
    for seed in (1, 2, 3):
        net(batch(seed))
        net.after_step(AFTER)
    restored = objective(seed=7)
    restored.load_state_dict(copy.deepcopy(net.state_dict()))
    assert restored.share == 0.5
    assert torch.equal(restored.queue.ages, net.queue.ages)
    losses = [one(batch(4)).loss for one in (net, restored)]
    assert losses[0] == losses[1]
    assert objective(seed=7)(batch(4)).metrics["drop_distance"] == 0


@pytest.mark.parametrize(
    ("start", "share", "drops"), [(0.0, 0.0, True), (0.5, 0.49, False), (1.0, 1.0, False)]
)
def test_when_the_generator_drops_frames(start, share, drops):
    net = objective(adversarial_from=start)
    net.share = share
    assert bool(net(batch()).metrics["drop_distance"] > 0) == drops


@pytest.mark.parametrize(("start", "depends"), [(0.5, True), (1.0, False), (0.0, False)])
def test_a_training_of_two_phases_depends_on_its_length(start, depends):
    progress = Progress(epochs=1.0, share=0.5)
    objective(adversarial_from=start).after_step(progress)
    assert progress.share_was_read == depends


def test_it_takes_two_clips():
    with pytest.raises(OptionError, match=r"^sampler\.num_clips=3: a query and its key are two clips; say 2"):
        task(sampler=Windows(8, 3, 1, "same", "loop"))
