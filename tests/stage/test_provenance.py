"""Where a result comes from."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import RUNTIME, SMALL, composed, context_in
from vssl.context import open_context
from vssl.pipeline import monitored, plain, plan
from vssl.stage import provenance
from vssl.stage import provenance as provenance_module
from vssl.stage.callback import Silent
from vssl.stage.provenance import git_commit
from vssl.stage.run import run_stage


@pytest.fixture(autouse=True)
def forgotten():
    git_commit.cache_clear()
    yield
    git_commit.cache_clear()


@pytest.mark.parametrize(
    "error",
    [
        subprocess.TimeoutExpired("git", 20),
        subprocess.CalledProcessError(128, "git"),
        FileNotFoundError("git"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_git_does_not_answer_the_commit_is_unknown_and_it_is_asked_once(monkeypatch, error):
    asked = []

    def fail(words, **_):
        asked.append(words)
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert [git_commit(), git_commit()] == ["unknown", "unknown"]
    assert len(asked) == 1


class Interrupting(Silent):
    """A callback that is interrupted after some steps."""

    def __init__(self, after):
        self.after = after

    def log(self, metrics, step):
        if step >= self.after:
            raise KeyboardInterrupt


@pytest.fixture
def trained(data, tmp_path, monkeypatch):
    """Trains a small stage with the code of a commit, up to a step if one is given."""
    [spec, *_] = plan(composed(*SMALL, *data, "auxiliary=none", "pretext.training.epochs=3"))

    def train(commit, code, until=None):
        monkeypatch.setattr(provenance, "git_commit", lambda: commit)
        monkeypatch.setattr(provenance, "code_digest", lambda: code)
        callback = Interrupting(until) if until else Silent()
        context = context_in(tmp_path, replace(RUNTIME, save_every_s=0), lambda _: callback)
        with context.store.claim(spec):
            try:
                run_stage(spec, context)
            except KeyboardInterrupt:
                assert until
        return context.store.stage(spec)

    return train


def test_the_result_has_the_commit_of_each_run_of_a_stage_and_a_difference_is_warned_of(trained):
    for until in (2, 3):
        trained("abc", "1", until)
    stage = trained("def+changes", "2")
    runs = stage.result.provenance["runs"]
    assert [(run["git_commit"], run["code"]) for run in runs] == [("abc", "1")] * 2 + [("def+changes", "2")]
    assert stage.result.provenance["git_commit"] == "def+changes"
    log = (stage.folder / "log.txt").read_text()
    assert log.count("WARNING") == 1
    said = "other code (commit abc, code 1) than goes on now (commit def+changes, code 2)"
    assert said in log
    assert f"delete {stage.folder} to train it anew" in log


def test_uncommitted_changes_are_other_code_too(trained):
    trained("abc+changes", "1", 2)
    stage = trained("abc+changes", "2")
    assert (
        "(commit abc+changes, code 1) than goes on now (commit abc+changes, code 2)"
        in (stage.folder / "log.txt").read_text()
    )


def test_a_stage_that_begins_anew_has_one_run(trained):
    stage = trained("abc", "1", 2)
    (stage.folder / "checkpoint.pt").unlink()
    stage = trained("def", "2")
    assert [run["git_commit"] for run in stage.result.provenance["runs"]] == ["def"]
    assert "WARNING" not in (stage.folder / "log.txt").read_text()


def test_the_digest_of_the_code_is_that_of_its_files(tmp_path, monkeypatch):
    code = tmp_path / "code"
    shutil.copytree(Path(provenance.vssl.__file__).parent, code)
    monkeypatch.setattr(provenance.vssl, "__file__", str(code / "__init__.py"))
    provenance.code_digest.cache_clear()
    first = provenance.code_digest()
    provenance.code_digest.cache_clear()
    assert provenance.code_digest() == first
    with open(code / "engine" / "loop.py", "a") as file:
        file.write("# 10 times the loss\n")
    assert provenance.code_digest() == first  # asked once
    provenance.code_digest.cache_clear()
    assert provenance.code_digest() != first
    provenance.code_digest.cache_clear()


def test_an_unknown_commit_is_warned_of(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("vssl.context.git_commit", lambda: "unknown")
    cfg = composed(*SMALL)
    nodes = {group: plain(cfg[group]) for group in ("runtime", "tracking")} | {"monitor": monitored(cfg)}
    open_context({"outputs": str(tmp_path), "launch": {"id": "1", "name": "", "command": ""}, **nodes})
    assert "git does not know this code" in caplog.text


def test_a_library_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance_module, "LIBRARIES", ("torch", "a-decoder-that-nobody-has"))
    assert list(provenance_module.provenance("cpu")["versions"]) == ["torch"]


def test_a_damaged_note_of_earlier_runs_is_said_and_ends_no_training(tmp_path):
    """What disks leave after a crash; the code that the stage was begun with is not known then."""
    (tmp_path / provenance.RUNS).write_bytes(b"\0" * 20)
    runs = provenance.note_run(tmp_path, continues=True)
    assert [run["code"] for run in runs] == [provenance.UNKNOWN, provenance.code_digest()]
    assert "begun with other code (commit unknown, code unknown) than goes on now" in provenance.mixed_code(
        runs
    )
    assert provenance.note_run(tmp_path, continues=True)[:2] == runs
