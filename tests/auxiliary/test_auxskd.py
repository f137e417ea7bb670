"""auxSKD: loss against its formula, the order of events, and what is remembered."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from conftest import PROGRESS
from objectives import objective_of, random_clips
from vssl.auxiliary.auxskd import AuxSKD, PairSampler, kl_divergence, log_similarities
from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError, VsslError
from vssl.pretext.vcop import VCOPSampler
from vssl.pretext.vspp import VSPPSampler
from vssl.types import ClipPlan, ClipSampler

PAIRS = PairSampler(VSPPSampler(16, 4, 4, "released", "inside", "loop", 1), distinct=True)


def task(**changes):
    settings = {
        "sampler": PAIRS,
        "projection_dim": 8,
        "predictor_layers": 2,
        "predictor_hidden": 12,
        "queue_size": 10,
        "queue_init": "rows",
        "momentum": 0.9,
        "teacher_temperature": 0.02,
        "student_temperature": 0.1,
        "shuffle_bn": False,
    }
    return AuxSKD(**{**settings, **changes})


def objective(seed=0, **changes):
    return objective_of(task(**changes), seed)


def batch(seed=0, size=4):
    return random_clips(size, 2, 16, seed=seed)


def unit(vectors):
    return vectors / vectors.square().sum(dim=1, keepdim=True).sqrt()


def textbook_kl(net, data, anchors_HD):
    """Mean over the batch of sum_i p_T ln(p_T / p_S), with the exponentials written out."""
    student_BD = unit(net.predictor(net.projection(net.backbone(data["clips"][:, 0]))))
    with torch.no_grad():
        teacher_BD = unit(net.teacher(data["clips"][:, 1]))
    student_BH = (student_BD @ anchors_HD.T / net.task.student_temperature).exp()
    teacher_BH = (teacher_BD @ anchors_HD.T / net.task.teacher_temperature).exp()
    student_BH = student_BH / student_BH.sum(dim=1, keepdim=True)
    teacher_BH = teacher_BH / teacher_BH.sum(dim=1, keepdim=True)
    return (teacher_BH * (teacher_BH / student_BH).log()).sum() / len(student_BD)


def train_step(net, optimizer, *batches):
    optimizer.zero_grad()
    losses = [net(data).loss for data in batches]
    sum(losses).backward()
    optimizer.step()
    net.after_step(PROGRESS)
    return losses[-1].item()


def sgd(net):
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)


def test_loss_and_gradient_are_the_textbook_kl():
    net, data = objective(), batch()
    trained = [p for p in net.parameters() if p.requires_grad]
    expected = textbook_kl(net, data, net.queue.keys)
    loss = net(data).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    ours, theirs = torch.autograd.grad(loss, trained), torch.autograd.grad(expected, trained)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert loss.item() > 0


def test_gradient_with_respect_to_the_similarities():
    """d KL / d s_S = (p_S - p_T) / (B gamma_S)."""
    torch.manual_seed(0)
    anchors_HD = torch.eye(7, dtype=torch.float64)
    student_BD = torch.rand(3, 7, dtype=torch.float64, requires_grad=True)
    teacher_BH = log_similarities(torch.rand(3, 7, dtype=torch.float64), anchors_HD, 0.3)
    student_BH = log_similarities(student_BD, anchors_HD, 0.2)
    (gradient,) = torch.autograd.grad(kl_divergence(teacher_BH, student_BH), student_BD)
    expected = (student_BH.exp() - teacher_BH.exp()) / (3 * 0.2)
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-6, atol=1e-9)


def test_kl_worked_by_hand():
    target, output = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert float(kl_divergence(target, output)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_predictor_has_the_published_size():
    predictor = task(projection_dim=128, predictor_hidden=1024).objective(Tiny([4])).predictor
    assert sum(p.numel() for p in predictor.parameters()) == 265_344


def test_teacher_starts_as_the_student_and_is_not_trained():
    net = objective()
    student = [*net.backbone.state_dict().values(), *net.projection.state_dict().values()]
    teacher = list(net.teacher.state_dict().values())
    assert len(student) == len(teacher)
    assert all(torch.equal(s, t) for s, t in zip(student, teacher, strict=True))
    assert not any(p.requires_grad for p in net.teacher.parameters())
    assert all(p.requires_grad for m in (net.backbone, net.projection, net.predictor) for p in m.parameters())
    net(batch()).loss.backward()
    assert all(p.grad is None for p in net.teacher.parameters())


def test_teacher_follows_the_updated_student_parameters_but_not_its_buffers():
    net = objective()
    before = copy.deepcopy(net.teacher.network.state_dict())
    # Student and teacher see other clips, so their running statistics differ.
    train_step(net, sgd(net), batch())
    statistics = "layers.0.1.running_mean"
    assert not torch.allclose(
        net.backbone.state_dict()[statistics], net.teacher.network.state_dict()[f"0.{statistics}"]
    )
    student = {f"0.{name}": p for name, p in net.backbone.named_parameters()}
    student |= {f"1.{name}": p for name, p in net.projection.named_parameters()}
    moved = 0
    for name, parameter in net.teacher.network.named_parameters():
        torch.testing.assert_close(parameter, 0.9 * before[name] + 0.1 * student[name], rtol=0, atol=1e-12)
        moved += not torch.equal(parameter, before[name])
    assert moved == len(student)
    buffers = copy.deepcopy(dict(net.teacher.named_buffers()))
    net.after_step(PROGRESS)
    assert all(torch.equal(buffers[name], value) for name, value in net.teacher.named_buffers())


def test_anchors_are_those_from_before_the_batch():
    net, data = objective(), batch()
    before = net.queue.keys.clone()
    assert not torch.allclose(textbook_kl(net, data, before), textbook_kl(net, data, before.roll(1, dims=1)))
    torch.testing.assert_close(net(data).loss, textbook_kl(net, data, before))
    assert torch.equal(net.queue.keys, before)
    net.after_step(PROGRESS)
    assert not torch.equal(net.queue.keys, before)


def test_accumulated_batches_are_enqueued_in_order_by_the_step():
    net, first, second = objective(), batch(1), batch(2)
    before = net.queue.keys.clone()
    keys = [unit(net.teacher(data["clips"][:, 1])).detach() for data in (first, second)]
    train_step(net, sgd(net), first, second)
    torch.testing.assert_close(net.queue.keys[:8], torch.cat(keys))
    assert torch.equal(net.queue.keys[8:], before[8:])
    assert net.queue.pointer == 8
    net.after_step(PROGRESS)
    assert net.queue.pointer == 8


def test_the_queue_wraps_within_a_batch():
    net = objective()
    optimizer = sgd(net)
    keys = []
    for seed in (1, 2, 3):
        keys.append(unit(net.teacher(batch(seed)["clips"][:, 1])).detach())
        train_step(net, optimizer, batch(seed))
    torch.testing.assert_close(net.queue.keys, torch.cat([keys[2][2:], keys[0][2:], keys[1], keys[2][:2]]))


def test_first_clip_goes_to_the_student_second_to_the_teacher():
    net, data = objective(), batch()
    swapped = {"clips": data["clips"].flip(1)}
    loss = net(data).loss
    torch.testing.assert_close(loss, textbook_kl(net, data, net.queue.keys))
    assert not torch.allclose(loss, textbook_kl(net, swapped, net.queue.keys))


def test_training_goes_on_the_same_from_a_saved_state():
    net = objective()
    optimizer = sgd(net)
    for seed in (1, 2, 3):
        train_step(net, optimizer, batch(seed))
    restored = objective(seed=7)
    restored.load_state_dict(copy.deepcopy(net.state_dict()))
    for seed in (4, 5, 6):
        loss = train_step(restored, sgd(restored), batch(seed))
        assert loss == train_step(net, optimizer, batch(seed))
    assert torch.equal(net.queue.keys, restored.queue.keys)


def test_evaluation_changes_neither_queue_nor_the_teachers_mode():
    net = objective().eval()
    before = net.queue.keys.clone()
    assert not net.backbone.training
    assert all(module.training for module in net.teacher.network.modules())
    assert torch.isfinite(net(batch(1)).loss)
    net.train()
    net.after_step(PROGRESS)
    assert torch.equal(net.queue.keys, before)
    train_step(net, sgd(net), batch(2))
    assert net.queue.pointer == 4


def test_metrics_tell_collapse_from_health():
    net, data = objective(), batch()
    metrics = net(data).metrics
    assert 0 < metrics["teacher_entropy"] < 0.9
    assert -1 <= metrics["cosine"] <= 1
    net.queue.keys.copy_(torch.ones_like(net.queue.keys) / 8**0.5)
    collapsed = net(data).metrics
    assert collapsed["teacher_entropy"] == pytest.approx(1)
    assert collapsed["student_entropy"] == pytest.approx(1)


def test_without_a_predictor_the_student_is_its_projection():
    net, data = objective(predictor_layers=0), batch()
    assert not list(net.predictor.parameters())
    expected = textbook_kl(net, data, net.queue.keys)
    assert net(data).loss.item() == pytest.approx(expected.item())


def test_one_layer_is_no_predictor():
    with pytest.raises(OptionError, match=r"^predictor_layers=1: has no hidden layer; say 2 or more, or 0"):
        task(predictor_layers=1)


def test_with_a_momentum_of_1_the_teacher_stays_as_it_was_drawn():
    net = objective(momentum=1.0)
    drawn = [p.clone() for p in net.teacher.parameters()]
    with torch.no_grad():
        for parameter in net.backbone.parameters():
            parameter.add_(1)
    net(batch())
    net.after_step(PROGRESS)
    assert all(torch.equal(now, before) for now, before in zip(net.teacher.parameters(), drawn, strict=True))


def test_pairs_are_drawn_by_the_pretext_sampler():
    for distinct in (True, False):
        pairs = PairSampler(PAIRS.sampler, distinct)
        rng = np.random.default_rng(3)
        first, second = (PAIRS.sampler.plan(60, rng) for _ in range(2))
        while distinct and any(first.targets[name] == second.targets[name] for name in first.targets):
            second = PAIRS.sampler.plan(60, rng)
        expected = np.concatenate([first.frames_KT, second.frames_KT])
        assert pairs.plan(60, np.random.default_rng(3)).frames_KT.tolist() == expected.tolist()
        assert pairs.plan(60, np.random.default_rng(3)).targets == pairs.classes == {}


@pytest.mark.parametrize("pretext", [PAIRS.sampler, VCOPSampler(num_clips=3, num_frames=4, gap=2)])
@dataclass(frozen=True)
class PerVideo(ClipSampler):
    """A target that is the same for all clips of a video."""

    @property
    def classes(self):
        return {"video": 5}

    def plan(self, num_frames, rng):
        return ClipPlan(rng.integers(num_frames, size=(1, 4)), {"video": num_frames % 5})


def test_a_target_that_never_differs_ends_with_an_error():
    with pytest.raises(OptionError, match=r"^distinct=true: in 1000 tries, no two clips .* say false$"):
        PairSampler(PerVideo(), distinct=True).plan(60, np.random.default_rng(0))
    assert len(PairSampler(PerVideo(), distinct=False).plan(60, np.random.default_rng(0)).frames_KT) == 2


@dataclass(frozen=True)
class OwnPairs(PerVideo):
    def pair(self, num_frames, rng, distinct):
        return ClipPlan(np.array([[int(distinct)], [num_frames]]), {})


@pytest.mark.parametrize("distinct", [True, False])
def test_a_sampler_may_draw_pairs_in_a_way_of_its_own(distinct):
    plan = PairSampler(OwnPairs(), distinct).plan(60, np.random.default_rng(0))
    assert plan.frames_KT.tolist() == [[int(distinct)], [60]]


def test_pairs_need_videos_as_long_as_the_pretext_does():
    class Long(VSPPSampler):
        min_frames = 64

    assert PairSampler(Long(16, 4, 4, "released", "inside", "loop", 1), distinct=True).min_frames == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queue_size": 1}, "queue_size=1: too small"),
        ({"momentum": 1.5}, "momentum=1.5"),
        (
            {"teacher_temperature": 1e-42},
            "teacher_temperature=1e-42: too small; choose 0.0001 or more",
        ),
        ({"student_temperature": -0.1}, "student_temperature=-0.1"),
    ],
)
def test_values_that_make_no_sense(changes, message):
    with pytest.raises(VsslError, match=message):
        task(**changes)
