"""The objects of a stage, and what is found in them before anything runs."""

from dataclasses import replace

import pytest
import torch

from conftest import SMALL, composed
from vssl.errors import OptionError
from vssl.pipeline import naming_options, plan
from vssl.stage.construct import Machine, Stage

ALONE = Machine(1, "cpu")


def chain(*overrides):
    """The specs of a small pipeline, and its config."""
    cfg = composed(*SMALL, *overrides)
    return plan(cfg), cfg


def check(*overrides, machine=ALONE):
    """Check all stages, with options as they were typed."""
    specs, cfg = chain(*overrides)
    with naming_options(cfg):
        for spec in specs:
            Stage(spec).check(machine)


def test_all_is_well_with_the_default_pipeline_and_nothing_is_written_or_read(tmp_path):
    check(f"outputs={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_objects_are_made_once_and_those_that_are_alike_are_shared():
    (_, pretext, finetune, test), _ = chain()
    shared = {}
    one, other = Stage(pretext, shared), Stage(replace(pretext, name="again"), shared)
    assert one.task is one.task
    assert one.source is other.source
    assert Stage(finetune, shared).source is not one.source
    assert Stage(test, shared).source is not Stage(finetune, shared).source
    assert Stage(pretext).source is not one.source


def test_a_fresh_backbone_is_drawn_from_the_seed_alone():
    (_, pretext, *_), _ = chain()
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(100 + len(weights))
        stage = Stage(replace(pretext, recipe=replace(pretext.recipe, seed=seed)))
        weights.append(stage.backbone().state_dict()["layers.0.0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_clips_of_each_stage_of_a_pipeline():
    """16 videos, two epochs: auxSKD sees two clips of each, a test ten."""
    found = {spec.name: Stage(spec).clips for spec in chain()[0]}
    assert found == {"auxiliary": 64, "pretext": 32, "finetune": 32, "test": 80}
    knn = [line for line in SMALL if not line.startswith("protocol")]
    features = {spec.name: Stage(spec).clips for spec in plan(composed(*knn, "protocol=knn"))}
    assert (features["gallery"], features["queries"], features["test"]) == (160, 80, 0)


def test_a_training_of_whole_batches_counts_no_others():
    """16 videos in batches of 6, twice: two are left over in each epoch."""
    batches = ["auxiliary=none", "pretext.training.batch_size=6"]
    for drop_last, clips in (("true", 24), ("false", 32)):
        (pretext, *_), _ = chain(*batches, f"pretext.training.drop_last={drop_last}")
        assert Stage(pretext).clips == clips


def test_only_a_training_replaces_bad_videos():
    specs, _ = chain()
    assert {spec.name: Stage(spec).dataset.replace_bad for spec in specs} == {
        **{"auxiliary": True, "pretext": True, "finetune": True, "test": False}
    }


FROZEN = "protocol=linear"
MISTAKES = {  # overrides: the error in full, up to what to do
    ("source.repeat=0",): r"source\.repeat=0: too small; choose 1 or more$",
    ("source.repeat=1.5",): r"source\.repeat=1\.5: not a whole number; give a whole number$",
    ("auxiliary.repeat=0",): r"auxiliary\.repeat=0: too small; choose",
    ("protocol.repeat=0",): r"protocol\.repeat=0: too small; choose",
    ("downstream.train.repeat=0",): r"downstream\.train\.repeat=0: too small; choose",
    (
        "downstream.num_classes=5",
    ): r"downstream\.num_classes=5: a video of downstream\.train is of class 7 \(fr",
    (
        "protocol.num_classes=5",
    ): r"protocol\.num_classes=5: a video of downstream\.train is of class 7 \(from 0",
    ("protocol.num_classes=0",): r"protocol\.num_classes=0: too small; choose",
    ("pretext.training.batch_size=17",): r"pretext\.training\.drop_last=true: .*16 samples",
    ("pretext.training.batch_size=17", "pretext.training.drop_last=false"): None,
    ("protocol.training.batch_size=17", FROZEN): r"protocol\.training\.drop_last=true: .*16 samples",
    (
        "protocol.test.average=softmx",
    ): r"protocol\.test\.average=softmx: no such value; did you mean 'softmax'",
    ("protocol.test.batch_size=0",): r"protocol\.test\.batch_size=0: too small; choose 1 or more$",
    ("protocol.test.batch_size=many",): r"protocol\.test\.batch_size=many: not a whole number; give",
    (
        "pretext.training.precision=bfloat16",
    ): r"pretext\.training\.precision=bfloat16: is for GPUs; say float32",
    ("protocol.training.precision=bfloat16",): r"protocol\.training\.precision=bfloat16: is for GPUs; say",
    ("pretext.training.optimizer.lr=-1",): r"pretext\.training\.optimizer\.lr=-1: too small; choose",
    ("pretext.sampler.num_frames=0",): r"pretext\.sampler\.num_frames=0: ",
    ("auxiliary.queue_size=7",): r"auxiliary\.queue_size=7: cannot hold the keys of a batch of 8; choose 8",
    (
        "auxiliary.training.drop_last=false",
        "auxiliary.shuffle_bn=true",
    ): r"auxiliary\.shuffle_bn=true: needs full",
    (
        "pretext=rspnet",
        "pretext.training.micro_batch=1",
    ): r"pretext\.training\.micro_batch=1: too small; choose 2",
    ("backbone.widths=[]",): r"backbone\.widths=\[\]: ",
    ("pretext.augmentation.flip.probability=2",): r"pretext\.augmentation\.flip\.probability=2: not a share",
}


@pytest.mark.parametrize("overrides", MISTAKES, ids=" ".join)
def test_a_mistake_is_found_before_anything_runs_and_named_as_it_is_typed(overrides, tmp_path):
    message = MISTAKES[overrides]
    if message is None:
        check(*overrides, f"outputs={tmp_path}")
    else:
        with pytest.raises(OptionError, match=f"^{message}") as caught:
            check(*overrides, f"outputs={tmp_path}")
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
