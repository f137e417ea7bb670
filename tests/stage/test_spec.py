"""The key of a stage: what moves it and what does not; and recipes as plain data."""

import json
from dataclasses import replace

import pytest
import yaml

from conftest import composed
from vssl.pipeline import plan
from vssl.stage.kind import AUXILIARY, CLASSIFIER, COMPARISON, FEATURES, KINDS, PRETEXT, TEST
from vssl.stage.spec import Recipe, StageSpec, leaves
from vssl.stage.store import to_yaml


def recipe(task=None, **changes):
    """Of a training whose values are made up."""
    values = {
        "task": task or {"_target_": "a.VSPP", "weight": 0.5},
        "backbone": {"_target_": "a.Net"},
        "data": {"_target_": "a.Videos", "num_videos": 10, "repeat": 1},
        "seed": 0,
        "revision": 1,
        "training": {"_target_": "a.Training", "lr": 0.1, "epochs": 2},
    }
    return Recipe(**{**values, **changes})


def spec(task=None, parent=None, paths=None, **changes):
    return StageSpec("pretext", PRETEXT, recipe(task, **changes), parent, paths or {})


def test_key_ignores_order_and_the_spelling_of_numbers():
    assert spec({"a": 1, "b": 2.0}).key == spec({"b": 2, "a": 1.0}).key
    assert spec({"lr": 2e-2}).key == spec({"lr": 0.02}).key


def test_key_moves_with_name_kind_and_parent():
    base = spec()
    others = [
        spec({"_target_": "a.VSPP", "weight": 0.25}),
        replace(base, name="finetune"),
        replace(base, kind=AUXILIARY),
        spec(parent=spec({"weight": 9})),
        spec(parent=spec({"weight": 8})),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6


CHANGES = {
    "task": {"_target_": "a.VCOP"},
    "backbone": {"_target_": "a.Wide"},
    "data": {"_target_": "a.Videos", "num_videos": 10, "repeat": 2},
    "seed": 1,
    "revision": 2,
    "augmentation": {"_target_": "a.Augmentation"},
    "training": {"_target_": "a.Training", "lr": 0.2, "epochs": 2},
    "batch_size": 4,
    "init": "0123",
    "choose": {"options": {"training.lr": [0.1, 0.2]}, "trainings": ["a/1", "a/2"], "tests": ["b/1", "b/2"]},
}


def test_key_moves_with_every_part_of_the_recipe():
    assert CHANGES.keys() == Recipe.__dataclass_fields__.keys()
    keys = [spec(**{part: value}).key for part, value in CHANGES.items()]
    assert len({spec().key, *keys}) == 1 + len(CHANGES)


def test_true_is_not_one():
    assert spec({"drop_last": True}).key != spec({"drop_last": 1}).key


def test_key_ignores_where_things_lie_and_where_options_stand():
    assert spec(paths={"root": "/a"}).key == spec(paths={"root": "/b"}).key
    there = replace(spec(), options={"task": "pretext"}, continues=spec({"n": 3}))
    assert there.key == spec().key
    assert there == spec()


def test_chain_starts_at_the_root():
    first = spec({"n": 1})
    second = spec({"n": 2}, parent=first)
    third = spec({"n": 3}, parent=second)
    assert third.chain == [first, second, third]


def test_a_stage_waits_for_its_parent_and_for_the_shorter_training_it_continues():
    first, shorter = spec({"n": 1}), spec({"n": 2})
    assert spec().waits_for == []
    assert replace(spec(parent=first), continues=shorter).waits_for == [first, shorter]


def test_a_shorter_training_differs_in_its_epochs_alone():
    long, short = spec(), spec().shortened(1)
    assert (long.recipe.epochs, short.recipe.epochs) == (2, 1)
    own, other = dict(leaves(long.recipe.to_plain())), dict(leaves(short.recipe.to_plain()))
    assert {path for path in own if own[path] != other[path]} == {"training.epochs"}
    assert short.shortened(2) == long


def test_a_stage_after_videos_that_are_not_checked_has_no_key_yet_either():
    parent = spec(data={"_target_": "a.Videos", "num_videos": 10, "repeat": 1, "provisional": True})
    assert not spec().is_provisional
    assert spec(parent=parent).is_provisional


def test_an_option_stands_where_the_config_has_it_else_below_the_name_of_the_stage():
    there = replace(spec(), options={"data": "source"})
    assert (there.option("data"), there.option("training")) == ("source", "pretext.training")


PIPELINES = [
    (),
    ("pretext=rspnet", "auxiliary=none", "backbone=s3d_g"),
    ("protocol=linear", "auxiliary=none"),
    ("protocol=knn",),
    ("protocol=retrieval", "pretext=none", "auxiliary=none"),
]


@pytest.mark.parametrize("overrides", PIPELINES, ids=" ".join)
@pytest.mark.parametrize(
    "written", [lambda plain: yaml.safe_load(to_yaml(plain)), lambda plain: json.loads(json.dumps(plain))]
)
def test_a_stage_that_is_written_and_read_is_the_same(overrides, written):
    parent = None
    for one in plan(composed(*overrides)):
        parent = StageSpec.from_plain(written(one.to_plain()), parent)
        assert parent.recipe == one.recipe
        assert (parent.key, parent.kind, str(parent)) == (one.key, one.kind, str(one))
        assert parent.to_plain() == one.to_plain()
        assert [str(before) for before in parent.chain] == [str(before) for before in one.chain]


def test_parts_that_a_recipe_does_not_have_are_not_written():
    *_, comparison = plan(composed("protocol=knn"))
    assert comparison.recipe.to_plain().keys() == {"task", "backbone", "data", "seed", "revision"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_body_of_a_kind_can_be_imported(kind):
    assert KINDS[kind.name] is kind
    body = kind.load_body()
    assert kind.body == f"{body.__module__}.{body.__name__}"


def test_what_the_stages_of_a_pipeline_are():
    finetune = {one.name: one.kind for one in plan(composed())}
    knn = {one.name: one.kind for one in plan(composed("protocol=knn", "auxiliary=none"))}
    linear = {one.name: one.kind for one in plan(composed("protocol=linear", "auxiliary=none"))}
    assert finetune == {"auxiliary": AUXILIARY, "pretext": PRETEXT, "finetune": CLASSIFIER, "test": TEST}
    assert knn == {"pretext": PRETEXT, "gallery": FEATURES, "queries": FEATURES, "test": COMPARISON}
    assert linear == {"pretext": PRETEXT, "linear": CLASSIFIER, "test": TEST}
