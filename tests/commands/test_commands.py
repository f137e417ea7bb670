"""What all modes have in common: one launch, one place, one way to run."""

import pytest

from conftest import composed
from vssl.commands import execute, report, sync
from vssl.errors import VsslError


def launch(*points, common=()):
    execute([(composed(*common, *overrides), list(overrides)) for overrides in points])


@pytest.mark.parametrize(
    ("one", "other", "option"),
    [
        ("outputs=a", "outputs=b", "outputs"),
        ("runtime.device=cpu", "runtime.device=cuda", "runtime.device"),
        ("tracking=jsonl", "tracking=mlflow", "tracking"),
        ("dispatch=local", "dispatch=slurm", "dispatch"),
        ("dispatch.max_parallel_stages=1", "dispatch.max_parallel_stages=2", "dispatch.max_parallel_stages"),
        ("mode=report", "mode=plan", "mode"),
    ],
)
def test_points_cannot_differ_in_what_a_launch_has_one_of(one, other, option):
    with pytest.raises(VsslError, match=f"^{option}: points differ in it, .* launch once for each value"):
        launch([one, "seed=0"], [other, "seed=1"], common=["mode=report"])


def test_outputs_that_follow_from_what_differs_are_refused_too():
    with pytest.raises(VsslError, match=r"^outputs: "):
        launch(["seed=0"], ["seed=1"], common=["mode=report", "outputs=out/${seed}"])


def test_points_may_differ_in_everything_else(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(report, "execute", lambda points, cfg: seen.extend(point.label for point in points))
    points = [["backbone=tiny", "seed=0"], ["backbone=r3d_10", "seed=0"]]  # with monitors of their own
    launch(*points, common=["mode=report", f"outputs={tmp_path}", "dispatch.max_parallel_stages=2"])
    assert seen == ["backbone=tiny", "backbone=r3d_10"]


def test_a_mode_that_takes_points_one_by_one_takes_them_as_they_are(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(sync, "execute", lambda cfg: seen.append(cfg.outputs))
    launch([f"outputs={tmp_path}/a"], [f"outputs={tmp_path}/b"], common=["mode=sync"])
    assert seen == [f"{tmp_path}/a", f"{tmp_path}/b"]


FOLDER = ["source=folder", "source.root=ROOT"]


@pytest.mark.parametrize(
    ("mode", "option"),
    [
        (["mode=preview", "outputs=/proc/x"], "outputs=/proc/x/preview"),
        (["mode=check", *FOLDER, "outputs=/proc/x"], "outputs=/proc/x/index"),
        (["mode=prepare", *FOLDER, "prepare.out=/proc/x"], "prepare.out=/proc/x"),
        (["mode=download", "source=hmdb51", "download.out=/proc/x"], "download.out=/proc/x"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_in_one_line(mode, option, tmp_path, monkeypatch):
    monkeypatch.setattr("vssl.commands.download.rar_tool", lambda names: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").touch()
    with pytest.raises(VsslError, match=f"^{option}: No such file or directory; give another place$"):
        launch([word.replace("ROOT", str(tmp_path)) for word in mode])


@pytest.mark.parametrize("mode", ["run", "plan", "status", "report"])
def test_a_decoder_that_does_not_exist_is_refused_even_where_nothing_is_read_with_it(mode, tmp_path):
    with pytest.raises(VsslError, match=r"^decoder=decor: no such decoder; did you mean 'decord'\?$"):
        launch([f"mode={mode}", "decoder=decor", f"outputs={tmp_path}"])
    assert not list(tmp_path.iterdir())
