"""Launches: how they end."""

import signal

import pytest

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
        return [Outcome(None, self.end)]


class Tracker:
    """Notes how the launch ended."""

    def __init__(self):
        self.ended = []

    def end(self, ok):
        self.ended.append(ok)


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
