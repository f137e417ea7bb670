"""The whole program as users meet it: real processes, real files, real kills."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

from conftest import ROOT, SMALL, command, environment, fitting
from launches import LONG, assert_identical, assert_same_run, kill_at, lines, stage_folders, weights


def test_a_pipeline_runs_and_the_second_time_trains_nothing(launch, tmp_path):
    first = launch()
    assert first.returncode == 0, first.stderr
    folders = stage_folders(tmp_path)
    assert [folder.parent.name for folder in folders] == ["auxiliary", "finetune", "pretext", "test"]
    # 16 videos in batches of 8, two epochs: four steps, each logged
    assert [len(lines(folder)) for folder in folders] == [4, 4, 4, 1]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = launch()
    assert second.returncode == 0, second.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert first.stdout.split("method")[1] == second.stdout.split("method")[1]
    assert "4 reused" in second.stdout


@pytest.mark.slow
def test_weights_do_not_depend_on_the_number_of_workers(launch, tmp_path):
    for workers in (0, 3):
        done = launch(f"runtime.workers={workers}", f"outputs={tmp_path / str(workers)}")
        assert done.returncode == 0, done.stderr
    assert_identical(weights(tmp_path / "0"), weights(tmp_path / "3"))


def test_result_tells_protocol_and_provenance(launch, tmp_path):
    assert launch("auxiliary=none", "pretext=none").returncode == 0
    result = json.loads((stage_folders(tmp_path, "test")[0] / "result.json").read_text())
    names = ("clip_top1", "clip_top5", "video_top1", "video_top5", "mean_class_top1", "chance")
    assert set(result["metrics"]) == set(names)
    protocol = result["protocol"]
    assert protocol["clips_per_video"] == 10
    assert protocol["test_videos"] == 8
    assert protocol["epochs"] == 2
    assert protocol["effective_batch"] == 8
    assert protocol["backbone_parameters"] > 1000
    assert protocol["trained"] == "backbone and heads"
    assert protocol["seed"] == 0
    assert {"git_commit", "versions", "host", "device"} <= set(result["provenance"])


def test_nothing_is_written_outside_outputs(launch, tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("cwd")
    done = launch("tracking=mlflow", "auxiliary=none", "pretext=none", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stdout
    assert (tmp_path / "mlflow.db").exists()


def imported(outputs, *words):
    """What a command prints, and the last line: which of three slow libraries it has imported."""
    code = (
        f"import sys, runpy; sys.argv = ['launch.py', 'outputs={outputs}', *{list(words)}]; "
        "runpy.run_path('launch.py', run_name='__main__'); "
        "print(sorted({'torch', 'mlflow', 'decord'} & set(sys.modules)))"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    ).stdout


def test_plan_writes_nothing_and_imports_no_tracker_and_no_decoder(tmp_path):
    outputs = tmp_path / "none"
    said = imported(outputs, "mode=plan")
    assert "1 point, 4 stages asked for, 4 distinct, 0 already done" in said
    assert said.splitlines()[-1] == "['torch']"  # it makes what a run would use
    assert not outputs.exists()


@pytest.mark.parametrize("mode", ["status", "report", "logs"])
def test_what_only_reads_imports_neither_torch_nor_mlflow(mode, finished, data):
    store, chains = finished
    *_, trained, test = chains["finetune"]
    asked = fitting(
        [*SMALL, *data, "auxiliary=none", "protocol.test.sampler.num_clips=2", f"stage='{trained.key}'"]
    )
    said = imported(store.root.parent, f"mode={mode}", *asked)
    assert {"status": test.key[:8], "report": "index.html", "logs": f"{trained}: done"}[mode] in said
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "part", ["downstream.train.per_class=2", "protocol.choose={training.optimizer.lr:[0.01,0.1]}"]
)
@pytest.mark.parametrize("mode", ["status", "report"])
def test_a_part_of_synthetic_videos_is_counted_without_torch(mode, part, finished):
    store, _ = finished
    said = imported(store.root.parent, f"mode={mode}", "auxiliary=none", "pretext=none", part)
    assert said.splitlines()[-1] == "[]"


def test_plan_of_the_quick_start_shares_stages(launch, tmp_path):
    done = launch("-m", "+sweeps=quickstart", "mode=plan", small=False)
    assert done.returncode == 0, done.stderr
    assert "9 points, 27 stages asked for, 27 distinct, 0 already done" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_failing_stage_stops_only_its_descendants(launch, tmp_path):
    done = launch(
        "-m", "auxiliary=none", "pretext.training.optimizer.lr=1e30,0.01", "protocol.test.sampler.num_clips=2"
    )
    assert done.returncode == 1
    assert "the loss is" in done.stdout
    assert "skipped" in done.stdout
    assert [folder.parent.name for folder in stage_folders(tmp_path)] == ["finetune", "pretext", "test"]
    [failed] = tmp_path.glob("stages/pretext/*/failed.json")
    assert str(failed.parent / "log.txt") in done.stdout
    assert "Traceback" in (failed.parent / "log.txt").read_text()
    assert done.stderr.strip().splitlines()[-1].startswith("vssl: 1 of 6 stages failed, 2 skipped")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_other_hydra_launchers_work(launch, tmp_path, launcher):
    # submitit's own folder is named by the process that it has just started, which may look for it too early.
    folder = [f"hydra.launcher.submitit_folder={tmp_path / 'submitit'}"] if launcher != "basic" else []
    done = launch("-m", f"hydra/launcher={launcher}", *folder, "auxiliary=none", "pretext=none", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert len(stage_folders(tmp_path, "test")) == 2


def test_a_run_killed_at_several_moments_ends_in_the_same_weights(launch, data, tmp_path):
    whole = tmp_path / "whole"
    done = launch(f"outputs={whole}", *LONG)
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    for steps in (1, 10, 22, 35):
        kill_at(killed, data, steps, *LONG)
    partial = [p for p in killed.glob("stages/*/*") if not (p / "result.json").exists()]
    assert partial, "the kills came too late to test anything"
    done = launch(f"outputs={killed}", *LONG)
    assert done.returncode == 0, done.stderr
    assert_same_run(killed, whole)


@pytest.mark.slow
def test_a_choice_killed_at_several_moments_and_made_side_by_side_ends_in_the_same_weights(
    launch, data, tmp_path
):
    words = [
        *LONG[2:],
        "auxiliary=none",
        "pretext=none",
        "protocol.choose={training.optimizer.lr:[0.01,0.2]}",
    ]
    words = [*words, "protocol.training.epochs=12"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = launch(f"outputs={whole}", *words)
    assert done.returncode == 0, done.stderr
    for steps in (1, 14, 30):
        kill_at(killed, data, steps, *words)
    left = [path for path in killed.glob("stages/*/*") if not (path / "result.json").exists()]
    assert left, "the kills came too late to test anything"
    done = launch(f"outputs={killed}", *words, "dispatch.max_parallel_stages=2")
    assert done.returncode == 0, done.stderr
    assert_same_run(killed, whole)
    results = [json.loads(next(one.glob("stages/test/*/result.json")).read_text()) for one in (whole, killed)]
    assert results[0]["protocol"] == results[1]["protocol"]


def test_two_launches_at_once_train_each_stage_once(data, tmp_path):
    commands = [command(tmp_path, data, "auxiliary=none", "runtime.save_every_s=0")] * 2
    processes = [
        subprocess.Popen(c, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) for c in commands
    ]
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0].split("method")[1] == outputs[1].split("method")[1]
    for folder in stage_folders(tmp_path):
        log = (folder / "log.txt").read_text()
        assert log.count(": start") == 1, log


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretext=vsp", "pretext=vsp: no such choice; did you mean 'vspp'?"),
        ("pretext.sampler.num_segment=3", "num_segment: no such option; did you mean 'num_segments'?"),
        ("pretext.sampler.variant=relased", "relased: no such value; did you mean 'released'?"),
        ("mode=paln", "mode=paln: no such mode; did you mean 'plan'?"),
        ("seed=???", "seed: needs a value"),
        (
            "pretext.training.epochs=many",
            "pretext.training.epochs=many: not a whole number; give a whole number",
        ),
        (
            "pretext.training.micro_batch=3",
            "pretext.training.micro_batch=3: does not divide batch_size=8; try 1",
        ),
        ("init.weights=/no/such/file.pt", "init.weights=/no/such/file.pt: No such file"),
    ],
)
def test_a_mistake_is_one_line_and_writes_no_stage(launch, tmp_path, override, message):
    done = launch(override)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "stages").exists()


MORE_MISTAKES = {
    "pretext.sampler.num_segments=17": "out of range; choose a number from 1 to 16",
    "source.repeat=0": "too small; choose 1 or more",
    "protocol.num_classes=5": "a video of downstream.train is of class 7 (from 0); null takes as many",
    "protocol.test.average=mean": "no such value; valid: logits, softmax",
    "pretext.training.precision=bfloat16": "is for GPUs; say float32",
    "runtime.workers=-1": "too small; choose 0 or more",
    "dispatch.max_parallel_stages=0": "too small; choose 1 or more",
    "monitor.k=0": "too small; choose 1 or more",
}


@pytest.mark.slow
@pytest.mark.parametrize("override", MORE_MISTAKES)
def test_run_and_plan_refuse_the_same_in_the_same_words(launch, tmp_path, override):
    run, plan = launch(override), launch(override, "mode=plan")
    assert (run.returncode, plan.returncode) == (1, 1)
    assert run.stderr == plan.stderr
    [line] = run.stderr.strip().splitlines()
    assert line.startswith(f"vssl: {override}: {MORE_MISTAKES[override]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_video_is_named(launch, tmp_path, workers):
    own = tmp_path / "data"
    roots = [f"{node}.root={own}" for node in ("source", "downstream.train", "downstream.test")]
    small = ["auxiliary=none", "pretext=none", "tracking=jsonl", *roots]
    assert launch(*small).returncode == 0
    for video in own.glob("*/0000[0-9].mp4"):
        video.write_bytes(b"not a video")
    done = launch(*small, "seed=1", f"runtime.workers={workers}")
    assert done.returncode == 1
    assert re.search(r"finetune \w+ failed: \d of the 16 samples .+: 0000\d\.mp4.*; .+\n", done.stdout)
    assert re.search(r"a bad one: /\S+/0000\d\.mp4: cannot be decoded .+; .+\n", done.stdout)
    assert "Traceback" not in done.stdout


def test_a_full_disk_is_one_line_and_the_run_continues_when_there_is_room(data, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        run = command(mount / "out", data, "auxiliary=none", "pretext=none", "runtime.save_every_s=0")
        done = subprocess.run(run, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "no space left" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", str(mount)], check=True)
        done = subprocess.run(run, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_external_weights_start_the_fine_tuning(launch, tmp_path):
    first = launch("auxiliary=none", f"outputs={tmp_path / 'one'}")
    assert first.returncode == 0, first.stderr
    [pretext] = stage_folders(tmp_path / "one", "pretext")
    file = shutil.copy(pretext / "weights.pt", tmp_path / "mine.pt")
    second = launch(f"init.weights={file}", f"outputs={tmp_path / 'two'}")
    assert second.returncode == 0, second.stderr
    one, two = ([*(tmp_path / name).glob("stages/finetune/*/weights.pt")] for name in ("one", "two"))
    assert_identical(torch.load(one[0]), torch.load(two[0]))
