"""Archives of every kind, whole and not."""

import random
import shutil
import stat

import pytest

from archives import rarred, tarred, zipped
from vssl.data import unpack as module
from vssl.data.unpack import RAR_TOOLS, is_archive, rar_tool, unpack
from vssl.errors import VsslError

FILES = {"run/1.avi": b"one" * 1000, "walk/2.avi": b"two"}


ASKS_FOR_PASSWORD = zipped(FILES).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1")
TWO_BLOCKS = tarred({"a": random.Random(0).randbytes(1_500_000)}, "w:bz2")
DAMAGED_LATE = TWO_BLOCKS[:1_200_000] + bytes(1000) + TWO_BLOCKS[1_201_000:]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", zipped(FILES)),
        ("a.tar.gz", tarred(FILES)),
        ("a.tgz", tarred(FILES)),
        ("a.tar", tarred(FILES, "w")),
    ],
    ids=["zip", "tar.gz", "tgz", "tar"],  # archives hold the time, and so would names made of them
)
def test_zip_and_tar(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "out/run").mkdir(parents=True)
    (tmp_path / "out/run/1.avi").write_bytes(b"of a killed process")
    unpack(tmp_path / name, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    unpack(tmp_path / name, tmp_path / "part", lambda path: path.startswith("walk"))
    assert contents(tmp_path / "part") == {"walk/2.avi": b"two"}


@pytest.mark.parametrize("tool", RAR_TOOLS)
def test_a_rar_of_rars(tmp_path, monkeypatch, tool):
    """As HMDB51 is published: one archive for each class."""
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    monkeypatch.setattr(module, "RAR_TOOLS", {tool: RAR_TOOLS[tool]})
    inner = {f"{name.split('/')[0]}.rar": rarred({name: content}) for name, content in FILES.items()}
    (tmp_path / "a.rar").write_bytes(rarred(inner))
    unpack(tmp_path / "a.rar", tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rar", "out"]
    (tmp_path / "a.rar").write_bytes(rarred(FILES)[:200])
    with pytest.raises(VsslError, match=rf"a\.rar: not a whole archive \({tool} says: .*; delete it and run"):
        unpack(tmp_path / "a.rar", tmp_path / "out")


def test_a_tool_is_called_as_its_manual_says(tmp_path, monkeypatch):
    """unrar, which is not free: x keeps folders, -o+ overwrites, a folder ends in a slash."""
    fake = tmp_path / "bin/unrar"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@" > "$0.words"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{fake.parent}:/bin:/usr/bin")
    monkeypatch.setattr(module, "RAR_TOOLS", {"unrar": RAR_TOOLS["unrar"]})
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    unpack(tmp_path / "a.rar", tmp_path / "out")
    said = (tmp_path / "bin/unrar.words").read_text().split()
    assert said == ["x", "-o+", "-idq", "-p-", f"{tmp_path}/a.rar", f"{tmp_path}/a.rar.unpacked/"]


def test_rar_without_a_tool_is_said_with_how_to_get_one(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert rar_tool(["a.zip", "b.tar.gz"]) is None
    with pytest.raises(
        VsslError, match=r"b\.rar: needs a program for rar, one of unar, .*; apt-get install unar"
    ):
        rar_tool(["a.zip", "b.rar"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.zip", zipped(FILES)[:-30], "not a whole archive"),
        ("a.zip", b"PK nonsense", "not a whole archive"),
        ("a.zip", zipped(FILES)[40:], "not a whole archive"),
        ("a.zip", ASKS_FOR_PASSWORD, ".*encrypted"),
        ("a.tar.bz2", DAMAGED_LATE, "not a whole archive"),
        ("a.tar.gz", tarred({"a": bytes(10**6)})[:300], "not a whole archive"),
        ("a.tar.gz", b"nonsense", "not a whole archive"),
        ("a.tar.gz", tarred({"../../up": b"x"}), "not a whole archive"),
        (
            "a.zip",
            b"<!DOCTYPE html><title>Sign in</title>",
            r"no archive but a page of the server \(<!DOCTYPE html>",
        ),
    ],
    ids=[
        *["cut zip", "no zip", "zip without its begin", "zip with a password", "damaged bzip2"],
        *["cut tar", "no tar", "out of the folder", "page"],
    ],
)
def test_what_is_no_archive_is_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VsslError, match=rf"{name}: {said}.*; delete it and") as error:
        unpack(tmp_path / name, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path.parent / "up").exists()


def test_endings():
    assert all(map(is_archive, ["a.ZIP", "a.rar", "a.tar.gz", "a.tgz", "a.tar"]))
    assert not any(map(is_archive, ["a.csv", "a.mp4", "a.txt", "gz"]))
