"""Where a result comes from."""

import subprocess

import pytest

from vssl.stage.provenance import git_commit


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
