"""A look at the features during pretraining: what it says, when, and that it changes nothing."""

import json
from dataclasses import replace

import pytest
import torch

from conftest import SMALL, composed, described
from vssl import distributed
from vssl.context import open_context
from vssl.engine.checkpoint import load
from vssl.errors import OptionError, VsslError
from vssl.pipeline import monitored, plan
from vssl.protocol.collapse import effective_rank
from vssl.stage.build import build
from vssl.stage.construct import Stage
from vssl.stage.monitor import Monitor, evaluating, monitor_for, spread, two_sets
from vssl.stage.run import run_stage
from vssl.stage.weights import load_backbone
from vssl.video import Video

PRETEXT = ["auxiliary=none", "pretext.training.epochs=4"]  # of two steps each
LOOK = ["monitor.every_epochs=2", "monitor.videos=8", "monitor.k=3"]
NAMES = [f"monitor/{name}" for name in ("knn_top1", "feature_std", "mean_cosine", "effective_rank")]


class Killed(Exception):
    """What a kill is to a test in the same process."""


def context_of(outputs, *overrides):
    """What stages of a launch run in, as a worker in another process has it."""
    cfg = composed(*SMALL, f"outputs={outputs}", *overrides)
    plain = {
        "outputs": str(outputs),
        "launch": {"id": "1", "name": "test", "command": "test"},
        "runtime": {**cfg.runtime, "save_every_s": 0},
        "tracking": dict(cfg.tracking),
        "monitor": monitored(cfg),
    }
    return open_context(json.loads(json.dumps(plain)))[0]


def run(outputs, *overrides, watched=lambda callback: callback):
    """Run the first stage; its folder."""
    spec = plan(composed(*SMALL, *overrides))[0]
    context = context_of(outputs, *overrides)
    folder = context.store.folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    run_stage(spec, replace(context, make_callback=lambda spec: watched(context.make_callback(spec))))
    return folder


def lines(folder, prefix="monitor/"):
    """Lines that hold, or do not hold, what a look found."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        del line["time"]
    return [line for line in found if any(name.startswith(prefix) for name in line)]


def assert_same(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of a pretext stage that was looked at."""
    return run(tmp_path_factory.mktemp("whole"), *data, *PRETEXT, *LOOK)


def assert_no_difference(watched, alone):
    assert watched.name == alone.name
    assert_same(load(watched / "weights.pt"), load(alone / "weights.pt"))
    one, two = (load(folder / "checkpoint.pt") for folder in (watched, alone))
    assert_same(one["objective"], two["objective"])
    assert lines(watched, "loss") == lines(alone, "loss")
    assert lines(alone) == []


def test_weights_keys_and_other_metrics_are_the_same_with_and_without(whole, data, tmp_path):
    alone = run(tmp_path, *data, *PRETEXT)
    assert_no_difference(whole, alone)
    costs = [json.loads((folder / "result.json").read_text())["cost"] for folder in (whole, alone)]
    assert costs[0]["monitor_seconds"] > costs[1]["monitor_seconds"] == 0


def test_a_look_comes_every_n_epochs(whole):
    assert [(line["step"], line["epoch"]) for line in lines(whole)] == [(4, 2), (8, 4)]
    for line in lines(whole):
        assert set(line) == {"step", "epoch", *NAMES}


def test_of_the_auxiliary_stage_the_queue_is_looked_at_too(data, tmp_path):
    watched, alone = (run(tmp_path / str(len(look)), *data, *look) for look in (LOOK, []))
    assert_no_difference(watched, alone)
    [line] = lines(watched)
    assert set(line) == {"step", "epoch", *NAMES, "monitor/queue_effective_rank"}


def dies_at(step, name):
    """A callback that dies when a line of `step` with a metric `name` has been written."""

    def watched(callback):
        def log(metrics, at):
            type(callback).log(callback, metrics, at)
            if at == step and name in metrics:
                raise Killed

        callback.log = log
        return callback

    return watched


@pytest.mark.parametrize(("step", "name"), [(4, "loss"), (4, "monitor/knn_top1"), (5, "loss")])
def test_a_run_that_was_killed_writes_the_same_lines(whole, data, tmp_path, step, name):
    """Before a look, after it and before saving, and after saving."""
    with pytest.raises(Killed):
        run(tmp_path, *data, *PRETEXT, *LOOK, watched=dies_at(step, name))
    killed = run(tmp_path, *data, *PRETEXT, *LOOK)
    assert lines(killed) == lines(whole)
    assert lines(killed, "loss") == lines(whole, "loss")
    assert_same(load(killed / "weights.pt"), load(whole / "weights.pt"))


def test_the_last_look_is_what_the_weights_give(data, tmp_path):
    """The same numbers as by features of the finished weights, with the augmentation of the protocols."""
    task = ["auxiliary=none", "pretext=rspnet", "pretext.queue_size=64"]  # its pixels are normalised
    folder = run(tmp_path, *data, *task, *LOOK, "monitor.videos=100")
    small = [override for override in SMALL if not override.startswith("protocol")]
    knn = ["protocol=knn", "features.sampler.num_clips=1"]
    runtime, found = context_of(tmp_path).runtime, []
    for spec in plan(composed(*small, *data, *task, *knn)):
        if spec.name == "gallery":  # the training videos
            stage = Stage(spec)
            stage.source.prepare()
            backbone = stage.backbone()
            load_backbone(backbone, folder / "weights.pt")
            found.append(described(stage.dataset, stage.task, backbone, 7, runtime))
    features_VD = torch.cat([one.features_VD for one in found])
    assert len(features_VD) == 16
    assert lines(folder)[-1]["monitor/effective_rank"] == pytest.approx(effective_rank(features_VD), rel=1e-4)


def test_result_and_curves_tell_what_to_read_metrics_against(whole):
    references = json.loads((whole / "result.json").read_text())["references"]
    assert references["segment_accuracy"] == {"chance": 0.25, "reachable": 0.8125}
    assert references["monitor/knn_top1"] == {"chance": 1 / 8}  # eight videos of eight classes
    assert (whole / "curves.png").exists()


def test_stages_with_labels_are_left_alone(data, tmp_path):
    overrides = [*data, *LOOK, "monitor.every_epochs=1", "auxiliary=none", "pretext=none"]
    folder = run(tmp_path, *overrides)
    assert folder.parent.name == "finetune"
    assert lines(folder) == []


def test_one_process_of_several_looks(data, tmp_path, monkeypatch):
    [pretext, *_] = plan(composed(*SMALL, *data, *PRETEXT))
    context = context_of(tmp_path, *data, *LOOK)
    assert monitor_for(Stage(pretext), context.monitoring, context.runtime)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert monitor_for(Stage(pretext), context.monitoring, context.runtime) is None


def test_a_labelled_video_that_cannot_be_read_stops_nothing(data, tmp_path):
    [pretext, *_] = plan(composed(*SMALL, *data, "auxiliary=none"))
    context = context_of(tmp_path, *data, *LOOK)
    stage, monitoring = Stage(pretext), context.monitoring
    monitor = Monitor(monitoring, monitoring.labelled, stage, context.runtime)
    read, bad = monitor.gallery.read, monitor.gallery.videos[3]

    def fails(video, frames_T):
        if video == bad:
            raise VsslError("cannot be read")
        return read(video, frames_T)

    monitor.gallery.read = fails
    found = monitor.look(stage.task.objective(stage.backbone()), 2)
    assert 0 <= found["monitor/knn_top1"] <= 1


def test_videos_are_spread_over_the_classes():
    labels = [2, 2, 2, 2, 0, 0, 0, 1]
    videos = [Video(str(number), 30, label) for number, label in enumerate(labels)]
    assert [video.name for video in spread(videos, 5)] == ["4", "7", "0", "5", "1"]
    assert len(spread(videos, 100)) == 8


class Unlabelled:
    videos, class_names = [Video("a", 30), Video("b", 30)], []

    def prepare(self):
        pass

    def __str__(self):
        return "these"


def test_videos_without_labels():
    with pytest.raises(VsslError, match=r"monitor: these has no labels; .* monitor\.every_epochs=0"):
        two_sets(Unlabelled(), 5)


class Labelled(Unlabelled):
    videos = tuple(Video(str(number), 30, number // 5) for number in range(10))


def test_the_first_videos_of_each_class_vote_on_the_last():
    gallery, queries = two_sets(Labelled(), 4)
    assert [video.name for video in gallery.videos] == ["0", "5", "1", "6"]
    assert [video.name for video in queries.videos] == ["4", "9", "3", "8"]
    both = [{video.name for video in some.videos} for some in two_sets(Labelled(), 100)]
    assert [len(names) for names in both] == [5, 5]
    assert not both[0] & both[1]


def test_modes_are_put_back_as_they_were():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Sequential(torch.nn.Dropout()))
    module[0].eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, False, True, True]


def test_it_is_off_by_default(data, tmp_path):
    node = monitored(composed(*data))
    assert (node["every_epochs"], node["labelled"]) == (0, None)
    context = context_of(tmp_path, *data)
    [pretext, *_] = plan(composed(*SMALL, *data, *PRETEXT))
    assert monitor_for(Stage(pretext), context.monitoring, context.runtime) is None


WRONG = {
    "monitor.k=0": "monitor.k=0: too small; choose 1 or more",
    "monitor.videos=1": "monitor.videos=1: too small; choose 2 or more",
    "monitor.every_epochs=-1": "monitor.every_epochs=-1: too small; choose 0 or more",
    "monitor.clips=0": "monitor.clips=0: too small; choose 1 or more",
    "monitor.batch_size=0": "monitor.batch_size=0: too small; choose 1 or more",
    "monitor.temperature=0": "monitor.temperature=0: too small; choose a number above 0",
    "monitor.clips=many": "monitor.clips=many: not a whole number; give a whole number",
}


@pytest.mark.parametrize("every", ["monitor.every_epochs=2", "monitor.every_epochs=0"])
@pytest.mark.parametrize("override", WRONG)
def test_wrong_values_are_named_also_where_no_look_is_due(override, every, data):
    cfg = composed(*data, *LOOK, every, override)
    with pytest.raises(OptionError) as caught:
        build(monitored(cfg), "monitor")
    assert str(caught.value) == WRONG[override]
