"""The momentum update, against its formula."""

import copy

import torch
from torch import nn

from vssl.nn.ema import update_ema


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def test_every_parameter_moves_by_the_formula_and_no_buffer_moves():
    teacher, student = net(0), net(1)
    student(torch.randn(8, 3, dtype=torch.float64))
    before = copy.deepcopy(teacher.state_dict())
    update_ema(teacher, student, momentum=0.9)
    parameters = {name for name, _ in teacher.named_parameters()}
    for name, value in teacher.state_dict().items():
        expected = before[name]
        if name in parameters:
            expected = 0.9 * before[name] + 0.1 * student.state_dict()[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-15)
    assert not torch.equal(student[1].running_mean, teacher[1].running_mean)


def test_the_student_stays_and_no_graph_is_built():
    teacher, student = net(0), net(1)
    before = copy.deepcopy(student.state_dict())
    update_ema(teacher, student, momentum=0.5)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(p.is_leaf for p in teacher.parameters())
