"""mode=info: all that an issue needs, on any machine, and nothing that is private."""

import os
import platform
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

import vssl
from conftest import ROOT, composed, environment
from vssl.commands import execute
from vssl.commands.info import DECODERS
from vssl.cores import usable_cores
from vssl.data import decoders
from vssl.stage.provenance import git_commit

LIBRARIES = ("torch", "torchvision", "hydra-core", "mlflow", "submitit")


def facts(text):
    pairs = [line.split(":", 1) for line in text.splitlines() if ":" in line]
    return {name: value.strip() for name, value in pairs}


def info(capsys, *words):
    execute([(composed("mode=info", *words), [])])
    return facts(capsys.readouterr().out)


def test_it_names_versions_devices_and_room(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    said = info(capsys, f"outputs={tmp_path}/none", "tracking=jsonl")
    assert said["vssl"].startswith(f"{vssl.__version__}, commit {git_commit()}, code ")
    assert said["python"].startswith(f"{platform.python_version()} on ")
    assert {name: said[name] for name in LIBRARIES} == {name: version(name) for name in LIBRARIES}
    assert said["decoder pyav"] == f"av {version('av')}"
    assert said["decoder decord"] == f"decord {version('decord')}"
    assert said["CUDA of torch"].startswith(torch.version.cuda or "none")
    assert said["GPUs"] == "none that torch can see"
    assert said["cores"] == f"{usable_cores()} to be used, {os.cpu_count()} in all"
    assert said["memory"].partition(" GiB")[0].replace(",", "").replace(".", "").isdecimal()
    assert said["CUDA_VISIBLE_DEVICES"] == "7"
    assert said["outputs"].startswith(f"{tmp_path}/none, ")
    assert said["outputs"].endswith(" free")
    assert said["tracking"] == "Tracker"
    assert not (tmp_path / "none").exists()


def test_every_decoder_is_named():
    found = {path.stem for path in Path(decoders.__file__).parent.glob("*.py")}
    assert found - {"__init__", "from_start"} == set(DECODERS)


def test_slurm_says_its_version_or_why_it_does_not(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert info(capsys)["Slurm"] == "none"
    fake = tmp_path / "squeue"
    fake.write_text("#!/bin/sh\necho slurm 22.05.8\n")
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert info(capsys)["Slurm"] == "slurm 22.05.8"
    fake.write_text("#!/bin/sh\necho no configuration >&2; exit 1\n")
    said = info(capsys)["Slurm"]
    assert said.startswith("is there, but squeue failed: no configuration")


def test_no_password_and_no_home_is_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    execute([(composed("mode=info", "tracking.uri=http://me:s3cret@host:5000", f"outputs={tmp_path}/o"), [])])
    said = capsys.readouterr().out
    assert "http://me:***@host:5000" in said
    assert "outputs:              ~/o, " in said
    assert "s3cret" not in said
    assert str(tmp_path) not in said


def test_what_is_missing_is_said_without_a_traceback(tmp_path):
    """A machine on which hardly anything is installed, and no library that takes long to import."""
    script = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['torch', 'av', 'decord', 'mlflow'])); "
        "sys.path[0] = '.'; runpy.run_path('launch.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "mode=info", f"outputs={tmp_path}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    said = facts(done.stdout)
    assert said["devices"].startswith("torch cannot be imported: ")
    assert said["decoder pyav"].startswith("cannot be used: ")
    assert said["decoder decord"].startswith("cannot be used: ")
    assert "Traceback" not in done.stderr


def test_a_library_that_is_not_installed_is_named(capsys, monkeypatch):
    from vssl.commands import info as module

    monkeypatch.setattr(module, "LIBRARIES", ("no-such-library",))
    assert info(capsys)["no-such-library"] == "not installed (pip install no-such-library)"
