"""Objectives on a tiny backbone, in double precision: what tests of tasks that compare clips share."""

import copy

import torch

from vssl.backbone.tiny import Tiny
from vssl.types import Progress


def objective_of(task, seed):
    torch.manual_seed(seed)
    return task.objective(Tiny([4, 6])).double().train()


def random_clips(size, clips, frames, side=8, seed=0):
    """A batch of clips [B,K,3,T,side,side], the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (size, clips, 3, frames, side, side)
    return {"clips": torch.rand(shape, generator=generator, dtype=torch.float64)}


def assert_same_loss_and_gradient(net, loss, expected):
    torch.testing.assert_close(loss, expected)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    ours, theirs = (torch.autograd.grad(one, trained) for one in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def assert_follows(net, follower, share, momentum):
    """A step at this share of the training moves the network of `follower` with this momentum."""
    before = copy.deepcopy(follower.network.state_dict())
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    net.after_step(Progress(epochs=1.0, share=share))
    for name, value in follower.network.named_parameters():
        torch.testing.assert_close(value, before[name] + 1 - momentum)


def depends_on_length(net):
    """Whether a step asks what share of the training is done."""
    progress = Progress(epochs=1.0, share=0.5)
    net.after_step(progress)
    return progress.share_was_read
