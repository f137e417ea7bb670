"""The momentum encoder: its update against the formula, its mode, and what it cannot do with."""

import copy

import pytest
import torch
from torch import nn

from vssl.errors import OptionError
from vssl.nn.contrast import MomentumEncoder, check_batches


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def test_every_parameter_moves_by_the_formula_and_no_buffer_moves():
    encoder, student = MomentumEncoder(net(0), shuffle_bn=False), net(1)
    teacher = encoder.network
    student(torch.randn(8, 3, dtype=torch.float64))
    before = copy.deepcopy(teacher.state_dict())
    encoder.follow(student, momentum=0.9)
    parameters = {name for name, _ in teacher.named_parameters()}
    for name, value in teacher.state_dict().items():
        expected = before[name]
        if name in parameters:
            expected = 0.9 * before[name] + 0.1 * student.state_dict()[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-15)
    assert not torch.equal(student[1].running_mean, teacher[1].running_mean)


def test_the_student_stays_and_no_graph_is_built():
    teacher, student = MomentumEncoder(net(0), shuffle_bn=False), net(1)
    before = copy.deepcopy(student.state_dict())
    teacher.follow(student, momentum=0.5)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(p.is_leaf for p in teacher.parameters())


def test_it_is_a_copy_without_gradient_that_always_normalises_with_its_own_batch():
    network = net(0)
    encoder = MomentumEncoder(network, shuffle_bn=False)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), encoder.parameters(), strict=True))
    assert not any(p.requires_grad for p in encoder.parameters())
    nn.ModuleList([encoder]).eval()
    assert not encoder.training
    assert all(module.training for module in encoder.network.modules())
    clips = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    assert not encoder(clips).requires_grad
    torch.testing.assert_close(encoder(clips), network.train()(clips).detach())


@pytest.mark.parametrize(
    ("queue_size", "shuffle_bn", "message"),
    [
        (3, False, "^queue_size=3: cannot hold the keys of a batch of 4; choose 4 or more$"),
        (
            4,
            True,
            "^shuffle_bn=true: needs full batches, .*; say training.drop_last=true, or",
        ),
    ],
)
def test_batches_that_it_cannot_do_with(queue_size, shuffle_bn, message):
    check_batches(4, False, batch_size=4, drop_last=False)
    check_batches(4, True, batch_size=4, drop_last=True)
    with pytest.raises(OptionError, match=message):
        check_batches(queue_size, shuffle_bn, batch_size=4, drop_last=False)
