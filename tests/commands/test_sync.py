import json

import yaml
from omegaconf import OmegaConf

from vssl.commands import sync
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


def test_what_was_written_without_a_tracker_is_mirrored_once(tmp_path):
    make_stage(tmp_path, "done")
    unfinished = make_stage(tmp_path, "unfinished", result=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = {"_target_": "vssl.tracking.mlflow.MLflowTracker", "uri": uri, "experiment": "vssl"}
    cfg = OmegaConf.create({"outputs": str(tmp_path), "tracking": tracking})
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
