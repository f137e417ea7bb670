"""What cannot run is said before anything runs: mode=plan refuses what mode=run refuses, and costs less."""

import subprocess
import sys

import pytest

from conftest import ROOT, composed, environment
from vssl import stop
from vssl.commands import execute, run
from vssl.errors import VsslError
from vssl.stage.store import StageStore

BACKBONES = sorted(path.stem for path in (ROOT / "conf" / "backbone").glob("*.yaml"))
REFUSED = {
    "seed=-1": "too small; choose 0 or more",
    "decoder=nonsense": "no such decoder; valid: decord, from_start, pyav, torchcodec",
    "protocol.training.epochs=abc": "not a whole number; give a whole number",
    "pretext.sampler.variant=relased": "no such value; did you mean 'released'?",
    "pretext.sampler._target_=vssl.no.Sampler": "cannot be imported (No module named 'vssl.no'); ",
    "auxiliary.training.micro_batch=5": "does not divide batch_size=16; try 1",
    "source.width=63": "too small; choose 64 or more",
    "downstream.test.crf=52": "out of range; choose a number from 0 to 51",
    "downstream.num_classes=7": "a video of downstream.train is of class 7 (from 0)",
    "pretext=vspp init.weights=a.pt": "nothing would be pretrained; leave out either this or pretext=vspp",
    "init.weights=/no/such.pt": "No such file or directory; give the file",
    "backbone.widths=[]": "",
    "backbone.input.crop=64": "does not fit into resize=[36,36]; choose 36 or less",
    "protocol.test.average=median": "no such value; valid: logits, softmax",
    "protocol.test.batch_size=0": "too small; choose 1 or more",
    "features.feature=conv4": "no such value; did you mean 'conv5_max'?",
    "monitor.videos=1": "too small; choose 2 or more",
    "tracking.uri=nonsense": "neither a database nor a server; give sqlite:///FILE",
    "runtime.device=cuda": "no GPU is visible to torch; ",
    "runtime.workers=-1": "too small; choose 0 or more",
    "dispatch=slurm dispatch.default.time=soon": "not as Slurm has it; give h:mm:ss",
    "dispatch=slurm dispatch.pretext.nodes=2 dispatch.pretext.processes=3": "not a multiple of nodes=2; ",
    "downstream=folder downstream.root=/no/such": "no such folder; give the folder",
    "downstream=folder downstream.root=": "empty; give text; is it a variable of the shell",
    "pretext.training.optimizer=null": "not an Optimizer",
    "experiment=quick quick.epochs_by=0": "too small; choose 1 or more",
    "experiment=quick protocol.training.epochs=true": "not a whole number; give a whole number",
    "runtime.device=cpu protocol.training.precision=bfloat16": "is for GPUs; say float32",
}
"""Overrides that cannot run, and what is said of the last of them."""
REFUSED_FOR_ANOTHER = {
    "source.num_videos=15": "auxiliary.training.batch_size=16: 15 samples do not fill one batch",
    "dispatch=slurm dispatch.default.gpus=4": "auxiliary.training.batch_size=16: 4 processes cannot share ",
    "dispatch=slurm dispatch.finetune.nodes=3": "protocol.training.batch_size=16: 3 processes cannot share ",
    "dispatch.processes_per_stage=3": "auxiliary.training.batch_size=16: 3 processes cannot share the 1 ",
}
"""Overrides with which another option cannot stay as it is, and the line that says so."""
ACCEPTED = [
    "seed=0",
    "auxiliary=none pretext=none",
    "protocol=knn",
    "pretext=rspnet protocol=finetune_rspnet backbone=r3d_10",
    "dispatch=slurm dispatch.pretext.gpus=4 pretext.training.micro_batch=8",
    "dispatch=slurm dispatch.test.gpus=4",
    "experiment=[as_paper,quick] backbone=c3d pretext=vcop",
]


class Ready(Exception):
    """The stages of mode=run would begin now."""


@pytest.fixture
def without_effects(monkeypatch):
    """mode=run leaves the signals of this process alone, and ends where its stages would begin."""

    def begin(plain, course):
        raise Ready

    monkeypatch.setattr(stop, "listen", lambda: None)
    monkeypatch.setattr(run, "_show_warnings", lambda: None)
    monkeypatch.setattr(run, "open_context", begin)


@pytest.mark.parametrize("overrides", [*REFUSED, *REFUSED_FOR_ANOTHER])
def test_the_plan_refuses_what_the_run_refuses(overrides, tmp_path, without_effects):
    said = {}
    for mode in ("plan", "run"):
        words = [*overrides.split(), f"mode={mode}", f"outputs={tmp_path}"]
        with pytest.raises(VsslError) as refused:
            execute([(composed(*words), words)])
        said[mode] = str(refused.value)
    assert said["plan"] == said["run"]
    its_own = f"{overrides.split()[-1]}: {REFUSED.get(overrides)}"
    assert said["plan"].startswith(REFUSED_FOR_ANOTHER.get(overrides, its_own))
    assert "\n" not in said["plan"]
    assert "; " in said["plan"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["run", "plan"])
def test_what_is_no_part_of_a_key_is_checked_where_all_is_done_too(
    mode, tmp_path, without_effects, monkeypatch
):
    monkeypatch.setattr(StageStore, "result", lambda store, spec: object())
    words = ["downstream.test.decoder=decor", f"mode={mode}", f"outputs={tmp_path}"]
    with pytest.raises(
        VsslError, match=r"^downstream\.test\.decoder=decor: no such decoder; did you mean 'decord'"
    ):
        execute([(composed(*words), words)])


@pytest.mark.parametrize("overrides", ACCEPTED)
def test_the_plan_accepts_what_the_run_accepts(overrides, tmp_path, without_effects, capsys):
    words = [*overrides.split(), f"outputs={tmp_path}"]
    execute([(composed(*words, "mode=plan"), words)])
    assert " 0 already done" in capsys.readouterr().out
    with pytest.raises(Ready):
        execute([(composed(*words, "mode=run"), words)])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["+sweeps=table4"], "6 points, 18 stages asked for"),
        (["-m", f"backbone={','.join(BACKBONES)}", "pretext=vspp"], f"{len(BACKBONES)} points"),
    ],
)
def test_the_plan_of_a_sweep_imports_neither_mlflow_nor_the_compiler_of_torch(words, told, tmp_path):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['launch.py', *{words}, 'mode=plan', 'outputs={tmp_path}']\n"
        "runpy.run_path('launch.py', run_name='__main__')\n"
        "print(sorted({'mlflow', 'decord', 'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert told in done.stdout
