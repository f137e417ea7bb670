"""The linear probe: the head learns, and nothing else moves."""

import copy

import torch

from conftest import sgd
from vssl.backbone.tiny import Tiny
from vssl.protocol.finetune import RandomClip
from vssl.protocol.linear import LinearProbe


def probe():
    torch.manual_seed(0)
    return LinearProbe(RandomClip(16, "loop"), 5).objective(Tiny([4, 6]))


def test_only_the_head_learns():
    net = probe().train()
    before = copy.deepcopy(net.state_dict())
    generator = torch.Generator().manual_seed(1)
    clips, labels = 255 * torch.rand(8, 1, 3, 16, 8, 8, generator=generator), torch.arange(8) % 5
    # Weight decay would shrink what has no gradient of its own.
    optimizer = sgd(lr=0.1, weight_decay=0.1).build(net.named_parameters())
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss, _ = net({"clips": clips, "label": labels})
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {
        "head.weight",
        "head.bias",
        "scale.running_mean",
        "scale.running_var",
        "scale.num_batches_tracked",
    }


def test_the_backbone_stays_in_evaluation_mode():
    net = probe().train()
    assert net.head.training
    assert net.scale.training
    assert not any(module.training for module in net.backbone.modules())
    assert not net.eval().head.training


def test_it_is_linear_in_the_features():
    net = probe().eval()
    net.scale.running_mean.uniform_(-1, 1)
    net.scale.running_var.uniform_(0.5, 2)
    clips = torch.rand(2, 3, 3, 16, 8, 8)
    features_BD = net.backbone(clips[:, 1])
    scaled_BD = (features_BD - net.scale.running_mean) / (net.scale.running_var + net.scale.eps).sqrt()
    torch.testing.assert_close(net.logits(clips)[:, 1], scaled_BD @ net.head.weight.T + net.head.bias)
