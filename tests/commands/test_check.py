"""mode=check in processes of its own: what it prints, writes, and survives; and what runs make of it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import EXTRA, ROOT, command, environment, needs_extra
from fake_videos import write
from vssl.data.index import load

pytestmark = pytest.mark.slow  # whole pipelines in processes of their own: `make test-slow`

QUICK = [f"{stage}.training.epochs=1" for stage in ("pretext", "protocol")]
FULL_BATCHES = [f"{stage}.training.batch_size=8" for stage in ("auxiliary", "pretext")]


def check(root):
    return ["mode=check", "source=folder", f"source.root={root}", "runtime.workers=2"]


def downstream(root):
    return ["downstream=folder", f"downstream.root={root}"]


def index_in(outputs):
    [path] = (outputs / "index").glob("*.npz")
    index = load(path)
    return {index.name(row): index.verdict[row].decode() for row in range(len(index))}


def journal_in(outputs):
    """Names of the files that were read, as often as they were."""
    [path] = (outputs / "index").glob("*.jsonl")
    names = []
    for line in path.read_text().splitlines():
        try:
            names.append(json.loads(line)[0])
        except ValueError:
            continue
    return names


@pytest.fixture
def planted(tmp_path):
    """Twelve fine videos in lists, and all that only a whole data set shows to be wrong."""
    root = tmp_path / "videos"
    (root / "run").mkdir(parents=True)
    for n in range(12):
        write(root / "run" / f"{n}.mp4", 40 + n)
    shutil.copy(root / "run" / "3.mp4", root / "run" / "copy.mp4")
    write(root / "run" / "short.mp4", 9)
    write(root / "run" / "unlisted.mp4", 20)
    (root / "run" / "words.mp4").write_text("words")
    names = [f"run/{n}.mp4" for n in range(12)] + ["run/short.mp4", "run/words.mp4", "run/gone.mp4"]
    (root / "train.txt").write_text("".join(f"{name} run\n" for name in names))
    (root / "test.txt").write_text("run/copy.mp4 run\n")
    (root / "classes.txt").write_text("run\nwalk\n")
    return root


def test_what_is_wrong_with_a_data_set_is_said_and_stored(launch, planted, tmp_path):
    done = launch(*check(planted), "check.max_bad=0.2", small=False)
    assert done.returncode == 0, done.stderr
    verdicts = {
        "run/copy.mp4": "duplicate content",
        "run/gone.mp4": "missing",
        "run/short.mp4": "shorter than a clip",
        "run/words.mp4": "not a video",
    }
    fine = {f"run/{n}.mp4": "ok" for n in range(12)}
    assert index_in(tmp_path) == verdicts | (fine | {"run/3.mp4": "ok"})
    [remarks] = (tmp_path / "index").glob("*.txt")
    lines = [line.split("\t") for line in remarks.read_text().splitlines()]
    assert {name: verdict for verdict, name, _, _ in lines} == verdicts | {"walk": "label without files"}
    assert all(detail and remedy for *_, detail, remedy in lines)
    assert ["duplicate content", "run/copy.mp4", "the same as run/3.mp4, in another subset"] in [
        line[:3] for line in lines
    ]
    for text in (
        *verdicts.values(),
        "12 of 16 files without any remark",
        "label without files: walk; complete the files",
        "1 video files are in no list",
        "split 1 train: 15 videos, 13 usable, 9 to 51 frames (median 45)",
        "2 classes: run, walk",
        "split 1 test: 1 video, 1 usable",
        " files/s, CPU s/file ",
    ):
        assert text in done.stdout


def test_files_that_are_slow_to_read_are_counted(launch, tmp_path):
    root = tmp_path / "own" / "run"
    root.mkdir(parents=True)
    write(root / "1.mp4", 20)
    for n in (2, 3):
        write(root / f"{n}.avi", 20 + n, codec="mpeg4")
    done = launch(*check(tmp_path / "own"), small=False)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 files without any remark" in done.stdout
    assert "decoded from their start for each clip: 2 files, as nothing says rightly where" in done.stdout


def test_a_file_that_takes_too_much_memory_costs_itself_alone(launch, tmp_path):
    """As under `ulimit -v 1000000`."""
    root = tmp_path / "own" / "run"
    root.mkdir(parents=True)
    write(root / "1.mp4", 20)
    write(root / "2.mp4", 6, size=(8000, 8000), options={"preset": "ultrafast"})

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1_000_000 * 1024, resource.RLIM_INFINITY))

    done = launch(*check(tmp_path / "own"), "check.max_bad=0.5", small=False, preexec_fn=limit)
    assert done.returncode == 0, done.stderr
    assert index_in(tmp_path) == {"run/1.mp4": "ok", "run/2.mp4": "no memory"}
    assert journal_in(tmp_path) == ["run/1.mp4"]  # the other one is tried again


def test_classes_that_cannot_be_learnt_and_videos_without_one_are_counted(launch, tmp_path):
    root = tmp_path / "own"
    for name in ("train/kick/1.mp4", "val/kick/2.mp4", "test/kicks/3.mp4", "test/4.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, 20 + int(name[-5]))
    done = launch(*check(root), small=False)
    assert done.returncode == 0, done.stderr
    for text in (
        "split 1: classes with test videos only: kicks; nothing can learn them",
        "split 1: 1 video neither to train nor to test on",
        "2 classes: kick, kicks",
        "split 1 test: 2 videos, 2 usable, 23 to 24 frames (median 24); 1 without a class",
    ):
        assert text in done.stdout


def test_a_data_set_that_changes_after_the_check_is_not_trained_on(launch, tmp_path):
    root = tmp_path / "own"
    for name in ("train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "test/b/4.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, 20)
    run = (*downstream(root), "pretext=none", "auxiliary=none", "tracking=jsonl", "runtime.workers=0")
    assert launch("mode=check", *run, small=False).returncode == 0
    write(root / "train/b/2.mp4", 40)
    done = launch(*run, small=False)
    assert done.returncode == 1
    assert "1 of 2 files have another size than when they were checked, train/b/2.mp4 for one" in done.stdout


def test_too_many_bad_files_end_in_an_error_but_the_index_is_there(launch, planted, tmp_path):
    done = launch(*check(planted), "check.max_bad=0.12", small=False)
    assert done.returncode == 1
    assert "folder: 12.5% of 16 files cannot be used" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert len(index_in(tmp_path)) == 16


def test_the_published_counts_are_compared(launch, planted):
    published = {"classes": 3, "train": [15], "test": [3]}
    counts = [f"source.published.{name}={number}" for name, number in published.items()]
    done = launch(*check(planted), *counts, "check.max_bad=1", small=False)
    assert "2 classes, but 3 are published" in done.stdout
    assert "; as 15 published" in done.stdout
    assert "; 2 fewer than the 3 published" in done.stdout


def test_a_second_check_reads_only_what_changed(launch, planted, tmp_path):
    launch(*check(planted), small=False)
    first = journal_in(tmp_path)
    assert len(first) == len(set(first)) == 15
    write(planted / "run" / "5.mp4", 77)
    launch(*check(planted), small=False)
    assert journal_in(tmp_path) == [*first, "run/5.mp4"]


def test_a_kill_loses_nothing(launch, planted, tmp_path):
    more = [f"run/{n}.mp4" for n in range(12, 60)]  # so many that the kill comes before the end
    for n, name in enumerate(more):
        write(planted / name, 60 + n)
    with open(planted / "train.txt", "a") as file:
        file.writelines(f"{name} run\n" for name in more)
    arguments = command(tmp_path, [], *check(planted), "runtime.workers=1", small=False)
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    journals = tmp_path / "index"
    while not any(path.read_text().count("]\n") >= 1 for path in journals.glob("*.jsonl")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal_in(tmp_path)
    assert 1 <= len(before) < 15 + len(more)
    assert not list(journals.glob("*.npz"))
    [journal] = journals.glob("*.jsonl")
    with open(journal, "a") as file:
        file.write('["run/11.mp4", [1, 2')  # a line in which the kill struck
    launch(*check(planted), "check.max_bad=1", small=False)
    assert sorted(journal_in(tmp_path)) == sorted({*before, *journal_in(tmp_path)})
    whole = index_in(tmp_path)
    shutil.rmtree(journals)
    launch(*check(planted), "check.max_bad=1", small=False)
    assert index_in(tmp_path) == whole


def test_a_run_before_the_check_gives_the_command(launch, planted, tmp_path):
    arguments = ["source=folder", f"source.root={planted}"]
    done = launch(*arguments, "mode=plan", small=False)
    assert done.returncode == 1
    told = done.stderr.partition("run: python launch.py ")[2].split()
    assert told == ["mode=check", *arguments, f"outputs={tmp_path}"]
    assert launch(*told, "check.max_bad=1", small=False).returncode == 0
    assert "folder x 13" in launch(*arguments, "mode=plan", *FULL_BATCHES, small=False).stdout


def test_odd_names_do_not_stop_the_report(launch, tmp_path):
    root = tmp_path / "videos"
    (root / os.fsdecode(b"\xe9")).mkdir(parents=True)
    write(root / "run.mp4", 20)
    (root / os.fsdecode(b"\xe9") / "two\nlines [x].mp4").write_text("words")
    for _ in range(2):
        done = launch(*check(root), "check.max_bad=0.5", small=False)
        assert done.returncode == 0, done.stderr
        assert r"\udce9/two\nlines [x].mp4: not a video" in done.stdout
        assert r"label without files: \udce9;" in done.stdout
    [remarks] = (tmp_path / "index").glob("*.txt")
    assert len(remarks.read_text().splitlines()) == 2


def test_synthetic_videos_need_no_check(launch):
    assert "name a data set: source=ucf101 source.root=DIR" in launch("mode=check").stderr


def test_keys_follow_the_content_not_the_place(launch, planted, tmp_path):
    def keys(root):
        done = launch(*check(root), "check.max_bad=1", small=False)
        assert done.returncode == 0, done.stderr
        done = launch("mode=plan", *FULL_BATCHES, "source=folder", f"source.root={root}", small=False)
        return [line.split()[0] for line in done.stdout.splitlines() if "folder x" in line]

    before = keys(planted)
    moved = Path(shutil.move(planted, tmp_path / "elsewhere"))
    assert keys(moved) == before
    write(moved / "run" / "5.mp4", 77)
    after = keys(moved)
    assert len(after) == len(before) == 2
    assert not set(after) & set(before)


def test_own_videos_run_through_the_pipeline(launch, tmp_path):
    """Class folders in train and test, as the README says it."""
    root = tmp_path / "mine"
    for n in range(16):
        folder = root / ("train" if n < 8 else "test") / ("run", "walk")[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{n}.mp4", 70 + n, size=(96, 64))
    sources = ["source=folder", f"source.root={root}", *downstream(root)]
    assert launch("mode=check", *sources, small=False).returncode == 0
    small = [*QUICK, "auxiliary=none", "tracking=jsonl", "runtime.threads=1", "runtime.workers=0"]
    done = launch(*sources, *small, small=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(next((tmp_path / "stages" / "test").glob("*/result.json")).read_text())
    assert result["metrics"]["chance"] == 0.5
    assert result["protocol"]["data"]["name"] == "folder"


@needs_extra
def test_a_real_set_runs_through_the_whole_pipeline(launch, tmp_path):
    root = EXTRA / "videos" / "ut_interaction"
    lists = f"{root}_lists"
    sources = ["source=folder", f"source.root={root}", f"source.lists={lists}", *downstream(root)]
    sources += [f"downstream.lists={lists}", "tracking=jsonl", "runtime.threads=1"]
    assert launch("mode=check", *sources, small=False).returncode == 0
    done = launch(*sources, *QUICK, "auxiliary.training.epochs=1", small=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "folder x 24" in done.stdout
