"""Launches: how they end."""

import shlex
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

import fake_store
from vssl.commands import run
from vssl.commands.run import run_forest
from vssl.context import open_context
from vssl.errors import VsslError
from vssl.stage.context import Outcome
from vssl.stop import Stopped


class Dispatcher:
    """Has one outcome, or ends otherwise."""

    def __init__(self, end):
        self.end = end

    def run(self, forest, context):
        if isinstance(self.end, BaseException):
            raise self.end
        return [Outcome(fake_store.stage("test", "ClipTest", fake_store.videos("ucf101"), 0), self.end)]


class Tracker:
    """Notes how the launch ended."""

    def __init__(self):
        self.ended = []

    def end(self, ok):
        self.ended.append(ok)

    def reuse(self, stage):
        pass


CONTEXT = SimpleNamespace(store=SimpleNamespace(stage=lambda _: SimpleNamespace(tracked=lambda _: None)))


@pytest.mark.parametrize("end", [KeyboardInterrupt(), Stopped(signal.SIGTERM), VsslError("no sbatch here")])
def test_a_launch_that_is_cut_short_ends_in_the_tracker_too(end):
    tracker = Tracker()
    with pytest.raises(type(end)):
        run_forest(Dispatcher(end), [], None, tracker)
    assert tracker.ended == [False]


@pytest.mark.parametrize(("status", "ok"), [("done", True), ("submitted", True), ("failed", False)])
def test_a_launch_is_fine_if_nothing_failed(status, ok):
    tracker = Tracker()
    [outcome] = run_forest(Dispatcher(status), [], None, tracker)
    assert (outcome.status, tracker.ended) == (status, [ok])


def test_a_candidate_that_diverged_is_no_failure_once_another_one_is_chosen():
    pair, test = (
        [fake_store.stage(name, "Classification", fake_store.videos("ucf101"), seed) for seed in (1, 2)]
        for name in ("finetune", "test")
    )
    tested = [replace(one, parent=training) for one, training in zip(test, pair, strict=True)]
    chooser = replace(pair[0], recipe=replace(pair[0].recipe, seed=0), candidates=tested)
    ends = [(pair[0], "failed"), (tested[0], "skipped"), (pair[1], "done"), (tested[1], "done")]
    for end, ok in [("done", True), ("reused", True), ("failed", False)]:
        tracker = Tracker()
        outcomes = [Outcome(spec, status) for spec, status in [*ends, (chooser, end)]]
        run_forest(SimpleNamespace(run=lambda *_, outcomes=outcomes: outcomes), [], CONTEXT, tracker)
        assert tracker.ended == [ok]


def test_a_mistake_in_the_config_leaves_no_launch_behind(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    plain = {
        "outputs": str(tmp_path),
        "launch": {"id": "1", "name": "a launch", "command": ""},
        "tracking": {"_target_": "vssl.tracking.mlflow.MLflowTracker", "uri": uri, "experiment": "vssl"},
        "runtime": {"_target_": "vssl.engine.runtime.Runtime", "device": "gpu"},
    }
    with pytest.raises(VsslError, match="runtime"):
        open_context(plain)
    assert not list(tmp_path.iterdir())


def test_the_table_of_a_run_compares_as_the_sweep_file_says(tmp_path, monkeypatch, capsys):
    points, config = fake_store.segments_sweep(tmp_path)
    config.sweep.baseline = "1 segment"
    ready = SimpleNamespace(nodes={}, dispatcher=None, forest=[])
    tracker = SimpleNamespace(where=lambda: "nowhere", claim=lambda folder: None)
    nothing = {"preflight": ready, "open_context": (None, tracker), "run_forest": [], "_show_warnings": None}
    for name, value in nothing.items():
        monkeypatch.setattr(run, name, lambda *_, value=value: value)
    monkeypatch.setattr(run.stop, "listen", lambda: None)
    run.execute(points, config)
    said = "minus 1 segment UCF101: 1 seed: no test"
    assert said in capsys.readouterr().out


def test_a_sweep_says_which_command_makes_its_report(monkeypatch):
    monkeypatch.setattr(run.sys, "argv", ["launch.py", "-m", "mode=run", "label='a b'", "seed=0,1"])
    words = run._again("mode=report")
    assert words == """python launch.py -m 'label='"'"'a b'"'"'' seed=0,1 mode=report"""
    assert shlex.split(words)[2:] == ["-m", "label='a b'", "seed=0,1", "mode=report"]
