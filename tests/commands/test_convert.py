"""mode=convert: from a published kind of checkpoint to weights that fine-tuning starts from."""

import argparse
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from conftest import configs
from vssl.backbone.c3d import C3D
from vssl.backbone.published import FAMILIES
from vssl.backbone.torchvision_nets import VideoResNet18
from vssl.commands.plan import plan
from vssl.errors import OptionError
from vssl.options import Convert
from vssl.pipeline import merge
from vssl.stage.build import build
from vssl.stage.weights import load_backbone


def test_a_damaged_and_a_missing_file(launch, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"root:x:0:0:root:/root:/bin/bash")
    torch.save([1, 2], tmp_path / "list.pth")
    said = {"bad.pth": "damaged", "list.pth": "no state dict", "none.pth": "no such file"}
    for file, message in said.items():
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
    assert "trained on 16 frames, pixels 0..255, BGR, turned to RGB here" in done.stdout
    assert "backbone=c3d auxiliary=none pretext=none pretext.augmentation.pixel_max=255.0" in done.stdout
    assert "encoder_q.linear.weight" in done.stdout
    [target] = (tmp_path / "converted").glob("aux-videopace-*.pt")
    converted = torch.load(target)
    assert converted.keys() == own.keys()
    own["layers.conv1.weight"] = own["layers.conv1.weight"].flip(1)  # to RGB
    assert all(torch.equal(converted[name], own[name]) for name in own)


def test_every_family_can_be_asked_for():
    assert get_args(get_type_hints(Convert)["family"]) == tuple(FAMILIES)


def test_all_converted_weights_are_rows_of_one_sweep(launch, tmp_path):
    """From two files to a plan of their tests: each with its own net, range of pixels and frames."""
    torch.manual_seed(0)
    moco = {
        f"module.encoder_q.{key}": tensor
        for key, tensor in VideoResNet18("r3d_18", 2, 2, 1e-5).state_dict().items()
    }
    tclr = {
        f"module.0.{key}": tensor for key, tensor in VideoResNet18("r3d_18", 2, 1, 1e-5).state_dict().items()
    }
    for name, state, chosen in (("moco", moco, []), ("tclr", tclr, ["backbone.last_temporal_stride=1"])):
        torch.save({"state_dict": state}, tmp_path / f"{name}.pth")
        words = ["mode=convert", "backbone=r3d_18", *chosen, "convert.family=torchvision"]
        done = launch(*words, f"convert.weights={tmp_path / name}.pth", small=False)
        assert done.returncode == 0, done.stderr
    words = [*SWEEP, f"outputs={tmp_path}", f"convert.folder={tmp_path / 'converted'}"]
    first, second = configs(*words)
    assert [cfg.label.partition("-")[0] for cfg in (first, second)] == ["moco", "tclr"]
    assert (first.backbone.last_temporal_stride, second.backbone.last_temporal_stride) == (2, 1)
    assert (first.backbone.input.num_frames, second.backbone.input.num_frames) == (32, 16)
    ranges = [
        (cfg.protocol.augmentation.pixel_max, cfg.protocol.augmentation.mean) for cfg in (first, second)
    ]
    assert ranges == [(1.0, [0.485, 0.456, 0.406]), (1.0, None)]
    for cfg in (first, second):
        assert [spec.name for spec in plan(cfg)] == ["linear", "test"]
        load_backbone(
            build({k: v for k, v in cfg.backbone.items() if k != "input"}, "backbone"), Path(cfg.init.weights)
        )
    rehearsed = [plan(cfg) for cfg in configs(*words, "experiment=quick")]
    assert [spec.name for spec in merge(rehearsed)] == ["linear", "test"] * 2
    given = configs(*words, "backbone.input.num_frames=8")
    assert [cfg.backbone.input.num_frames for cfg in given] == [8, 8]


SWEEP = ["+sweeps=published", "protocol=linear"]


def test_a_folder_without_converted_weights_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"^convert\.folder=.*: no converted weights; make some with"):
        configs(*SWEEP, f"convert.folder={tmp_path}")
