"""Rotation: clips by hand, the loss against its formula, and the trap of mirrored clips."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError
from vssl.pretext.rotation import Rotation, RotationSampler
from vssl.stage.build import build


def sampler(**changes):
    settings = {"num_frames": 4, "stride": 2, "num_angles": 4, "angles": "all", "out_of_bounds": "loop"}
    return RotationSampler(**{**settings, **changes})


def objective(**changes):
    torch.manual_seed(0)
    return Rotation(sampler(**changes)).objective(Tiny([4, 6])).double().train()


def batch(size=8):
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(size, 1, 3, 4, 8, 8, generator=generator, dtype=torch.float64)
    return {"clips": clips, "angle": torch.arange(size) % 4}


def turned(clip_CTHW, quarters):
    """Anticlockwise: what was on the right comes to the top."""
    for _ in range(quarters):
        clip_CTHW = clip_CTHW.transpose(2, 3).flip(2)
    return clip_CTHW


@pytest.mark.parametrize("angles", ["all", "one"])
def test_frames_and_targets(angles):
    one = sampler(angles=angles)
    plans = [one.plan(10, np.random.default_rng(seed)) for seed in range(200)]
    assert {tuple(plan.frames_KT[0]) for plan in plans} == {(s, s + 2, s + 4, s + 6) for s in range(4)}
    assert {tuple(plan.targets.items()) for plan in plans} == (
        {(("angle", n),) for n in range(4)} if angles == "one" else {()}
    )
    assert one.pair(10, np.random.default_rng(0), True).frames_KT.shape == (2, 4)


def test_all_angles_of_every_clip():
    net, data = objective(), batch(size=3)
    quarters = [n for n in range(4) for _ in range(3)]
    clips = torch.stack([turned(data["clips"][n % 3, 0], k) for n, k in enumerate(quarters)])
    expected = F.cross_entropy(net.head(net.backbone(clips)), torch.tensor(quarters))
    torch.testing.assert_close(net(data).loss, expected)


def test_one_angle_of_every_clip():
    net, data = objective(angles="one"), batch()
    clips = torch.stack([turned(clip[0], n % 4) for n, clip in enumerate(data["clips"])])
    logits = net.head(net.backbone(clips))
    loss, metrics = net(data)
    torch.testing.assert_close(loss, F.cross_entropy(logits, data["angle"]))
    assert metrics["angle_accuracy"] == (logits.argmax(1) == data["angle"]).double().mean()


def test_two_angles_are_0_and_180_degrees():
    net, data = objective(num_angles=2), batch(size=2)
    clips = torch.cat([data["clips"][:, 0], data["clips"][:, 0].flip((3, 4))])
    expected = F.cross_entropy(net.head(net.backbone(clips)), torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(net(data).loss, expected)
    node = {"_target_": "vssl.pretext.rotation.RotationSampler", "num_frames": 4, "stride": 1}
    node |= {"num_angles": 3, "angles": "all", "out_of_bounds": "loop"}
    with pytest.raises(OptionError, match="num_angles=3: no such value; valid: 2, 4"):
        build(node, "sampler")


def test_mirrored_after_it_is_turned_a_clip_would_be_one_that_is_turned_the_other_way():
    """So mirroring has to come first, as the device's does: the objective turns what is mirrored already."""
    clip = torch.rand(3, 4, 8, 8)
    for quarters in range(4):
        assert torch.equal(turned(clip, quarters).flip(3), turned(clip.flip(3), -quarters % 4))
    net, data = objective(angles="one"), batch()
    seen = []
    net.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net({**data, "clips": data["clips"].flip(-1)})
    for n, found in enumerate(seen[0]):
        assert torch.equal(found, turned(data["clips"][n, 0].flip(3), n % 4))
