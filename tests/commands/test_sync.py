import pytest
from omegaconf import OmegaConf

import fake_store
from vssl.commands import sync
from vssl.errors import VsslError
from vssl.tracking.metrics import MetricsLog

DONE, UNFINISHED = (fake_store.chain(1, seed)[0] for seed in (0, 1))
LINES = [{"step": step, "time": 0.0, "loss": 1.0 / step} for step in (1, 2)]


def make_stage(outputs, spec, result=True):
    """A stage that has logged two steps; returns its folder."""
    store = fake_store.store_in(outputs)
    fake_store.finish(store, spec, {"mAP": 0.5}, lines=LINES)
    if not result:
        (store.folder(spec) / "result.json").unlink()
    return store.folder(spec)


def config(outputs, uri):
    tracking = {"_target_": "vssl.tracking.mlflow.MLflowTracker", "uri": uri, "experiment": "vssl"}
    return OmegaConf.create({"outputs": str(outputs), "tracking": tracking})


@pytest.mark.parametrize("result", [True, False])
def test_a_tracker_that_is_not_there_is_an_error(tmp_path, caplog, capsys, result):
    make_stage(tmp_path, DONE, result)
    with pytest.raises(VsslError, match=r"^tracking: .*127.0.0.1.*; mend this and sync again") as raised:
        sync.execute(config(tmp_path, "http://127.0.0.1:9"))
    assert "\n" not in str(raised.value)
    assert not [record for record in caplog.records if record.name.startswith("vssl")]
    assert not capsys.readouterr().out


def test_what_was_written_without_a_tracker_is_mirrored_once(tmp_path):
    make_stage(tmp_path, DONE)
    unfinished = make_stage(tmp_path, UNFINISHED, result=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    cfg = config(tmp_path, uri)
    sync.execute(cfg)
    sync.execute(cfg)
    from mlflow import MlflowClient  # after the tracker has told it to be quiet

    client = MlflowClient(uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "vssl"]
    runs = {run.data.tags["key"]: run for run in client.search_runs([experiment.experiment_id])}
    assert {key: run.info.status for key, run in runs.items()} == {
        DONE.key: "FINISHED",
        UNFINISHED.key: "KILLED",  # nobody works on it
    }
    for run in runs.values():
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    tags = runs[DONE.key].data.tags
    assert (tags["git_commit"], tags["host"]) == ("0123456789abcdef", "node1")
    assert tags["what"] == DONE.recipe.words
    assert runs[DONE.key].data.metrics["mAP"] == 0.5

    MetricsLog(unfinished, resume_step=2).log({"loss": 0.25}, 3)  # it went on elsewhere
    sync.execute(cfg)
    history = client.get_metric_history(runs[UNFINISHED.key].info.run_id, "loss")
    assert [metric.step for metric in history] == [1, 2, 3]
