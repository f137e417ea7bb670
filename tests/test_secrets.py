"""Passwords of the tracker: nowhere but in the environment."""

import subprocess

import pytest

from conftest import ROOT, command, environment
from vssl.secrets import VARIABLE, hidden, keep, reveal


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000", "http://me:***@host:5000"),
        ("postgresql+psycopg://me:se:c/r@t@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("http://me:123@host", "http://me:***@host"),
        ("me:secret@host", "me:***@host"),
        ("no http://me:secret@host, no http://host:80/a", "no http://me:***@host, no http://host:80/a"),
    ],
)
def test_a_password_is_not_shown(address, shown, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    assert hidden(address) == hidden(shown) == keep(address) == shown
    assert reveal(shown) == address
    assert reveal("http://me:***@elsewhere") == "http://me:***@elsewhere"


@pytest.mark.parametrize(
    "address", ["http://host:5000", "http://host:5000/a@b", "sqlite:////a:b@c/mlflow.db", "http://me@host:80"]
)
def test_an_address_without_a_password_stays(address):
    assert hidden(address) == keep(address) == address


def test_no_file_and_no_output_of_a_launch_has_the_password(data, tmp_path):
    """With stages in processes of their own, which have to find it all the same."""
    uri = "tracking.uri=postgresql+nodriver://me:s3cr3t@127.0.0.1:9/db"
    small = [
        word for word in command(tmp_path, data, "auxiliary=none", "pretext=none") if "jsonl" not in word
    ]
    slots = ["dispatch.max_parallel_stages=2", "tracking=mlflow"]
    done = subprocess.run(
        [*small, *slots, uri],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    jobs = [path for path in files if path.parent.name == "jobs"]
    assert {oct(path.stat().st_mode & 0o777) for path in jobs} == {"0o600"}
    assert not [path for path in files if b"s3cr3t" in path.read_bytes()]
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "me:***@127.0.0.1:9" in done.stdout
    [line] = [line for line in (done.stdout + done.stderr).splitlines() if "not logged: this launch;" in line]
    assert line.endswith("mode=sync brings it later")
