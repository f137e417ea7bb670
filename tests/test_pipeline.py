"""From config to stages: which stages, which keys, and what is shared."""

import itertools
import json

import pytest
import torch

from conftest import composed
from vssl.commands import execute
from vssl.errors import VsslError
from vssl.pipeline import absolute_outputs, merge, plan
from vssl.stage.construct import Stage, link

COMBINATIONS = {
    ("auxskd", "vspp"): ["auxiliary", "pretext", "finetune", "test"],
    ("none", "vspp"): ["pretext", "finetune", "test"],
    ("auxskd", "none"): ["auxiliary", "finetune", "test"],
    ("none", "none"): ["finetune", "test"],
}


def chain(*overrides):
    return plan(composed(*overrides))


def keys(*overrides):
    return {spec.name: spec.key for spec in chain(*overrides)}


@pytest.mark.parametrize(("choice", "names"), COMBINATIONS.items())
def test_which_stages(choice, names):
    stages = chain(f"auxiliary={choice[0]}", f"pretext={choice[1]}")
    assert [spec.name for spec in stages] == names
    assert [spec.parent for spec in stages] == [None, *stages[:-1]]


@pytest.mark.parametrize(
    "override",
    [
        "runtime.workers=3",
        "runtime.device=cpu",
        "runtime.save_every_s=1",
        "tracking=jsonl",
        "outputs=/elsewhere",
        "label=mine",
        "mode=plan",
    ],
)
def test_runtime_does_not_move_a_key(override):
    assert keys(override) == keys()


MOVES = {
    "auxiliary.teacher_temperature=0.07": "auxiliary",
    "pretext.sampler.num_segments=2": "auxiliary",
    "pretext.augmentation.flip.probability=0": "auxiliary",
    "backbone.widths=[8,16,32]": "auxiliary",
    "source.seed=7": "auxiliary",
    "seed=7": "auxiliary",
    "auxiliary.revision=2": "auxiliary",
    "pretext.speed_weight=0.5": "pretext",
    "pretext.training.epochs=3": "pretext",
    "pretext.training.optimizer.lr=0.5": "pretext",
    "protocol.training.epochs=3": "finetune",
    "downstream.train.num_videos=16": "finetune",
    "protocol.test.sampler.num_clips=3": "test",
    "protocol.test.average=logits": "test",
    "downstream.test.num_videos=16": "test",
}


@pytest.mark.parametrize(("override", "first"), MOVES.items())
def test_a_change_moves_its_own_stage_and_all_after_it_but_none_before(override, first):
    before, after = keys(), keys(override)
    order = list(before)
    moved = [name for name in order if before[name] != after[name]]
    assert moved == order[order.index(first) :]


def test_a_grid_keeps_each_stage_once():
    grid = itertools.product((0, 1), (0.01, 0.02), (0.5, 1.0))
    chains = [
        chain(f"seed={s}", f"auxiliary.teacher_temperature={t}", f"pretext.speed_weight={w}")
        for s, t, w in grid
    ]
    forest = merge(chains)
    names = [spec.name for spec in forest]
    assert {name: names.count(name) for name in names} == {
        "auxiliary": 4,
        "pretext": 8,
        "finetune": 8,
        "test": 8,
    }
    for place, spec in enumerate(forest):
        assert spec.parent is None or spec.parent in forest[:place]


@pytest.mark.parametrize(("pretext", "expected"), [("vspp", [None, 10, 20]), ("rspnet", [None, None, None])])
def test_a_long_training_waits_for_the_longest_shorter_one_that_it_passes(pretext, expected):
    """RSPNet's cosine knows its end: what is shorter is another training."""
    base = ["auxiliary=none", f"pretext={pretext}", "backbone=r3d_10"]
    chains = [chain(*base, f"pretext.training.epochs={epochs}") for epochs in (20, 10, 40)]
    trained = [spec for spec in link(map(Stage, merge(chains))) if spec.name == "pretext"]
    trained.sort(key=lambda spec: spec.recipe.epochs)
    found = [spec.continues for spec in trained]
    assert [one and one.recipe.epochs for one in found] == expected
    for one, spec in zip(found, trained, strict=True):
        assert spec.waits_for == ([one] if one else [])


def test_external_weights_replace_pretraining_and_count_by_content(tmp_path):
    one, same, other = (tmp_path / name for name in ("one.pt", "same.pt", "other.pt"))
    torch.save({"w": torch.zeros(2)}, one)
    same.write_bytes(one.read_bytes())
    torch.save({"w": torch.ones(2)}, other)
    stages = chain(f"init.weights={one}")
    assert [spec.name for spec in stages] == ["finetune", "test"]
    assert keys(f"init.weights={one}") == keys(f"init.weights={same}")
    assert keys(f"init.weights={one}") != keys(f"init.weights={other}")


def test_missing_weights_are_named():
    with pytest.raises(VsslError, match=r"^init\.weights=/no/such\.pt: No such file.*; give the file"):
        chain("init.weights=/no/such.pt")


def test_clips_to_see():
    specs = chain("source.num_videos=100", "auxiliary.training.batch_size=30")
    stages = {spec.name: Stage(spec).clips for spec in specs}
    cfg = composed()
    assert stages["auxiliary"] == 90 * 2 * cfg.auxiliary.training.epochs
    assert stages["pretext"] == 100 * cfg.pretext.training.epochs
    assert stages["test"] == cfg.downstream.test.num_videos * 10


def test_the_recipe_is_plain_data():
    for spec in chain():
        assert json.loads(json.dumps(spec.recipe.to_plain())) == spec.recipe.to_plain()
        assert "root" not in spec.recipe.data
        assert "input" not in spec.recipe.backbone


@pytest.mark.parametrize("pretext", ["vspp", "none"])
def test_retrieval_and_knn_share_their_features_with_one_another_and_pretraining_with_all(pretext):
    base = ["auxiliary=none", f"pretext={pretext}"]
    chains = [chain(*base, f"protocol={name}") for name in ("finetune", "linear", "retrieval", "knn")]
    names = [spec.name for spec in merge(chains)]
    first = ["pretext"] if pretext == "vspp" else []
    assert names == [*first, "finetune", "test", "linear", "test", "gallery", "queries", "test", "test"]
    for stages in chains:
        assert [spec.parent for spec in stages] == [None, *stages[:-1]]


FEATURE_MOVES = {
    "features.feature=conv5_max": "gallery",
    "features.sampler.num_clips=3": "gallery",
    "features.augmentation.crop.size=16": "gallery",
    "downstream.train.num_videos=16": "gallery",
    "downstream.test.num_videos=16": "queries",
    "protocol.ranks=[1,2]": "test",
}


@pytest.mark.parametrize(("override", "first"), FEATURE_MOVES.items())
def test_a_change_moves_the_features_that_it_concerns(override, first):
    before, after = keys("protocol=retrieval"), keys("protocol=retrieval", override)
    order = list(before)
    assert [name for name in order if before[name] != after[name]] == order[order.index(first) :]


def test_a_gallery_counts_every_video_once_however_often_training_does():
    assert keys("protocol=knn") == keys("protocol=knn", "downstream.train.repeat=10")
    stages = chain("protocol=knn", "downstream.train.num_videos=20", "downstream.train.repeat=10")
    assert [Stage(spec).clips for spec in stages[-3:]] == [200, composed().downstream.test.num_videos * 10, 0]


def test_external_weights_are_judged_by_their_neighbours(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "one.pt")
    weights = f"init.weights={tmp_path / 'one.pt'}"
    gallery, queries, test = chain(weights, "protocol=knn")
    assert gallery.paths["init"] == str(tmp_path / "one.pt")
    assert test.chain == [gallery, queries, test]
    assert keys(weights, "protocol=knn") != keys("auxiliary=none", "pretext=none", "protocol=knn")


@pytest.mark.parametrize("protocol", ["finetune_vcop", "finetune_rspnet"])
def test_presets_of_others_show_every_video_once_per_epoch_unless_told_otherwise(protocol):
    def repeat(*overrides):
        [finetune] = [s for s in chain("downstream.train.repeat=10", *overrides) if s.name == "finetune"]
        return finetune.recipe.data["repeat"]

    assert repeat() == 10
    assert repeat(f"protocol={protocol}") == 1
    assert repeat(f"protocol={protocol}", "protocol.repeat=3") == 3


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link", "nothing"])
def test_outputs_that_can_be_no_folder(kind, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    places = {"file": "file", "below a file": "file/deep/er", "dangling link": "link"}
    cfg = composed()
    cfg.outputs = str(tmp_path / places[kind]) if kind in places else None
    with pytest.raises(
        VsslError, match="is not a folder; give another place" if kind in places else "needs a folder"
    ):
        absolute_outputs(cfg)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=abc", "seed=abc: not a whole number; give a whole number"),
        ("seed=-1", "seed=-1: too small; choose 0 or more"),
        ("seed=null", "seed=null: not a whole number; give a whole number"),
        ("source.num_videos=0", r"source\.num_videos=0: too small; choose 1 or more"),
        ("source.repeat=-1", r"source\.repeat=-1: too small; choose 1 or more"),
        ("protocol.test.batch_size=0", r"protocol\.test\.batch_size=0: too small; choose 1 or more"),
    ],
)
def test_numbers_that_would_fail_after_hours_fail_before_anything_runs(override, message, tmp_path):
    with pytest.raises(VsslError, match=f"^{message}$"):
        execute([(composed(override, f"outputs={tmp_path}", "mode=plan"), [])])
