"""mode=convert: from a published kind of checkpoint to weights that fine-tuning starts from."""

import argparse
from typing import get_args, get_type_hints

import torch

from vssl.backbone.c3d import C3D
from vssl.backbone.convert import PUBLISHED
from vssl.options import Convert


def test_a_damaged_and_a_missing_file(launch, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    for file, message in (("bad.pth", "damaged"), ("none.pth", "No such file")):
        done = launch("mode=convert", "backbone=r3d_10", f"convert.weights={tmp_path / file}")
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_published_checkpoint_becomes_init_weights(launch, tmp_path):
    torch.manual_seed(0)
    own = C3D().state_dict()
    theirs = {f"module.encoder_q.{name.removeprefix('layers.')}": value for name, value in own.items()}
    theirs["module.encoder_q.linear.weight"] = torch.zeros(128, 512)
    file = tmp_path / "aux.pth"
    torch.save({"state_dict": theirs, "opt": argparse.Namespace(lr=0.1), "epoch": 18}, file)
    done = launch("mode=convert", "backbone=c3d", "convert.family=videopace", f"convert.weights={file}")
    assert done.returncode == 0, done.stderr
    assert "pretext=videopace" in done.stdout
    assert "encoder_q.linear.weight" in done.stdout
    [target] = (tmp_path / "converted").glob("aux-videopace-*.pt")
    converted = torch.load(target)
    assert converted.keys() == own.keys()
    own["layers.conv1.weight"] = own["layers.conv1.weight"].flip(1)  # to RGB
    assert all(torch.equal(converted[name], own[name]) for name in own)


def test_every_family_can_be_asked_for():
    assert get_args(get_type_hints(Convert)["family"]) == tuple(PUBLISHED)
