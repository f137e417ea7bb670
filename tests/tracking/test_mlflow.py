import fcntl
import json
import logging
import multiprocessing
import os
import shlex
import time
import uuid
from dataclasses import replace

import pytest

from vssl.secrets import VARIABLE
from vssl.tracking import mlflow as module
from vssl.tracking.metrics import Launch, MetricsLog, StageFolder
from vssl.tracking.mlflow import MLflowTracker

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # inside mlflow

TAGS = {"git_commit": "abc123", "host": "node1", "version": "1.0"}
PARAMS = {
    "pretext.sampler.num_segments": 3,
    "pretext.sampler.speeds": [1, 2, 4],
    "parent": None,
    "augmentation": {},
    "odd@name": "x" * 7000,
    **{f"filler_{i}": i for i in range(120)},
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder with a blank in its name, where one database serves all tests of this file."""
    return tmp_path_factory.mktemp("my outputs")


@pytest.fixture
def tracker(outputs, tmp_path, monkeypatch):
    """A tracker whose launch has begun, in an empty working folder that must stay empty."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    tracker = MLflowTracker(f"sqlite:///{outputs}/mlflow.db", "vssl")
    tracker.begin(launch("a launch", "python launch.py seed=0,1"))
    yield tracker
    assert not list(here.iterdir())


@pytest.fixture
def stage(tmp_path):
    return make_stage(tmp_path, key=uuid.uuid4().hex[:8])


@pytest.fixture
def client(tracker):
    from mlflow import MlflowClient

    return MlflowClient(tracker.uri)


def launch(name, command=""):
    return Launch(uuid.uuid4().hex, name, command)


def make_stage(root, key):
    folder = root / "stages" / "pretext" / key
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").touch()
    (folder / "log.txt").write_text("it began")
    return StageFolder("pretext", key, folder, TAGS, PARAMS)


def write_steps(stage, steps, resume_step=0):
    log = MetricsLog(stage.folder, resume_step)
    for step in steps:
        log.log({"loss": 1 / step, "lr": 0.1}, step)


def finish(stage):
    """The stage after it has left its result."""
    (stage.folder / "result.json").write_text("{}")
    (stage.folder / "curve.png").write_bytes(b"png")
    return replace(stage, metrics={"mAP": 0.5, "rank": 3.25})


def record(stage):
    return json.loads((stage.folder / "tracking.json").read_text())


def the_run(client, stage):
    """The one run of a stage, in the tracker's experiment."""
    experiment_id = client.get_experiment_by_name("vssl").experiment_id
    (run,) = client.search_runs([experiment_id], f"tags.key = '{stage.key}'")
    return run


def history(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def warnings(caplog):
    return [r for r in caplog.records if r.name.startswith("vssl") and r.levelno == logging.WARNING]


def test_a_finished_stage_has_everything_in_its_run(tracker, client, stage):
    write_steps(stage, range(10, 60, 10))
    tracker.mirror(stage, "running")
    assert the_run(client, stage).info.status == "RUNNING"
    stage = finish(stage)
    tracker.mirror(stage, "finished")

    run = the_run(client, stage)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"pretext {stage.key}"
    assert run.data.params["pretext.sampler.num_segments"] == "3"
    assert run.data.params["pretext.sampler.speeds"] == "[1, 2, 4]"
    assert run.data.params["parent"] == "None"
    assert run.data.params["augmentation"] == "{}"
    assert run.data.params["odd_name"] == "x" * 6000
    assert len(run.data.params) == len(PARAMS)  # more than one batch
    assert history(client, run, "loss") == [(step, 1 / step) for step in range(10, 60, 10)]
    assert history(client, run, "mAP") == [(50, 0.5)]
    assert set(run.data.metrics) == {"loss", "lr", "mAP", "rank"}
    assert {**TAGS, "stage": "pretext", "key": stage.key}.items() <= run.data.tags.items()
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"recipe.yaml", "log.txt", "result.json", "curve.png"}


def test_artifacts_lie_beside_the_database(tracker, client, stage, outputs):
    stage = finish(stage)
    tracker.mirror(stage, "finished")
    run_id = the_run(client, stage).info.run_id
    assert (outputs / "mlartifacts" / run_id / "artifacts" / "log.txt").read_text() == "it began"
    assert {path.name for path in outputs.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}


def test_stages_are_nested_in_the_run_of_their_launch(tracker, client, stage):
    tracker.mirror(stage, "running")
    run = the_run(client, stage)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "a launch"
    assert parent.data.tags["command"] == "python launch.py seed=0,1"
    assert parent.info.status == "RUNNING"
    tracker.end(ok=False)
    assert client.get_run(parent.info.run_id).info.status == "FAILED"


def test_mirroring_again_adds_nothing(tracker, client, stage, caplog):
    write_steps(stage, [10, 20])
    tracker.mirror(stage, "running")
    stage = replace(finish(stage), params={"parent": "another value"})
    for status in ("running", "finished", "finished"):
        tracker.mirror(stage, status)
    assert not warnings(caplog)
    run = the_run(client, stage)
    assert [step for step, _ in history(client, run, "loss")] == [10, 20]
    assert len(history(client, run, "mAP")) == 1
    assert run.info.status == "FINISHED"


def test_only_new_lines_are_sent(tracker, stage, monkeypatch):
    from mlflow import MlflowClient

    tracker.mirror(stage, "running")
    sent = []
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, metrics: sent.append([m.step for m in metrics]))
    write_steps(stage, [10, 20])
    tracker.mirror(stage, "running")
    write_steps(stage, [30], resume_step=20)
    tracker.mirror(stage, "running")
    tracker.mirror(stage, "running")
    assert sent == [[10, 10, 20, 20], [30, 30]]


def test_a_mirror_killed_before_it_took_note_repeats_without_doubling(tracker, client, stage):
    write_steps(stage, [10, 20])
    tracker.mirror(stage, "running")
    before = {**record(stage), "lines": 0, "step": 0, "time": 0}
    (stage.folder / "tracking.json").write_text(json.dumps(before))
    tracker.mirror(stage, "running")
    assert [step for step, _ in history(client, the_run(client, stage), "loss")] == [10, 20]


def test_more_metrics_than_one_batch_takes(tracker, client, stage):
    log = MetricsLog(stage.folder, resume_step=0)
    for step in range(3):
        log.log({f"m{i}": i for i in range(450)}, step)
    tracker.mirror(stage, "running")
    run = the_run(client, stage)
    assert len(run.data.metrics) == 450
    assert [step for step, _ in history(client, run, "m449")] == [0, 1, 2]


def test_names_and_values_that_mlflow_would_refuse(tracker, client, stage, caplog):
    MetricsLog(stage.folder, resume_step=0).log({"top@5": float("inf"), "loss": 1.0}, 1)
    tracker.mirror(stage, "running")
    assert set(the_run(client, stage).data.metrics) == {"top_5", "loss"}
    assert not warnings(caplog)


def test_a_resumed_stage_continues_its_run_in_another_launch(tracker, client, stage):
    write_steps(stage, [10, 20, 30])
    tracker.mirror(stage, "failed")
    first = the_run(client, stage)
    assert first.info.status == "FAILED"

    later = MLflowTracker(tracker.uri, "vssl")
    later.begin(launch("second launch"))
    write_steps(stage, [], resume_step=20)
    later.mirror(stage, "running")
    again = the_run(client, stage)
    assert (again.info.run_id, again.info.status) == (first.info.run_id, "RUNNING")
    write_steps(stage, [25, 30, 35, 40], resume_step=20)
    later.mirror(stage, "running")
    assert [step for step, _ in history(client, again, "loss")] == [10, 20, 30, 35, 40]
    write_steps(stage, [50], resume_step=40)
    later.mirror(stage, "finished")
    assert [step for step, _ in history(client, again, "loss")] == [10, 20, 30, 35, 40, 50]
    assert linked(client, "second launch", stage) == first.info.run_id


def linked(client, launch, stage):
    """The run id that a launch notes for a stage."""
    experiment_id = client.get_experiment_by_name("vssl").experiment_id
    (parent,) = client.search_runs([experiment_id], f"attributes.run_name = '{launch}'")
    return parent.data.tags.get(f"stage.{stage.name}.{stage.key}")


def test_a_reused_stage_is_linked_and_not_logged_again(tracker, client, stage, monkeypatch):
    write_steps(stage, [10])
    stage = finish(stage)
    tracker.mirror(stage, "finished")
    before = the_run(client, stage)

    later = MLflowTracker(tracker.uri, "vssl")
    later.begin(launch("launch that reuses"))
    monkeypatch.setattr(module, "_mirror_metrics", None)
    monkeypatch.setattr(module, "_mirror_files", None)
    later.reuse(stage)
    after = the_run(client, stage)
    assert after.to_dictionary() == before.to_dictionary()
    assert linked(client, "launch that reuses", stage) == before.info.run_id


def test_a_reused_stage_that_was_never_mirrored_is_mirrored_now(tracker, client, stage):
    write_steps(stage, [10])
    stage = finish(stage)
    tracker.reuse(stage)
    run = the_run(client, stage)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["mAP"] == 0.5


@pytest.mark.parametrize("gone", ["deleted", "unknown"])
def test_a_run_that_is_gone_is_made_anew(tracker, client, stage, gone):
    write_steps(stage, [10, 20])
    tracker.mirror(stage, "running")
    old = record(stage)["run_id"]
    client.delete_run(old)
    if gone == "unknown":
        (stage.folder / "tracking.json").write_text(json.dumps({**record(stage), "run_id": "f" * 32}))
    tracker.mirror(stage, "running")
    run = the_run(client, stage)
    assert run.info.run_id == record(stage)["run_id"] != old
    assert [step for step, _ in history(client, run, "loss")] == [10, 20]


def test_a_job_that_begins_the_same_launch_mirrors_under_its_run(tracker, client, stage):
    shared = launch("a launch of jobs")
    tracker.begin(shared)
    job = MLflowTracker(tracker.uri, "vssl")
    job.begin(shared)
    job.mirror(stage, "running")
    parent = the_run(client, stage).data.tags["mlflow.parentRunId"]
    assert client.get_run(parent).info.run_name == "a launch of jobs"
    assert len([run for run in client.search_runs(["1"]) if run.info.run_name == "a launch of jobs"]) == 1


def test_relative_paths_are_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = MLflowTracker("sqlite:///outputs/mlflow.db", "vssl")
    assert tracker.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert not list(tmp_path.iterdir())


def test_where_is_a_command_that_can_be_pasted():
    there = MLflowTracker("sqlite:////abs/outputs/mlflow.db", "vssl").where()
    assert there == "mlflow ui --backend-store-uri sqlite:////abs/outputs/mlflow.db"
    there = MLflowTracker("sqlite:////my outputs/mlflow.db", "vssl").where()
    assert there == "mlflow ui --backend-store-uri 'sqlite:////my outputs/mlflow.db'"
    assert MLflowTracker("http://host:5000", "vssl").where() == "http://host:5000"


# --- failures ---------------------------------------------------------------------------------------------


def test_a_database_that_breaks_is_reported_once_and_caught_up_with(tracker, client, stage, outputs, caplog):
    write_steps(stage, [10])
    tracker.mirror(stage, "running")
    database, aside = outputs / "mlflow.db", outputs / "aside"
    database.rename(aside)
    database.write_bytes(b"this is not a database" * 100)
    try:
        write_steps(stage, [20], resume_step=10)
        tracker.mirror(stage, "failed")
        tracker.mirror(stage, "failed")
        tracker.end(ok=True)
    finally:
        aside.rename(database)
    (warning,) = warnings(caplog)
    assert "\n" not in warning.getMessage()
    assert warning.getMessage().endswith("training goes on, metrics.jsonl is complete")
    assert record(stage)["lines"] == 1

    stage = finish(stage)
    tracker.mirror(stage, "finished")
    run = the_run(client, stage)
    assert [step for step, _ in history(client, run, "loss")] == [10, 20]
    assert run.info.status == "FINISHED"


def test_a_database_that_may_only_be_read(tracker, client, stage, outputs, caplog):
    outputs.chmod(0o500)
    (outputs / "mlflow.db").chmod(0o400)
    try:
        if os.access(outputs / "mlflow.db", os.W_OK):
            pytest.skip("this user may write to read-only files")
        tracker.mirror(stage, "failed")
    finally:
        outputs.chmod(0o700)
        (outputs / "mlflow.db").chmod(0o600)
    assert len(warnings(caplog)) == 1
    tracker.mirror(stage, "failed")
    assert the_run(client, stage).info.status == "FAILED"


def test_a_database_that_was_killed_while_it_was_made_is_made_anew(tmp_path, client, caplog):
    """`client` made sure that mlflow is imported here: the process need only be forked."""
    tracker = MLflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "vssl")
    killed = multiprocessing.get_context("fork").Process(target=tracker.begin, args=(launch("first"),))
    killed.start()
    while not (tmp_path / "mlflow.db").exists():
        time.sleep(0.001)
    time.sleep(0.2)
    killed.kill()
    killed.join()
    assert (tmp_path / "mlflow.db.half").exists()  # it was not done
    tracker.begin(launch("second"))
    stage = make_stage(tmp_path, "1")
    tracker.mirror(stage, "finished")
    assert warnings(caplog) == []
    assert the_run(type(client)(tracker.uri), stage).info.status == "FINISHED"
    assert not (tmp_path / "mlflow.db.half").exists()


NOWHERE = [
    "http://127.0.0.1:9",
    "nonsense://x",
    "sqlite:///{tmp}/file/mlflow.db",
    "sqlite:///{tmp}/file",
    "sqlite:///{tmp}",
    "postgresql://user:secret@127.0.0.1:9/db",
    "mysql+nodriver://127.0.0.1/db",
]


@pytest.mark.parametrize("uri", NOWHERE)
def test_a_tracker_that_is_nowhere_stops_nothing(stage, tmp_path, caplog, monkeypatch, uri):
    (tmp_path / "file").write_text("this is not a database")
    monkeypatch.setenv(VARIABLE, "")  # where passwords are kept
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)  # MLflow would try again for minutes
    tracker = MLflowTracker(uri.format(tmp=tmp_path), "vssl")
    tracker.begin(launch("a launch"))
    write_steps(stage, [10])
    for status in ("running", "failed", "finished"):
        tracker.mirror(stage, status)
    tracker.reuse(stage)
    tracker.end(ok=True)
    assert [r.name for r in caplog.records if r.levelno >= logging.WARNING] == [module.__name__]
    assert not (stage.folder / "tracking.json").exists()
    assert not slept
    assert "secret" not in caplog.text
    assert tracker.missing() == ["this launch", str(stage)]


def test_a_launch_that_could_not_begin_appears_later(client, outputs, stage, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def fail(*_, **__):
        raise MlflowException("down")

    tracker, late = MLflowTracker(f"sqlite:///{outputs}/mlflow.db", "vssl"), launch("late launch")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", fail)
        tracker.begin(late)
        tracker.mirror(stage, "finished")
    job = MLflowTracker(tracker.uri, "vssl")
    job.begin(late)
    job.mirror(stage, "finished")
    tracker.end(ok=True)  # at the launcher, which does not know what the job did
    parent = client.get_run(the_run(client, stage).data.tags["mlflow.parentRunId"])
    assert (parent.info.run_name, parent.info.status) == ("late launch", "FINISHED")
    assert linked(client, "late launch", stage) == record(stage)["run_id"]


def test_after_a_failure_a_running_stage_is_left_alone_for_a_while(tracker, stage, monkeypatch):
    calls = []

    def fail(*_):
        calls.append("tried")
        raise OSError("down")

    monkeypatch.setattr(module, "_known", fail)
    tracker.mirror(stage, "running")
    tracker.mirror(stage, "running")
    assert calls == ["tried"]
    tracker.mirror(stage, "failed")
    assert calls == ["tried", "tried"]
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    tracker.mirror(stage, "running")
    assert calls == ["tried", "tried", "tried"]


def test_after_a_failure_reused_stages_are_left_alone_for_a_while(tracker, client, stage, monkeypatch):
    stage = finish(stage)
    calls = []

    def fail(*_):
        calls.append("tried")
        raise OSError("down")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_known", fail)
        tracker.reuse(stage)
        tracker.reuse(stage)
        assert calls == ["tried"]
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    tracker.reuse(stage)
    assert the_run(client, stage).info.status == "FINISHED"


def test_a_moved_database_is_not_fed_artifacts_for_its_old_place(client, outputs, tmp_path, stage, caplog):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "mlflow.db").write_bytes((outputs / "mlflow.db").read_bytes())
    tracker = MLflowTracker(f"sqlite:///{copy}/mlflow.db", "vssl")
    tracker.begin(launch("a launch"))
    tracker.mirror(stage, "finished")
    assert "delete the database" in warnings(caplog)[0].getMessage()
    assert not (stage.folder / "tracking.json").exists()


@pytest.mark.parametrize("name", ["90%acc", "a%20b", "a?b#c", "it's; ü=&"])
def test_a_folder_of_any_name(tmp_path, caplog, name):
    outputs = tmp_path / name
    stage = finish(make_stage(outputs, "1"))
    tracker = MLflowTracker(f"sqlite:///{outputs}/mlflow.db", "vssl")
    tracker.begin(launch("a launch"))
    tracker.mirror(stage, "finished")
    tracker.end(ok=True)
    assert warnings(caplog) == []
    assert (tracker.missing(), list(tmp_path.iterdir())) == ([], [outputs])
    from mlflow import MlflowClient

    shown = shlex.split(tracker.where())[-1]
    client = MlflowClient(shown)
    run = the_run(client, stage)
    assert run.info.status == "FINISHED"
    assert "log.txt" in {file.path for file in client.list_artifacts(run.info.run_id)}


def killed_launch(uri, folder, stages, ready):
    """A launch that never ends by itself."""
    tracker = MLflowTracker(uri, "vssl")
    tracker.begin(Launch("killed", "killed launch", ""))
    tracker.claim(folder)
    for stage in stages:
        tracker.mirror(stage, "running")
    ready.touch()
    time.sleep(600)


def test_a_killed_launch_and_its_stages_end_as_killed_with_the_next_launch(tracker, client, tmp_path):
    stages = [make_stage(tmp_path, uuid.uuid4().hex[:8]) for _ in range(2)]
    write_steps(stages[0], [10])
    folder, ready = tmp_path / "launches", tmp_path / "ready"
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=killed_launch, args=(tracker.uri, folder, stages, ready))
    process.start()
    while not ready.exists():
        assert process.is_alive()
        time.sleep(0.01)

    def statuses():
        launches = client.search_runs(["1"], "attributes.run_name = 'killed launch'")
        return [run.info.status for run in (*launches, *(the_run(client, stage) for stage in stages))]

    tracker.claim(folder)
    assert statuses() == ["RUNNING"] * 3  # it lives
    process.kill()
    process.join()
    with open(stages[1].folder / "claim", "w") as claim:  # another launch goes on with this one
        fcntl.lockf(claim, fcntl.LOCK_EX)
        tracker.end(ok=True)
        tracker._launch = launch("next")
        elsewhere = fork.Process(target=tracker.claim, args=(folder,))
        elsewhere.start()
        elsewhere.join()
    assert statuses() == ["KILLED", "KILLED", "RUNNING"]
    tracker.mirror(stages[0], "running")  # resumed
    assert statuses() == ["KILLED", "RUNNING", "RUNNING"]


def test_a_launch_that_could_not_say_how_it_ended_is_closed_as_it_had_ended(tracker, client, tmp_path):
    (tmp_path / "launches").mkdir()
    (tmp_path / "launches" / tracker._launch.id).write_text("FAILED\n")
    later = MLflowTracker(tracker.uri, "vssl")
    later.close_left(tmp_path / "launches")
    [run] = client.search_runs(["1"], f"tags.launch = '{tracker._launch.id}'")
    assert run.info.status == "FAILED"
    assert not list((tmp_path / "launches").iterdir())


def test_a_metric_of_the_result_that_was_logged_already_is_not_logged_again(tracker, client, stage):
    MetricsLog(stage.folder, 0).log({"mAP": 0.5}, 1)
    tracker.mirror(finish(stage), "finished")
    run = the_run(client, stage)
    assert history(client, run, "mAP") == [(1, 0.5)]
    assert history(client, run, "rank") == [(1, 3.25)]


# --- many at once -----------------------------------------------------------------------------------------


def one_of_six(root, key):
    (root / f"ready{key}").touch()
    while len(list(root.glob("ready*"))) < 6:
        time.sleep(0.001)
    tracker = MLflowTracker(f"sqlite:///{root}/outputs/mlflow.db", "vssl")
    tracker.begin(launch(f"launch {key}"))
    stage = StageFolder("pretext", key, root / "stages" / "pretext" / key, {})
    tracker.mirror(stage, "running")
    tracker.end(ok=True)


def test_six_processes_may_start_at_once_without_a_database(tmp_path, client, capfd):
    from mlflow import MlflowClient

    stages = [make_stage(tmp_path, str(i)) for i in range(6)]
    for stage in stages:
        write_steps(stage, [10])
    # Forked, so that they need not import mlflow each; `client` made sure that it is imported here.
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=one_of_six, args=(tmp_path, stage.key)) for stage in stages]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * 6
    assert capfd.readouterr() == ("", "")  # no failure, and no chatter of MLflow or alembic

    client = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert not client.search_runs(["0"])  # nothing went to "Default"
    for stage in stages:
        run = the_run(client, stage)
        assert history(client, run, "loss") == [(10, 0.1)]
        assert client.get_run(run.data.tags["mlflow.parentRunId"]).info.run_name == f"launch {stage.key}"
