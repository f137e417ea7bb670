"""Speeds of finished stages, from planted stores."""

import os

import pytest

from vssl.report.speed import kind, speeds
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

SMALL, LARGE = {"_target_": "Net", "widths": [8, 16]}, {"_target_": "Net", "widths": [64, 64]}


def stage(backbone, seed, name="pretext"):
    return StageSpec(name, {"task": {"a": [1, {"b": 2}]}, "backbone": backbone, "seed": seed})


def finish(store, spec, cost, device="cpu", at=0):
    with store.claim(spec):
        store.finish(spec, {"metrics": {}, "cost": cost, "provenance": {"device": device}})
    os.utime(store.folder(spec) / "result.json", (at, at))


def speed_of(store, spec):
    return speeds(store, [kind(spec)]).get(kind(spec))


def test_clips_by_seconds_of_stages_with_this_name_and_backbone(tmp_path):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), {"clips": 100, "seconds": 1.0})
    finish(store, stage(SMALL, 1), {"clips": 200, "seconds": 5.0})
    finish(store, stage(LARGE, 2), {"clips": 7, "seconds": 1.0})
    finish(store, stage(SMALL, 3, "test"), {"clips": 9, "seconds": 1.0})
    found = speed_of(store, stage(SMALL, 9))
    assert (found.clips_per_s, found.gpus, found.device) == (50.0, 0.0, "cpu")
    assert speed_of(store, stage(LARGE, 9)).clips_per_s == 7.0


def test_the_device_of_the_latest_stage_counts(tmp_path):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), {"clips": 100, "seconds": 1.0, "gpus": 1}, "cuda:0", at=1)
    finish(store, stage(SMALL, 1), {"clips": 300, "seconds": 1.0, "gpus": 2}, "cuda:0", at=3)
    finish(store, stage(SMALL, 2), {"clips": 1, "seconds": 1.0, "gpus": 0}, "cpu", at=2)
    found = speed_of(store, stage(SMALL, 9))
    assert (found.clips_per_s, found.gpus, found.device) == (200.0, 1.5, "cuda")


@pytest.mark.parametrize("cost", [{}, {"seconds": 3.0}, {"clips": 0, "seconds": 3.0}])
def test_what_is_not_known_is_not_guessed(tmp_path, cost):
    store = StageStore(tmp_path)
    finish(store, stage(SMALL, 0), cost)
    assert speed_of(store, stage(SMALL, 9)) is None
    assert speeds(StageStore(tmp_path / "none"), [kind(stage(SMALL, 0))]) == {}


def test_the_cores_that_keep_a_process_busy(tmp_path):
    """Two GPUs that would not wait compute for 6 + 4 seconds, and 2 x 15 + 20 seconds go into loading."""
    store = StageStore(tmp_path)
    one = {"clips": 9, "seconds": 8.0, "waiting_seconds": 2.0, "loader_seconds": 30.0, "gpus": 2}
    other = {"clips": 9, "seconds": 4.0, "waiting_seconds": 0.0, "loader_seconds": 20.0, "gpus": 1}
    finish(store, stage(SMALL, 0), one)
    finish(store, stage(SMALL, 1), other)
    finish(store, stage(SMALL, 2), {"clips": 9, "seconds": 4.0})  # not counted there
    assert speed_of(store, stage(SMALL, 9)).loader_cores == 3.5
    assert speed_of(store, stage(LARGE, 9)) is None
    finish(store, stage(LARGE, 0), {"clips": 9, "seconds": 4.0})
    assert speed_of(store, stage(LARGE, 9)).loader_cores is None
