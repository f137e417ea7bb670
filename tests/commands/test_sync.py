import json

import pytest
import yaml
from omegaconf import OmegaConf

from vssl.commands import sync
from vssl.errors import VsslError
from vssl.tracking.metrics import MetricsLog

RECIPE = {
    "stage": "pretext",
    "key": "k",
    "parent": None,
    "task": {"_target_": "a.VSPP"},
    "backbone": {"_target_": "b.Tiny"},
    "data": {"_target_": "c.Videos", "num_videos": 4},
    "training": {"epochs": 2},
    "seed": 0,
}


def make_stage(outputs, key, result=True):
    folder = outputs / "stages" / "pretext" / key
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    log = MetricsLog(folder, resume_step=0)
    for step in (1, 2):
        log.log({"loss": 1.0 / step}, step)
    if result:
        origin = {"git_commit": "abc", "host": "node1"}
        (folder / "result.json").write_text(json.dumps({"metrics": {"top1": 0.5}, "provenance": origin}))
    return folder


def config(outputs, uri):
    tracking = {"_target_": "vssl.tracking.mlflow.MLflowTracker", "uri": uri, "experiment": "vssl"}
    return OmegaConf.create({"outputs": str(outputs), "tracking": tracking})


@pytest.mark.parametrize("result", [True, False])
def test_a_tracker_that_is_not_there_is_an_error(tmp_path, caplog, capsys, result):
    make_stage(tmp_path, "stage", result)
    with pytest.raises(VsslError, match=r"^tracking: .*127.0.0.1.*; mend this and sync again") as raised:
        sync.execute(config(tmp_path, "http://127.0.0.1:9"))
    assert "\n" not in str(raised.value)
    assert not [record for record in caplog.records if record.name.startswith("vssl")]
    assert not capsys.readouterr().out


def test_what_was_written_without_a_tracker_is_mirrored_once(tmp_path):
    make_stage(tmp_path, "done")
    unfinished = make_stage(tmp_path, "unfinished", result=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    cfg = config(tmp_path, uri)
    sync.execute(cfg)
    sync.execute(cfg)
    from mlflow import MlflowClient  # after the tracker has told it to be quiet

    client = MlflowClient(uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "vssl"]
    runs = {run.data.tags["key"]: run for run in client.search_runs([experiment.experiment_id])}
    assert {key: run.info.status for key, run in runs.items()} == {
        "done": "FINISHED",
        "unfinished": "RUNNING",
    }
    for run in runs.values():
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    tags = runs["done"].data.tags
    assert (tags["git_commit"], tags["host"]) == ("abc", "node1")
    assert tags["what"] == "VSPP, Tiny, Videos x 4, 2 epochs, seed 0"

    MetricsLog(unfinished, resume_step=2).log({"loss": 0.25}, 3)  # it went on elsewhere
    sync.execute(cfg)
    history = client.get_metric_history(runs["unfinished"].info.run_id, "loss")
    assert [metric.step for metric in history] == [1, 2, 3]
