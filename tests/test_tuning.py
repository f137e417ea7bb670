"""Values that are tuned by what they reach on held-out training videos (hydra/sweeper=optuna)."""

import sys
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import fake_store
from conftest import SMALL, composed
from launches import stage_folders
from vssl import tuning
from vssl.errors import VsslError
from vssl.overrides import as_hydra_wants_it
from vssl.pipeline import plan
from vssl.result import Metric
from vssl.stage.store import StageStore
from vssl.tuning import Reached

TUNED = ["protocol.tested_on=held_out", "auxiliary=none", "protocol.test.sampler.num_clips=2"]
OPTUNA = ["-m", "hydra/sweeper=optuna", *TUNED]
LR = "protocol.training.optimizer.lr"


@pytest.fixture
def needs_optuna():
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'vssl[optuna]')")


def chain(*overrides):
    return plan(composed(*SMALL, "auxiliary=none", *overrides))


# A share of the training videos in the place of the test set.


def test_the_test_is_on_training_videos_that_the_classifier_has_not_seen():
    *_, pretext, classifier, test = chain("protocol.tested_on=held_out")
    whole_pretext, *_ = chain()
    assert pretext == whole_pretext
    kept, held = classifier.recipe, test.recipe
    assert (kept.num_videos, held.num_videos) == (12, 4)  # of 16, a quarter of which is held out
    assert (kept.data["seed"], held.data["seed"]) == (1, 1)  # both are of the training videos
    assert (kept.data["part"]["side"], held.data["part"]["side"]) == ("train", "val")
    assert held.is_held_out
    assert not kept.is_held_out
    assert not any(spec.recipe.is_held_out for spec in chain())


def test_a_candidate_of_a_choice_with_the_same_values_is_the_same_stage():
    choice = chain("protocol.choose={training.optimizer.lr:[0.01,0.02]}")
    assert set(chain("protocol.tested_on=held_out", f"{LR}=0.02")) <= set(choice)


@pytest.mark.parametrize("protocol", ["retrieval", "knn"])
def test_protocols_without_training_look_for_held_out_videos_among_the_others(protocol):
    small = [line for line in SMALL if not line.startswith("protocol")]
    *_, gallery, queries, test = plan(
        composed(*small, f"protocol={protocol}", "protocol.tested_on=held_out", "protocol.held_out=0.5")
    )
    assert [spec.recipe.data["part"]["side"] for spec in (gallery, queries, test)] == ["train", "val", "val"]
    assert (gallery.recipe.num_videos, queries.recipe.num_videos) == (8, 8)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["protocol.tested_on=val"], r"protocol\.tested_on=val: no such value; valid: held_out, test"),
        (
            ["protocol.tested_on=held_out", "protocol.choose={training.epochs:[1,2]}"],
            r"protocol\.choose=\{training\.epochs:\[1,2\]\}: its candidates have the held-out videos "
            r"already; leave it out, or say protocol\.tested_on=test",
        ),
        (["protocol.held_out=0"], r"protocol\.held_out=0: too small; choose a number above 0"),
    ],
)
def test_what_cannot_be_held_out(overrides, problem):
    with pytest.raises(VsslError, match=f"^{problem}$"):
        chain(*overrides)


# What a point returns.


def tuned(*specs, outputs):
    return [SimpleNamespace(chain=list(one), cfg=SimpleNamespace(outputs=str(outputs))) for one in specs]


def test_a_point_returns_its_headline_and_a_trial_of_several_seeds_the_mean(tmp_path):
    one, other = fake_store.chain(1, seed=0), fake_store.chain(1, seed=1)
    points = tuned(one, other, outputs=tmp_path)
    store = StageStore(tmp_path)
    fake_store.finish_chain(store, one, 0.5)
    assert tuning.reached(points[0]).value == 0.5
    assert tuning.reached(points[0]).words == "50.0 %"
    assert not tuning.reached(*points).is_known
    assert tuning.reached(*points).words == "not done"
    fake_store.finish_chain(store, other, 0.3)
    assert tuning.reached(*points).value == pytest.approx(0.4)


def test_a_point_that_diverged_is_known_and_has_no_value(tmp_path):
    specs = fake_store.chain(1, seed=0)
    [point] = tuned(specs, outputs=tmp_path)
    StageStore(tmp_path).fail(specs[0], "out of memory")
    assert not tuning.reached(point).is_known
    StageStore(tmp_path).fail(specs[0], "the loss is nan", diverged=True)
    found = tuning.reached(point)
    assert (found.is_known, found.value, found.score, found.words) == (True, None, None, "diverged")


def test_the_direction_is_the_metrics_own():
    assert Reached(0.25, Metric("video_top1", "video top-1")).score == 0.25
    assert Reached(0.25, Metric("error", "error", larger_is_better=False)).score == -0.25


def test_a_point_that_is_tested_on_the_test_set_is_refused():
    with pytest.raises(VsslError, match=r"by the test set; say protocol\.tested_on=held_out proto"):
        tuning.points_of([(composed(*SMALL), [])])
    assert len(tuning.points_of([(composed(*SMALL, "protocol.tested_on=held_out"), [])])) == 1


def test_a_sweeper_that_is_chosen_makes_a_multirun():
    assert as_hydra_wants_it(["hydra/sweeper=optuna", "seed=0,1"]) == [
        "-m",
        "hydra/sweeper=optuna",
        "seed=0,1",
    ]


# The sweeper.


@pytest.fixture
def sweeper(needs_optuna):
    return pytest.importorskip("hydra_plugins.vssl_tuning")


def distribution(sweeper, line):
    [override] = OverridesParser.create().parse_overrides([line])
    return sweeper._distribution(override)


def test_intervals_ranges_and_choices(sweeper):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    assert distribution(sweeper, "a=interval(0.01,0.1)") == FloatDistribution(0.01, 0.1)
    assert distribution(sweeper, "a=tag(log,interval(0.01,1.0))") == FloatDistribution(0.01, 1.0, log=True)
    assert distribution(sweeper, "a=int(interval(1,4))") == IntDistribution(1, 4)
    assert distribution(sweeper, "a=range(1,8,3)") == IntDistribution(1, 7, step=3)
    assert distribution(sweeper, "a=range(0.5,2,0.5)") == FloatDistribution(0.5, 1.5, step=0.5)
    choices = CategoricalDistribution(["vspp", "[1,2]", "0.1", "'a b'"])
    assert distribution(sweeper, "a=vspp,[1,2],0.1,'a b'") == choices


def test_values_have_three_digits_and_stay_within_their_ends(sweeper):
    ends = distribution(sweeper, "a=interval(0.12345,0.1237)")
    assert sweeper._typed(0.123467, ends) == "0.12345"
    assert sweeper._typed(0.123687, ends) == "0.1237"
    assert sweeper._typed(0.0345678, distribution(sweeper, "a=interval(0.01,0.1)")) == "0.0346"
    assert sweeper._typed(3, distribution(sweeper, "a=int(interval(1,4))")) == "3"


def test_trials_run_as_one_forest_and_the_same_command_goes_on(launch, tmp_path, needs_optuna):
    def tune(*words):
        done = launch(*OPTUNA, f"{LR}=tag(log,interval(0.001,0.1))", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = tune("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    assert [len(stage_folders(tmp_path, name)) for name in ("pretext", "finetune", "test")] == [1, 2, 2]
    assert first.count("results: ") == 1  # one launch, in which they share the pretext
    *_, best, command = first.splitlines()
    assert best.startswith(f"best of 2 by video top-1 of held-out videos: {LR}=0.0")
    assert command.startswith("its test: python launch.py ")
    assert "tested_on" not in command
    assert command.endswith(best.rpartition(" ")[2])
    *_, table = first.split("trial  ")

    again = tune("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    assert "results: " not in again  # nothing to launch
    assert again.split("trial  ")[-1] == table

    more = tune("hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2", "mode=plan")
    assert "3 points, 9 stages asked for, 7 distinct, 5 already done" in more

    report = tune("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "mode=report")
    assert "2 of 2 runs done" in report
    assert "synthetic train held out" in report


def test_a_trial_runs_with_each_seed(launch, tmp_path, needs_optuna):
    done = launch(
        *(*OPTUNA, "hydra.sweeper.n_trials=1", "seed=0,1", f"{LR}=0.01,0.02", "pretext=none"),
        "dispatch.max_parallel_stages=2",
    )
    assert done.returncode == 0, done.stderr
    tests = [StageStore(tmp_path).open(folder.name) for folder in stage_folders(tmp_path, "test")]
    assert {stage.spec.recipe.seed for stage in tests} == {0, 1}
    mean = sum(stage.finished.metrics["video_top1"] for stage in tests) / 2
    assert f"{100 * mean:.1f} %" in done.stdout
    assert "launch.py -m seed=0,1 " in done.stdout.splitlines()[-1]


def test_a_trial_that_diverges_has_lost(launch, needs_optuna):
    done = launch(*OPTUNA, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", f"{LR}=0.01,1e30")
    assert done.returncode == 0, done.stderr
    assert "diverged" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(f"{LR}=0.01")


REFUSED = {
    ("hydra/sweeper=optuna", "seed=0,1", "protocol.tested_on=held_out"): (
        "hydra/sweeper=optuna: no option has values to choose from; give some"
    ),
    ("hydra/sweeper=optuna", "+sweeps=table4", f"{LR}=interval(0.1,1)"): (
        "hydra/sweeper=optuna: a sweep file has rows of its own; leave +sweeps= out"
    ),
    ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=0", f"{LR}=interval(0.1,1)"): (
        "hydra.sweeper.n_trials=0: too small; choose 1 or more"
    ),
    ("hydra/sweeper=optuna", f"{LR}=interval(0.1,0.01)"): (
        f"{LR}=interval(0.1,0.01): no values lie there; name the smaller end first"
    ),
    ("hydra/sweeper=optuna", f"{LR}=tag(log,interval(0,1))"): f"{LR}=tag(log,interval(0,1)): no values lie",
    ("hydra/sweeper=optuna", f"{LR}=range(3,1)"): f"{LR}=range(3,1): no values lie there",
    ("hydra/sweeper=optuna", "seed=interval(0,3)", f"{LR}=1,2"): (
        "seed=interval(0,3): an interval is no list of values; list the seeds"
    ),
    ("hydra/sweeper=optuna", "hydra.sweeper.n_trial=2"): (
        "hydra.sweeper.n_trial: no such option; did you mean 'n_trials'?"
    ),
    ("seed=range(3,0)",): "seed=range(3,0): these are no values at all; write some",
    ("pretext=glob(x*)",): "pretext=glob(x*): these are no values at all; write some",
    (
        "hydra/sweeper=optuna",
        "seed=range(3,0)",
        f"{LR}=interval(1,2)",
    ): "seed=range(3,0): these are no values",
    (f"{LR}=interval(0.1,1)",): (
        f"{LR}=interval(0.1,1): an interval is no list of values; say hydra/sweeper=optuna to tune it"
    ),
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_cannot_be_tuned_is_one_line(launch, words):
    done = launch("-m", *words, small=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"vssl: {REFUSED[words]}")
    assert len(done.stderr.splitlines()) == 1


def test_without_optuna_it_is_said_what_to_install(monkeypatch):
    sweeper = pytest.importorskip("hydra_plugins.vssl_tuning")
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not there
    with pytest.raises(VsslError, match=r"needs Optuna, which is not installed; pip install 'vssl\[opt"):
        sweeper._study(0)


def test_the_test_set_is_not_what_any_sweeper_tunes_by(launch, needs_optuna):
    done = launch("-m", "hydra/sweeper=optuna", f"{LR}=interval(0.01,0.1)")
    assert done.returncode == 1
    said = "values would be chosen by the test set; say protocol.tested_on=held_out protocol.held_out=0.25"
    assert said in done.stderr


def test_what_runs_on_a_cluster_is_waited_for(tmp_path, monkeypatch):
    specs = fake_store.chain(1, seed=0)
    [point] = tuned(specs, outputs=tmp_path)
    followed = []
    monkeypatch.setattr("vssl.commands.status.follow", lambda forest, store: followed.append(forest))
    tuning.wait_for([point])
    assert followed == [specs]
    fake_store.finish_chain(StageStore(tmp_path), specs, 0.5)
    tuning.wait_for([point])
    assert len(followed) == 1  # there is nothing to wait for
