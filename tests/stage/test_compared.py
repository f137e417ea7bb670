"""In which values stages differ from others: beside them in a plan, and among those that are finished."""

import pytest

from conftest import composed
from vssl.pipeline import plan
from vssl.result import Cost, StageResult
from vssl.stage.compared import differences, nearest_finished, values
from vssl.stage.store import StageStore

RESULT = StageResult(metrics={}, protocol={}, cost=Cost(1.0), provenance={})


def pretext(*overrides):
    """The pretext stage, with no auxiliary one before it unless the overrides say so."""
    base = [] if any(one.startswith("auxiliary") for one in overrides) else ["auxiliary=none"]
    return next(spec for spec in plan(composed(*base, *overrides)) if spec.name == "pretext")


@pytest.fixture
def store(tmp_path):
    return StageStore(tmp_path)


def finish(store, *specs):
    for spec in specs:
        with store.claim(spec):
            store.finish(spec, RESULT)
    return specs[-1]


def test_values_are_named_as_they_are_typed_below_the_stage_and_the_task_has_no_name():
    found = values(pretext("pretext.sampler.max_speed=3"))
    assert found["sampler.max_speed"] == 3
    assert found["training.optimizer.lr"] == 0.03
    assert found["data.repeat"] == 1
    assert not any(path.startswith("task.") for path in found)
    assert not {"data.num_videos", "data.fingerprint"} & set(found)  # what the words of a stage say


def test_values_of_the_stages_before_have_their_names_in_front():
    found = values(pretext("auxiliary=auxskd", "auxiliary.queue_size=99", "pretext.speed_weight=2"))
    assert (found["auxiliary.queue_size"], found["speed_weight"]) == (99, 2)


def test_stages_of_the_same_words_say_in_what_they_differ():
    slow, fast = pretext(), pretext("pretext.training.optimizer.lr=0.01")
    assert slow.recipe.words == fast.recipe.words
    assert differences([slow, fast]) == [["lr=0.03"], ["lr=0.01"]]


def test_those_of_other_words_do_not():
    assert differences([pretext(), pretext("seed=1"), pretext("pretext=vcop")]) == [[], [], []]
    assert differences([pretext()]) == [[]]


def test_stages_after_another_pretraining_say_so_and_nothing_more():
    assert differences([pretext(), pretext("auxiliary=auxskd")]) == [["from scratch"], ["after AuxSKD"]]


def test_of_an_object_of_another_class_the_class_alone_is_told():
    found = differences([pretext(), pretext("optimizer@pretext.training.optimizer=adamw")])
    assert found == [["optimizer=SGD"], ["optimizer=AdamW"]]


def test_a_path_is_as_long_as_it_has_to_be():
    """Two values that are both called probability."""
    one = pretext("pretext.augmentation.flip.probability=0.25", "pretext.augmentation.grey.probability=0.25")
    other = pretext(
        "pretext.augmentation.flip.probability=0.75", "pretext.augmentation.grey.probability=0.75"
    )
    assert [set(found) for found in differences([one, other])] == [
        {"augmentation.flip.probability=0.25", "augmentation.grey.probability=0.25"},
        {"augmentation.flip.probability=0.75", "augmentation.grey.probability=0.75"},
    ]


def test_what_only_one_of_them_has_is_said_of_that_one():
    plain, jittered = (
        pretext(),
        pretext("pretext.augmentation.jitter=null", "+pretext.augmentation.extra=null"),
    )
    assert differences([plain, jittered]) == [[], ["extra=null"]]


def test_the_nearest_finished_stage_is_named_with_what_changed(store):
    done = finish(store, pretext())
    slower = pretext("pretext.training.optimizer.lr=0.01")
    assert nearest_finished([slower], store) == {
        slower: f": like {done.key[:6]} but training.optimizer.lr 0.03 -> 0.01"
    }


def test_of_several_it_is_the_one_that_differs_least(store):
    finish(store, pretext("seed=1", "pretext.training.optimizer.lr=0.01"))
    near = finish(store, pretext("pretext.training.optimizer.lr=0.02"))
    finish(store, pretext("seed=2", "pretext.training.epochs=7"))
    asked = pretext()
    expected = f": like {near.key[:6]} but training.optimizer.lr 0.02 -> 0.03"
    assert nearest_finished([asked], store) == {asked: expected}


def test_three_changes_are_near_and_four_are_far(store):
    three = ["seed=1", "pretext.training.epochs=7", "pretext.training.optimizer.lr=1"]
    done = finish(store, pretext())
    near, far = pretext(*three), pretext(*three, "pretext.speed_weight=2")
    [line] = nearest_finished([near, far], store).values()
    start, _, changes = line.partition(" but ")
    assert start == f": like {done.key[:6]}"
    assert set(changes.split(", ")) == {
        *("seed 0 -> 1", "training.epochs 12 -> 7", "training.optimizer.lr 0.03 -> 1")
    }


def test_values_that_only_one_of_the_two_has(store):
    done = finish(store, pretext())
    more, less = pretext("+pretext.augmentation.extra=null"), pretext()
    assert nearest_finished([more], store) == {
        more: f": like {done.key[:6]} but augmentation.extra absent -> null"
    }
    store = StageStore(store.root / "other")
    done = finish(store, more)
    assert nearest_finished([less], store) == {
        less: f": like {done.key[:6]} but augmentation.extra null -> absent"
    }


def test_other_videos_are_told_where_no_option_that_chooses_them_has_changed(store):
    *_, done, _ = plan(composed("auxiliary=none"))
    finish(store, *done.chain)
    *_, fewer, _ = plan(composed("auxiliary=none", "source.num_videos=99"))
    assert nearest_finished(fewer.chain, store) == {
        one: f": like {other.key[:6]} but other videos"
        for one, other in zip(fewer.chain, done.chain, strict=True)
    }
    both = pretext("source.num_videos=99", "pretext.training.optimizer.lr=0.01")
    assert nearest_finished([both], store)[both].endswith(
        " but training.optimizer.lr 0.03 -> 0.01, other videos"
    )
    seeds = nearest_finished([pretext("source.seed=5")], store)
    assert [line.partition(" but ")[2] for line in seeds.values()] == ["data.seed 0 -> 5"]


def test_a_change_far_above_is_named_with_the_stage_that_it_is_of(store):
    chains = [plan(composed("auxiliary=none", f"pretext.training.optimizer.lr={lr}")) for lr in (0.03, 0.01)]
    finish(store, *chains[0])
    found = nearest_finished(chains[1], store)
    change = "training.optimizer.lr 0.03 -> 0.01"
    assert [found[spec].partition(" but ")[2] for spec in chains[1]] == [
        *(change, f"pretext.{change}", f"pretext.{change}")
    ]


def test_nothing_is_near_to_what_is_done_or_of_another_name_or_without_a_key(store):
    assert nearest_finished([pretext()], store) == {}
    *_, pretext_stage, finetune, _ = plan(composed("auxiliary=none"))
    with store.claim(pretext("pretext.training.optimizer.lr=0.01")):
        pass  # begun, not finished
    assert nearest_finished([pretext_stage], store) == {}
    finish(store, pretext_stage)
    assert nearest_finished([pretext_stage, finetune], store) == {}


def test_videos_that_are_not_checked_have_no_key_to_compare(store, tmp_path):
    real = ["source=ucf101", f"source.root={tmp_path}", "backbone=r3d_10", "auxiliary=none"]
    [first, *_] = plan(composed(*real), provisional=True)
    [other, *_] = plan(composed(*real, "pretext.training.optimizer.lr=1"), provisional=True)
    finish(store, first)
    assert nearest_finished([other], store) == {}
