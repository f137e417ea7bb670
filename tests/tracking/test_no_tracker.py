from vssl.tracking.metrics import Launch, MetricsLog, StageFolder, Tracker


def test_it_takes_every_call_and_writes_nothing(tmp_path):
    MetricsLog(tmp_path, resume_step=0).log({"loss": 1.0}, 1)
    tracker, stage = Tracker(), StageFolder("pretext", "3f2a", tmp_path, {})
    tracker.begin(Launch("1", "launch", "python launch.py"))
    tracker.mirror(stage, "running")
    tracker.mirror(stage, "finished")
    tracker.reuse(stage)
    tracker.end(ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert "metrics.jsonl" in tracker.where()
