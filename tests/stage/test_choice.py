"""Values that are chosen on held-out training videos, and then trained with."""

import json
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

import fake_store
from conftest import SMALL, composed, context_in
from vssl.commands import status
from vssl.dispatch.local import LocalDispatcher
from vssl.engine.checkpoint import load
from vssl.errors import OptionError, VsslError
from vssl.pipeline import Point, merge, plan
from vssl.result import Metric
from vssl.stage.choice import choice_of, choosing, chosen, decided, grid, with_values, without_lost
from vssl.stage.construct import Stage
from vssl.stage.run import run_stage
from vssl.stage.spec import StageSpec

LR = "training.optimizer.lr"
TOP1, CLIPS = Metric("video_top1", "video top-1", headline=True), Metric("clip_top1", "clip top-1")
LOSS = Metric("loss", "loss", headline=True, larger_is_better=False, percent=False)


@pytest.fixture
def store(tmp_path):
    return fake_store.store_in(tmp_path)


def stage_that_chooses(rates):
    """A training and the training and the test of each candidate; nothing has run."""
    base = fake_store.stage("finetune", "Classification", fake_store.videos("ucf101"), 0)
    pairs = []
    for rate in rates:
        training = {**base.recipe.training, "optimizer": {"lr": rate}}
        one = replace(base, recipe=replace(base.recipe, training=training))
        pairs.append((one, fake_store.stage("test", "ClipTest", fake_store.videos("ucf101"), 0, one)))
    open_ = {**base.recipe.training, "optimizer": {"lr": None}}
    spec = replace(base, recipe=replace(base.recipe, training=open_))
    return choosing(spec, {LR: list(rates)}, pairs), pairs


def finish(store, pairs, *metrics, declared=(CLIPS, TOP1)):
    """Finish all candidates, the tests with these metrics; None: its training diverged."""
    for (training, test), found in zip(pairs, metrics, strict=True):
        if found is None:
            store.fail(training, "the loss is nan", diverged=True)
        else:
            fake_store.finish(store, training)
            fake_store.finish(store, test, found, declared=declared)


def top1(video, clip=0.5):
    return {"video_top1": video, "clip_top1": clip}


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ([top1(0.2), top1(0.4), top1(0.3)], 0.03),
        ([top1(0.4, 0.1), top1(0.4, 0.3), top1(0.4, 0.2)], 0.03),  # as many videos, more clips
        ([top1(0.2), top1(0.4), top1(0.4)], 0.03),  # the same in all: the first
        ([top1(0.0), None, None], 0.01),
        ([None, top1(0.0), top1(0.1)], 0.1),
    ],
)
def test_the_best_headline_then_the_other_metrics_then_the_first(store, metrics, best):
    spec, pairs = stage_that_chooses([0.01, 0.03, 0.1])
    finish(store, pairs, *metrics)
    assert choice_of(spec, store).best == {LR: best}
    assert chosen(spec, store) == pairs[[0.01, 0.03, 0.1].index(best)][0].recipe


def test_of_a_loss_the_smallest(store):
    spec, pairs = stage_that_chooses([0.01, 0.03, 0.1])
    finish(store, pairs, {"loss": 3.0}, {"loss": 1.0}, {"loss": 2.0}, declared=[LOSS])
    assert choice_of(spec, store).best == {LR: 0.03}


def test_what_a_reader_is_told(store):
    spec, pairs = stage_that_chooses([0.01, 0.03, 0.1])
    finish(store, pairs, top1(0.25), top1(0.5), None)
    assert json.loads(json.dumps(choice_of(spec, store).facts())) == {
        "chosen": {LR: 0.03},
        "candidates": [
            {LR: 0.01, "video_top1": 0.25},
            {LR: 0.03, "video_top1": 0.5},
            {LR: 0.1, "video_top1": None},
        ],
        "choice": f"{LR}=0.03 by held-out video top-1 (0.01: 25.0, 0.03: 50.0, 0.1: diverged)",
    }


def test_no_choice_before_all_candidates_are_done_or_have_diverged(store):
    spec, pairs = stage_that_chooses([0.01, 0.03])
    finish(store, pairs[:1], top1(0.25))
    with pytest.raises(VsslError, match=rf"^the candidate 0.03 of {LR} is not finished; see why in "):
        choice_of(spec, store)
    store.fail(pairs[1][0], "out of memory")
    with pytest.raises(VsslError, match="not finished"):
        choice_of(spec, store)
    store.fail(pairs[1][0], "the loss is inf", diverged=True)
    assert choice_of(spec, store).best == {LR: 0.01}


def test_all_diverged(store):
    spec, pairs = stage_that_chooses([0.01, 0.03])
    finish(store, pairs, None, None)
    with pytest.raises(VsslError, match=r"^protocol.choose: the loss of every candidate became no number"):
        chosen(spec, store)


def test_the_key_has_the_rule_and_not_what_comes_of_it(store):
    spec, pairs = stage_that_chooses([0.01, 0.03])
    keys = {spec.key, *(one.key for pair in pairs for one in pair), stage_that_chooses([0.01, 0.1])[0].key}
    assert len(keys) == 6
    finish(store, pairs, top1(0.25), top1(0.5))
    assert stage_that_chooses([0.01, 0.03])[0].key == spec.key
    with store.claim(spec):
        pass
    [again] = [one.spec for one in store.all("finetune") if one.spec.recipe.choose]
    assert again == spec
    assert chosen(again, store) == chosen(spec, store)


def test_it_waits_for_its_parent_and_for_the_tests_of_all_candidates():
    spec, pairs = stage_that_chooses([0.01, 0.03])
    parent = fake_store.stage("pretext", "VSPP", fake_store.videos("ucf101"), 0)
    assert replace(spec, parent=parent).waits_for == [parent, *(test for _, test in pairs)]
    assert replace(spec, candidates=()).key == spec.key


def test_a_grid_has_all_combinations():
    assert grid({"training.epochs": [1, 2], LR: [0.1, 0.2]}) == [
        {"training.epochs": 1, LR: 0.1},
        {"training.epochs": 1, LR: 0.2},
        {"training.epochs": 2, LR: 0.1},
        {"training.epochs": 2, LR: 0.2},
    ]


@pytest.mark.parametrize("options", [{}, {LR: [0.1]}, {LR: 0.1}, [0.1, 0.2], "lr"])
def test_no_choice_at_all_is_refused(options):
    with pytest.raises(OptionError, match=r"^choose=.*: no choice; give options with two values or more"):
        grid(options)


def test_values_in_a_node():
    node = {"training": {"optimizer": {"lr": 1, "momentum": 2}, "epochs": 3}, "num_classes": 4}
    changed = with_values(node, {LR: 5, "training.epochs": 6})
    assert changed == {"training": {"optimizer": {"lr": 5, "momentum": 2}, "epochs": 6}, "num_classes": 4}
    assert node["training"] == {"optimizer": {"lr": 1, "momentum": 2}, "epochs": 3}


REFUSED = {
    "protocol.choose={training.optimizer.rate:[1,2]}": r"protocol\.training\.optimizer\.rate=1: no such",
    "protocol.choose={training.optimizer:[1,2]}": r"protocol\.training\.optimizer=1: not one option",
    "protocol.choose={training.optimizer.lr.x:[1,2]}": r"protocol\.training\.optimizer\.lr\.x=1: no such",
    "protocol.choose={num_classes:[8,9]}": r"protocol\.choose=.*: num_classes cannot be chosen",
    "protocol.choose={training.optimizer.lr:[1]}": r"protocol\.choose=.*: no choice",
    "protocol.held_out=0": r"protocol\.held_out=0: too small; choose a number above 0",
    "protocol.held_out=1": r"protocol\.held_out=1: not a share below 1",
    "protocol.held_out=half": r"protocol\.held_out=half: not a number",
    "downstream.train.per_class=0": r"downstream\.train\.per_class=0: too small; choose 1 or more",
    "downstream.train.per_class=few": r"downstream\.train\.per_class=few: not a whole number",
    "downstream.train.num_videos=1": r"protocol\.held_out=0.25: 1 group of 1 training videos cannot be cut",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_mistake_names_the_option(override):
    words = [f"protocol.choose={{{LR}:[0.1,0.2]}}", override]
    with pytest.raises(OptionError, match=f"^{REFUSED[override]}"):
        plan(composed(*words[override.startswith("protocol.choose") :]))


def small(data, *overrides):
    """A small pipeline from scratch, in which 4 of 16 training videos are held out."""
    scratch = ["auxiliary=none", "pretext=none", "protocol.test.sampler.num_clips=2"]
    return plan(composed(*[line for line in SMALL if "pretext" not in line], *data, *scratch, *overrides))


def run(specs, context):
    """Run what is not done; return the number of stages that ran."""
    left = [spec for spec in specs if context.store.result(spec) is None]
    for spec in left:
        context.store.folder(spec).mkdir(parents=True, exist_ok=True)
        with context.store.claim(spec):
            run_stage(spec, context)
    return len(left)


def weights(context, spec: StageSpec):
    return load(context.store.folder(spec) / "weights.pt")


def test_trained_with_the_choice_as_if_it_had_been_given(data, tmp_path):
    """The same bits as the plain training; what another rule has trained already is not trained again."""
    context = context_in(tmp_path)
    chain = small(data, f"protocol.choose={{{LR}:[0.01,0.2]}}")
    names = ["finetune", "test", "finetune", "test", "finetune", "test"]
    assert [spec.name for spec in chain] == names
    assert [len(Stage(spec).source.videos) for spec in chain] == [12, 4, 12, 4, 16, 8]
    assert run(chain, context) == 6
    facts = context.store.result(chain[-1]).protocol
    best = facts["chosen"][LR]
    reached = {one[LR]: one["video_top1"] for one in facts["candidates"]}
    assert reached == {
        rate: context.store.result(test).metrics["video_top1"]
        for rate, test in zip((0.01, 0.2), (chain[1], chain[3]), strict=True)
    }
    assert reached[best] == max(reached.values())
    assert facts["choice"].startswith(f"{LR}={best} by held-out video top-1 (0.01: ")

    by_hand = context_in(tmp_path / "by_hand")
    plain = small(data, f"protocol.{LR}={best}")
    run(plain, by_hand)
    for name, values in weights(by_hand, plain[0]).items():
        assert torch.equal(values, weights(context, chain[-2])[name])
    assert by_hand.store.result(plain[1]).metrics == context.store.result(chain[-1]).metrics

    # Three candidates more: two share their stages, and the same winner is not trained again.
    wider = small(data, f"protocol.choose={{{LR}:[0.01,0.2,1.0e-9]}}")
    assert [spec for spec in wider if spec in chain] == chain[:4]
    assert run(wider, context) == 4
    assert context.store.result(wider[-1]).protocol["chosen"] == {LR: best}
    assert context.store.result(wider[-2]).cost.inherited_seconds > 0
    log = (context.store.folder(wider[-2]) / "log.txt").read_text()
    assert f"continues {chain[-2]}" in log


def test_a_rate_at_which_the_loss_is_no_number_has_lost(data, tmp_path, capsys):
    """The launch goes on to the choice; the stage that diverged failed, and its test was skipped."""
    context = context_in(tmp_path)
    chain = small(data, f"protocol.choose={{{LR}:[1.0e+30,0.01]}}", "protocol.training.epochs=4")
    outcomes = LocalDispatcher(1, 0, None).run(chain, context)
    assert [one.status for one in outcomes] == ["failed", "skipped", "done", "done", "done", "done"]
    assert "the loss is" in outcomes[0].reason
    facts = context.store.result(chain[-1]).protocol
    assert facts["chosen"] == {LR: 0.01}
    assert [one["video_top1"] is None for one in facts["candidates"]] == [True, False]

    # It is not trained again, unless another choice has not been made yet.
    assert without_lost(chain, context.store) == chain[2:]
    status.execute([Point("", 0, chain)], OmegaConf.create({"outputs": str(tmp_path), "watch": False}))
    assert "4 done; " in capsys.readouterr().out
    wider = small(data, f"protocol.choose={{{LR}:[1.0e+30,0.01,0.02]}}", "protocol.training.epochs=4")
    assert without_lost(merge([chain, wider]), context.store) == merge([chain, wider])


def test_a_sweep_over_the_seed_shares_nothing_and_a_second_row_shares_candidates(data):
    rule = f"protocol.choose={{{LR}:[0.01,0.2]}}"
    first, other = small(data, rule, "seed=0"), small(data, rule, "seed=1")
    assert len(merge([first, other])) == 12
    parts = [chain[0].recipe.data["part"]["fingerprint"] for chain in (first, other)]
    assert parts[0] != parts[1]  # the seed draws what is held out
    wider = small(data, f"protocol.choose={{{LR}:[0.01,0.2,0.4]}}")
    assert len(merge([first, wider])) == 6 + 4


def test_what_is_to_be_chosen_does_not_depend_on_the_value_of_the_recipe(data):
    rule = f"protocol.choose={{{LR}:[0.01,0.2]}}"
    assert small(data, rule)[-1].key == small(data, rule, f"protocol.{LR}=0.7")[-1].key


@pytest.mark.parametrize(("rule", "parts"), [([], [4, 8]), (["protocol.training.micro_batch=2"], [2, 2])])
def test_a_batch_of_a_chosen_size_is_what_the_size_alone_makes_of_it(data, rule, parts):
    """The whole batch in one forward stays so; what was said of smaller parts stays said."""
    chain = small(data, "protocol.choose={training.batch_size:[4,8]}", *rule)
    assert [spec.recipe.training["micro_batch"] for spec in (chain[0], chain[2])] == parts
    for size in (4, 8):
        plain = small(data, f"protocol.training.batch_size={size}", *rule)
        assert decided(chain[-2].recipe, {"training.batch_size": size}) == plain[0].recipe


def test_epochs_can_be_chosen(data):
    [*_, finetune, _] = small(data, "protocol.choose={training.epochs:[1,3]}")
    assert finetune.recipe.epochs == 3
    assert "3 epochs, chosen: training.epochs" in finetune.recipe.words
    assert decided(finetune.recipe, {"training.epochs": 1}).epochs == 1
