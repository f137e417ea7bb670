"""Distillation: auxSKD with its options at rest, and each other form against its formula; teachers from
files."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from conftest import PROGRESS, RUNTIME, SMALL, composed, sgd, training
from multiprocess import run_together
from objectives import objective_of, random_clips
from vssl.auxiliary.auxskd import AuxSKD, PairSampler
from vssl.auxiliary.distillation import Distillation, SameClip
from vssl.backbone.tiny import Tiny
from vssl.engine.checkpoint import save
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.errors import OptionError, VsslError
from vssl.pipeline import plain, plan
from vssl.pretext.vspp import VSPPSampler
from vssl.report.sheet import draw_preview
from vssl.stage.callback import Silent
from vssl.stage.construct import Machine, Stage
from vssl.stage.preview import preview

VSPP = VSPPSampler(16, 4, 4, "released", "inside", "loop", 1)
CHOICES = ("distillation", "isd", "isd_plus", "compress", "seed", "byol")
AUXSKD = {
    "sampler": PairSampler(VSPP, distinct=True),
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
AT_REST = {
    "projection_layers": 1,
    "projection_hidden": 7,
    "projection_norm": False,
    "loss": "anchors",
    "own_anchor": False,
    "student_queue": False,
    "teacher": None,
    "teacher_weights": None,
}


def objective(seed=0, **changes):
    return objective_of(Distillation(**{**AUXSKD, **AT_REST, **changes}), seed)


def given(dim=6):
    torch.manual_seed(9)
    return Tiny([5, dim]).double()


def batch(clips=2, size=4, seed=0):
    return random_clips(size, clips, 16, seed=seed)


def step(net, data):
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    loss = net(data).loss
    loss.backward()
    optimizer.step()
    net.after_step(PROGRESS)
    return loss


def test_at_rest_it_is_auxskd_to_the_bit():
    net = objective()
    torch.manual_seed(0)
    auxskd = AuxSKD(**AUXSKD).objective(Tiny([4, 6])).double().train()
    for seed in (1, 2, 3):
        assert step(net, batch(seed=seed)) == step(auxskd, batch(seed=seed))
    one, two = net.state_dict(), auxskd.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_mean_square_without_anchors():
    """BYOL: |q - k|^2 of unit vectors."""
    net, data = objective(loss="cosine"), batch()
    student = F.normalize(net.predictor(net.projection(net.backbone(data["clips"][:, 0]))))
    with torch.no_grad():
        teacher = F.normalize(net.teacher(data["clips"][:, 1]))
    loss, metrics = net(data)
    torch.testing.assert_close(loss, (student - teacher).square().sum(dim=1).mean())
    assert metrics["spread"] == pytest.approx(student.std(dim=0).mean().item())
    assert net.keys() is None
    assert "queue.keys" not in net.state_dict()


def test_compress_compares_each_with_anchors_of_its_own():
    """Widths differ; the anchors of both are of the same samples in the same order."""
    forms = {"projection_layers": 0, "predictor_layers": 0, "student_queue": True, "teacher": given(5)}
    net, data = objective(**forms), batch(clips=1)
    assert net.queue.keys.shape == (10, 5)
    assert net.own_queue.keys.shape == (10, 6)
    clips = data["clips"][:, 0]
    student = F.normalize(net.backbone(clips))
    with torch.no_grad():
        teacher = F.normalize(copy.deepcopy(net.teacher.network).eval()(clips))
        average = F.normalize(net.average(clips))
    p_student = (student @ net.own_queue.keys.T / 0.1).softmax(dim=1)
    p_teacher = (teacher @ net.queue.keys.T / 0.02).softmax(dim=1)
    expected = (p_teacher * (p_teacher / p_student).log()).sum(dim=1).mean()
    torch.testing.assert_close(net(data).loss, expected)
    net.after_step(PROGRESS)
    torch.testing.assert_close(net.queue.keys[:4], teacher)
    torch.testing.assert_close(net.own_queue.keys[:4], average)


def test_seed_has_the_gradient_of_its_soft_cross_entropy_with_the_own_key_as_an_anchor():
    forms = {"projection_layers": 2, "predictor_layers": 0, "own_anchor": True, "teacher": given(5)}
    net, data = objective(**forms), batch(clips=1)
    clips = data["clips"][:, 0]
    first, _, second = net.projection
    assert (first.out_features, second.out_features) == (
        7,
        5,
    )  # as wide as the teacher, whatever projection_dim
    student = F.normalize(second(first(net.backbone(clips)).relu()))
    with torch.no_grad():
        teacher = F.normalize(net.teacher(clips))
    losses = []
    for b in range(4):
        anchors = torch.cat([teacher[b : b + 1], net.queue.keys])
        p_teacher = (anchors @ teacher[b] / 0.02).softmax(dim=0)
        losses.append(-(p_teacher * (anchors @ student[b] / 0.1).log_softmax(dim=0)).sum())
    trained = [p for p in net.parameters() if p.requires_grad]
    ours = torch.autograd.grad(net(data).loss, trained)
    theirs = torch.autograd.grad(sum(losses) / 4, trained)
    torch.testing.assert_close(ours, theirs)


def test_isd_has_no_projection():
    net = objective(projection_layers=0)
    assert net.queue.keys.shape == (10, 6)
    assert [part.out_features for part in net.predictor if isinstance(part, nn.Linear)] == [12, 6]


def test_a_projection_with_and_without_batch_norm():
    for norm in (True, False):
        net = objective(projection_layers=2, projection_norm=norm)
        assert [type(part).__name__ for part in net.projection] == [
            "Linear",
            *(["BatchNorm1d"] if norm else []),
            "ReLU",
            "Linear",
        ]
        assert net.teacher(batch()["clips"][:, 0]).shape == (4, 8)


def test_a_given_teacher_stays_as_it_is_in_evaluation_mode():
    teacher = given()
    net = objective(projection_layers=0, teacher=teacher)
    before = copy.deepcopy(net.teacher.state_dict())
    step(net, batch())
    net.train()
    assert not any(module.training for module in net.teacher.network.modules())
    assert all(torch.equal(before[name], value) for name, value in net.teacher.state_dict().items())
    assert not any(p.requires_grad for p in net.teacher.parameters())
    assert all(p.requires_grad for p in teacher.parameters())  # it has a copy


@pytest.mark.parametrize("clips", [1, 2])
def test_one_clip_for_both(clips):
    sampler = SameClip(VSPP, clips)
    for seed in range(10):
        plan = sampler.plan(60, np.random.default_rng(seed))
        expected = PairSampler(VSPP, False).plan(60, np.random.default_rng(seed)).frames_KT[0]
        assert plan.frames_KT.tolist() == [expected.tolist()] * clips
        assert plan.targets == {}
    assert sampler.min_frames == VSPP.min_frames


@pytest.mark.parametrize(("name", "clips"), [("compress", 1), ("byol", 2), ("isd_plus", 2)])
def test_a_preview_shows_as_many_clips_as_there_are(name, clips, stage):
    shown = preview(stage("auxiliary", f"auxiliary={name}"), samples=1)
    assert len(shown.samples[0].plan.frames_KT) == clips
    assert draw_preview(shown).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_weights": "a.pt"}, r"^teacher_weights=a\.pt: there is no teacher for it; say"),
        ({"student_queue": True, "own_anchor": True}, r"^own_anchor=true: compares student and teacher"),
        ({"student_queue": True, "loss": "cosine"}, r"^loss=cosine: compares student and teacher"),
        ({"predictor_layers": -1}, r"^predictor_layers=-1: too small"),
    ],
)
def test_what_does_not_go_together(changes, message):
    with pytest.raises(OptionError, match=message):
        objective(**changes)


def test_features_of_another_width_than_the_teachers():
    changes = {"projection_layers": 0, "teacher": Tiny([5])}
    with pytest.raises(OptionError, match=r"^projection_layers=0: the student has 6 features, and"):
        Distillation(**AUXSKD | AT_REST | changes).check_backbone(Tiny([4, 6]), 32)


# The choices


def built(name, *overrides):
    cfg = composed(f"auxiliary={name}", "backbone=tiny", "auxiliary.queue_size=16", *overrides)
    return Stage(plan(cfg)[0]).task, Stage(plan(cfg)[0]).backbone()


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_trains_the_whole_backbone_and_names_its_references(name):
    task, backbone = built(name)
    net = task.objective(backbone).train()
    clips = len(task.sampler.plan(300, np.random.default_rng(0)).frames_KT)
    output = net({"clips": batch(clips)["clips"].float()})
    assert set(task.references()) <= set(output.metrics)
    assert math.isfinite(output.loss.item())
    output.loss.backward()
    missed = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missed


def batches(steps, clips):
    whole = torch.rand(8, clips, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    for at in range(steps.total):
        numbers = [torch.tensor([index for _, index in samples]) for samples in steps.mine(at)]
        yield [{"clips": whole[n], "index": n} for n in numbers]


def trained_state(name, folder):
    task, backbone = built(name)
    clips = len(task.sampler.plan(300, np.random.default_rng(0)).frames_KT)
    torch.manual_seed(0)
    steps = Steps(8, training(epochs=1, optimizer=sgd(lr=0.01), drop_last=True), seed=3)
    net = task.objective(backbone).double()
    loop = Loop(net, steps, 1, lambda batch: batch["clips"], folder, RUNTIME, Silent())
    loop.run(batches(steps, clips))
    return net.state_dict()


@pytest.mark.parametrize("name", ["compress", "seed", "byol"])
def test_two_processes_train_as_one(name, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    alone = trained_state(name, tmp_path / "one")
    one, two = run_together(partial(trained_state, name), tmp_path / "two")
    for key, value in alone.items():
        if "running_" not in key and "num_batches_tracked" not in key:
            torch.testing.assert_close(one[key], two[key], rtol=0, atol=0, msg=key)
            torch.testing.assert_close(one[key], value, rtol=1e-7, atol=1e-9, msg=key)


# A teacher from a file


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "teacher.pt"
    torch.manual_seed(5)
    save(path, Tiny([8, 16, 32, 64]).state_dict())
    return path


def auxiliary(*overrides):
    return plan(composed(*SMALL, "auxiliary=compress", *overrides))[0]


def test_a_teacher_has_the_weights_of_its_file_which_count_by_their_content(weights, tmp_path):
    stage = auxiliary(f"auxiliary.teacher_weights={weights}")
    task = Stage(stage).task
    torch.manual_seed(5)
    for name, value in Tiny([8, 16, 32, 64]).state_dict().items():
        assert torch.equal(task.teacher.state_dict()[name], value)
    moved = weights.rename(tmp_path / "elsewhere.pt")
    assert auxiliary(f"auxiliary.teacher_weights={moved}") == stage
    assert auxiliary() != stage
    assert str(moved) not in str(stage.recipe.to_plain())
    save(moved, Tiny([8, 16, 32, 64]).state_dict())
    assert auxiliary(f"auxiliary.teacher_weights={moved}") != stage


def test_a_file_that_changes_after_the_plan(weights):
    stage = auxiliary(f"auxiliary.teacher_weights={weights}")
    save(weights, Tiny([8, 16, 32, 64]).state_dict())
    with pytest.raises(OptionError, match=r"^auxiliary\.teacher_weights=.*: has changed since the launch"):
        _ = Stage(stage).task


def test_weights_that_do_not_fit_and_files_that_are_missing_are_said_before_anything_runs(weights):
    stage = auxiliary(f"auxiliary.teacher_weights={weights}", "backbone@auxiliary.teacher=c3d")
    with pytest.raises(VsslError, match=r"^auxiliary\.teacher_weights=.*: not weights of C3D"):
        Stage(stage).check(Machine())
    with pytest.raises(OptionError, match=r"^auxiliary\.teacher_weights=nowhere\.pt: .*; give the file of a"):
        auxiliary("auxiliary.teacher_weights=nowhere.pt")


def test_the_teacher_may_be_another_net():
    cfg = composed("auxiliary=compress", "backbone=tiny", "backbone@auxiliary.teacher=resnet3d_18")
    task = instantiate({k: v for k, v in plain(cfg.auxiliary.teacher).items() if k != "input"})
    assert type(task).__name__ == "ResNet3D"
    assert Stage(plan(cfg)[0]).task.teacher.feature_dim == 512


def test_a_teacher_of_random_weights_is_the_same_each_time():
    one, two = (Stage(auxiliary()).task.teacher.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
