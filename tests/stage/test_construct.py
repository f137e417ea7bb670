"""The objects of a stage, and what is found in them before anything runs."""

import sys
from dataclasses import dataclass, replace
from types import ModuleType

import pytest
import torch

from conftest import SMALL, composed
from vssl.data.synthetic import SyntheticVideos
from vssl.errors import OptionError, VsslError
from vssl.pipeline import naming_options, plan
from vssl.stage.construct import Machine, Stage, check_labels, labels, link

ALONE = Machine(1, "cpu")
NEIGHBOURS = {"protocol=knn", "protocol=retrieval"}


def chain(*overrides):
    """The specs of a small pipeline, and its config."""
    small = [line for line in SMALL if not NEIGHBOURS & set(overrides) or not line.startswith("protocol")]
    cfg = composed(*small, *overrides)
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
    features = {spec.name: Stage(spec).clips for spec in chain("protocol=knn")[0]}
    assert (features["gallery"], features["queries"], features["test"]) == (160, 80, 0)


def test_a_training_of_whole_batches_counts_no_others():
    """16 videos in batches of 6, twice: two are left over in each epoch."""
    batches = ["pretext.training.batch_size=6"]
    for drop_last, clips in (("true", 24), ("false", 32)):
        (_, pretext, *_), _ = chain(*batches, f"pretext.training.drop_last={drop_last}")
        assert Stage(pretext).clips == clips


def test_only_a_training_replaces_bad_videos():
    specs, _ = chain()
    assert {spec.name: Stage(spec).dataset.replace_bad for spec in specs} == {
        **{"auxiliary": True, "pretext": True, "finetune": True, "test": False}
    }


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
    ("pretext.training.batch_size=17", "pretext.training.drop_last=true"): (
        r"pretext\.training\.batch_size=17: 16 samples do not fill one batch, .*; choose 16 or less$"
    ),
    ("protocol=linear", "protocol.training.batch_size=17"): (
        r"protocol\.training\.batch_size=17: 16 samples do not fill one batch, .*; choose 16 or less$"
    ),
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
    ("pretext.sampler.num_frames=0",): r"pretext\.sampler\.num_frames=0: too small; choose",
    ("auxiliary.queue_size=7",): r"auxiliary\.queue_size=7: cannot hold the keys of a batch of 8; choose 8",
    (
        "auxiliary.training.drop_last=false",
        "auxiliary.shuffle_bn=true",
    ): r"auxiliary\.shuffle_bn=true: needs full",
    (
        "pretext=rspnet",
        "pretext.training.micro_batch=1",
    ): r"pretext\.training\.micro_batch=1: RSPNet needs 2 samples at once; choose 2",
    ("pretext=rspnet", "pretext.training.batch_size=5", "pretext.training.drop_last=false"): (
        r"pretext\.training\.drop_last=false: an epoch of 16 ends with 1 sample, and RSPNet needs 2 at once; "
        r"say true, or choose another batch_size$"
    ),
    (
        "pretext=rspnet",
        "pretext.queue_size=7",
    ): r"pretext\.queue_size=7: cannot hold the keys of a batch of 8;",
    ("auxiliary.training.batch_size=5", "auxiliary.training.drop_last=false"): (
        r"auxiliary\.training\.drop_last=false: an epoch of 16 ends with 1 sample, and AuxSKD needs 2 at "
    ),
    ("auxiliary.training.batch_size=1",): (
        r"auxiliary\.training\.batch_size=1: AuxSKD needs 2 samples at once; choose 2 or more$"
    ),
    ("protocol=linear", "protocol.training.batch_size=5", "protocol.training.drop_last=false"): (
        r"protocol\.training\.drop_last=false: an epoch of 16 ends with 1 sample, and LinearProbe needs 2 at "
    ),
    # 3 of a step's 6 at once, then 16 = 2 x 6 + 4, of which one is alone
    (
        "auxiliary.training.batch_size=6",
        "auxiliary.training.micro_batch=3",
        "auxiliary.training.drop_last=false",
    ): r"auxiliary\.training\.drop_last=false: an epoch of 16 ends with 1 sample",
    ("auxiliary.teacher_temperature=1e-42",): (
        r"auxiliary\.teacher_temperature=1e-42: too small; choose 0.0001 or more"
    ),
    (
        "auxiliary.student_temperature=0",
    ): r"auxiliary\.student_temperature=0: too small; choose 0.0001 or more",
    (
        "pretext=rspnet",
        "pretext.temperature=1e-42",
    ): r"pretext\.temperature=1e-42: too small; choose 0.0001 or more",
    ("backbone.widths=[]",): r"backbone\.widths=\[\]: no network; give",
    ("pretext.augmentation.flip.probability=2",): r"pretext\.augmentation\.flip\.probability=2: not a share",
}


@pytest.mark.parametrize("overrides", MISTAKES, ids=" ".join)
def test_a_mistake_is_found_before_anything_runs_and_named_as_it_is_typed(overrides, tmp_path):
    with pytest.raises(OptionError, match=f"^{MISTAKES[overrides]}") as caught:
        check(*overrides, f"outputs={tmp_path}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


FINE = [
    ("pretext.training.batch_size=17", "pretext.training.drop_last=false"),
    ("protocol.test.average=logits",),
    ("auxiliary.queue_size=8",),
    ("pretext=rspnet", "pretext.training.micro_batch=2"),
    ("auxiliary.training.batch_size=5", "auxiliary.training.drop_last=true"),
    ("auxiliary.training.batch_size=7", "auxiliary.training.drop_last=false"),  # two are left
    ("pretext.training.batch_size=5", "pretext.training.drop_last=false"),  # VSPP takes one clip
    ("protocol.training.batch_size=5", "protocol.training.drop_last=false"),  # so does fine-tuning
]


@pytest.mark.parametrize("overrides", FINE, ids=" ".join)
def test_what_is_no_mistake(overrides, tmp_path):
    check(*overrides, f"outputs={tmp_path}")


FEATURES = {
    "features.batch_size=0": r"features\.batch_size=0: too small; choose 1 or more$",
    "features.sampler.num_clips=0": r"features\.sampler\.num_clips=0: too small; choose",
    "features.feature=poled": r"features\.feature=poled: no such value; did you mean 'pooled'",
    "protocol.k=0": r"protocol\.k=0: too small; choose",
}


@pytest.mark.parametrize("override", FEATURES)
def test_mistakes_in_features(override, tmp_path):
    with pytest.raises(OptionError, match=f"^{FEATURES[override]}"):
        check("protocol=knn", override, f"outputs={tmp_path}")


BFLOAT16 = "pretext.training.precision=bfloat16"


def test_the_machine_counts(monkeypatch):
    """Half precision is for GPUs; a step of one micro-batch cannot be shared."""
    monkeypatch.setattr("vssl.engine.training.has_bfloat16", lambda: True)
    check(BFLOAT16, machine=Machine(1, "cuda"))
    check(BFLOAT16, machine=Machine(1, None))  # nobody knows the device of a node before it is there
    for part in ("auxiliary", "pretext", "protocol"):
        micro = [f"{one}.training.micro_batch=4" for one in {"auxiliary", "pretext", "protocol"} - {part}]
        share = "2 processes cannot share the 1 micro-batches of a step evenly; choose micro_batch=4 or less,"
        message = rf"^{part}\.training\.batch_size=8: {share}"  # which is what decides micro_batch here
        with pytest.raises(OptionError, match=message):
            check(*micro, machine=Machine(2, "cpu"))
    whole = [f"{part}.training.micro_batch=4" for part in ("auxiliary", "pretext", "protocol")]
    check(*whole, machine=Machine(2, "cpu"))


def test_what_does_not_train_may_run_on_any_machine():
    """A test of what was trained in bfloat16 is another stage; a single process runs it."""
    (*_, test), _ = chain("protocol.training.precision=bfloat16")
    Stage(test).check(Machine(4, "cpu"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1, 4, -1], r"^downstream\.train: 2 of 3 videos have no class, .*; give them a class"),
        (
            [0, 5, 1],
            r"^protocol\.num_classes=5: a video of downstream\.train is of class 5 \(from 0\); null takes",
        ),
    ],
)
def test_labels_that_nothing_can_be_learnt_from(labels, message):
    (*_, finetune, _), _ = chain()
    with pytest.raises(VsslError, match=message):
        check_labels(torch.tensor(labels), 5, finetune)
    check_labels(torch.tensor([0, 4, 1]), 5, finetune)


def test_labels_are_those_of_the_videos_in_order():
    (*_, test), _ = chain()
    assert labels(Stage(test).dataset).tolist() == list(range(8))


def test_labels_of_the_test_videos_are_held_against_what_the_classifier_knows(tmp_path):
    """The classes stand in the recipe of the training, not in that of the test."""
    (*_, finetune, test), _ = chain(f"outputs={tmp_path}")
    few = replace(finetune, recipe=replace(finetune.recipe, task={**finetune.recipe.task, "num_classes": 5}))
    message = (
        r"^protocol\.num_classes=5: a video of downstream\.test is of class 7 \(from 0\); null takes as many"
    )
    with pytest.raises(OptionError, match=message):
        Stage(replace(test, parent=few)).check(ALONE)


@dataclass(frozen=True)
class Unlabelled(SyntheticVideos):
    """Videos of which the last one has no class."""

    @property
    def videos(self):
        *labelled, last = super().videos
        return [*labelled, replace(last, label=None)]


@pytest.mark.parametrize("protocol", ["retrieval", "knn", "finetune", "linear"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_videos_without_a_class_are_found_before_hours_of_features_or_training(protocol, part, monkeypatch):
    module = ModuleType("unlabelled")
    module.Unlabelled = Unlabelled
    monkeypatch.setitem(sys.modules, "unlabelled", module)
    number = {"train": 16, "test": 8}[part]
    with pytest.raises(
        VsslError, match=rf"^downstream\.{part}: 1 of {number} videos have no class, .* give them"
    ):
        check(f"protocol={protocol}", f"downstream.{part}._target_=unlabelled.Unlabelled")


def test_videos_that_are_not_checked_are_not_counted_but_their_stage_is(tmp_path):
    """As published: no index is there to look at."""
    cfg = composed("downstream=ucf101", f"roots.ucf101={tmp_path}", "backbone=r3d_10", "auxiliary=none")
    *_, finetune, test = (Stage(spec) for spec in plan(cfg, provisional=True))
    for stage in (finetune, test):
        stage.check(ALONE)
        assert stage.num_samples == stage.recipe.data["num_videos"] * stage.recipe.data["repeat"]
    assert test.clips == 10 * 3783
    repeated = plan(composed("downstream=ucf101", f"roots.ucf101={tmp_path}", "protocol.repeat=0"), True)
    with pytest.raises(OptionError, match=r"^protocol\.repeat=0: too small; choose 1 or more$"):
        Stage(repeated[-2]).check(ALONE)


def linked(*overrides):
    """Epochs of the pretext stages of several points, and those of the stage that each continues."""
    specs = [next(spec for spec in chain(*own)[0] if spec.name == "pretext") for own in overrides]
    found = link(Stage(spec) for spec in specs)
    assert found == specs
    return [(one.recipe.epochs, one.continues and one.continues.recipe.epochs) for one in found]


ONE, TWO, THREE = ([f"pretext.training.epochs={epochs}"] for epochs in (1, 2, 3))
COSINE = ["backbone=r3d_10", "schedule@pretext.training.schedule=cosine"]


def test_a_training_is_linked_with_the_longest_of_the_shorter_ones():
    assert linked(THREE, ONE, TWO) == [(3, 2), (1, None), (2, 1)]


def test_trainings_that_differ_in_more_than_their_length_are_not_linked():
    assert linked([*ONE, "seed=1"], TWO) == [(1, None), (2, None)]
    assert linked([*ONE, "pretext.training.optimizer.lr=1"], TWO) == [(1, None), (2, None)]


def test_nor_are_those_whose_schedule_depends_on_the_length():
    assert linked([*ONE, *COSINE], [*TWO, *COSINE]) == [(1, None), (2, None)]


def test_links_change_no_key_and_keep_the_order():
    stages = [Stage(spec) for epochs in (ONE, TWO) for spec in chain(*epochs)[0]]
    found = link(stages)
    assert [spec.key for spec in found] == [stage.spec.key for stage in stages]
    assert [spec.waits_for for spec in found if spec.name == "test"] == [[found[2]], [found[6]]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretext=ctp", "backbone=resnet3d_18"], "the map of ResNet3D has one time step"),
        (["pretext=prp", "backbone=i3d"], r"PRP draws \(32, 112, 112\) from the maps of I3D, not \(32, 224"),
        (["pretext=vcp", "backbone.input.crop=31"], "VCP cannot cut frames of 31 pixels"),
        (
            ["auxiliary=distillation", "auxiliary.projection_layers=0", "+backbone@auxiliary.teacher=r3d_18"],
            "auxiliary.projection_layers=0: the student has",
        ),
        (
            ["protocol=knn", "features.feature=conv5_max", "backbone.input.crop=4"],
            "features.feature=conv5_max: the last map of Tiny",
        ),
        (["pretext=ctp", "backbone=c3d", "backbone.input.num_frames=4"], "C3D has no map of clips of 4 fr"),
    ],
)
def test_a_backbone_that_a_later_stage_cannot_use_is_found_before_anything_runs(overrides, message):
    with pytest.raises(VsslError, match=f"^{message}"):
        check("auxiliary.training.micro_batch=8", *overrides)
