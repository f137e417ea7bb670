"""Speeds of finished stages, from planted stores."""

import os
from dataclasses import replace

import fake_store
from vssl.report.speed import group, speeds
from vssl.stage.store import StageStore

SMALL, LARGE = {"_target_": "Net", "widths": [8, 16]}, {"_target_": "Net", "widths": [64, 64]}


def stage(backbone, seed, name="pretext"):
    spec = fake_store.stage(name, "Any", fake_store.videos("ucf101"), seed)
    return replace(spec, recipe=replace(spec.recipe, backbone=backbone))


def finish(store, spec, at=0, device="cpu", **cost):
    fake_store.finish(store, spec, device=device, **{"gpus": 0, **cost})
    os.utime(store.folder(spec) / "result.json", (at, at))


def speed_of(store, spec):
    return speeds(store, [group(spec)]).get(group(spec))


def test_clips_by_seconds_of_stages_with_this_name_and_backbone(tmp_path):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), clips=100, seconds=1.0)
    finish(store, stage(SMALL, 1), clips=200, seconds=5.0)
    finish(store, stage(LARGE, 2), clips=7, seconds=1.0)
    finish(store, stage(SMALL, 3, "test"), clips=9, seconds=1.0)
    found = speed_of(store, stage(SMALL, 9))
    assert (found.clips_per_s, found.gpus, found.device) == (50.0, 0.0, "cpu")
    assert speed_of(store, stage(LARGE, 9)).clips_per_s == 7.0


def test_the_device_of_the_latest_stage_counts(tmp_path):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), 1, "cuda:0", clips=100, seconds=1.0, gpus=1)
    finish(store, stage(SMALL, 1), 3, "cuda:0", clips=300, seconds=1.0, gpus=2)
    finish(store, stage(SMALL, 2), 2, "cpu", clips=1, seconds=1.0)
    found = speed_of(store, stage(SMALL, 9))
    assert (found.clips_per_s, found.gpus, found.device) == (200.0, 1.5, "cuda")


def test_another_gpu_has_another_speed(tmp_path):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), 1, "cuda:0, NVIDIA A100", clips=100, seconds=1.0, gpus=1)
    finish(store, stage(SMALL, 1), 2, "cuda:1, NVIDIA H100", clips=300, seconds=1.0, gpus=1)
    finish(store, stage(SMALL, 2), 3, "cuda:0, NVIDIA H100", clips=500, seconds=1.0, gpus=1)
    found = speed_of(store, stage(SMALL, 9))
    assert (found.clips_per_s, found.device) == (400.0, "NVIDIA H100")


def test_stages_without_clips_have_no_speed(tmp_path):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), clips=0, seconds=3.0)
    assert speed_of(store, stage(SMALL, 9)) is None
    assert speeds(StageStore(tmp_path / "none"), [group(stage(SMALL, 0))]) == {}


def test_the_cores_that_keep_a_process_busy(tmp_path):
    """Two GPUs that would not wait compute for 6 + 4 seconds, and 2 x 15 + 20 seconds go into loading."""
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), clips=9, seconds=8.0, waiting_seconds=2.0, loader_seconds=30.0, gpus=2)
    finish(store, stage(SMALL, 1), clips=9, seconds=4.0, loader_seconds=20.0, gpus=1)
    assert speed_of(store, stage(SMALL, 9)).loader_cores == 3.5
    finish(store, stage(LARGE, 0), clips=9, seconds=4.0)
    assert speed_of(store, stage(LARGE, 9)).loader_cores == 0
