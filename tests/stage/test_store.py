"""The store: claims, results, and what a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from vssl.errors import VsslError
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

HOLD = """
import sys, time
from pathlib import Path
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
with StageStore(Path(sys.argv[1])).claim(StageSpec("pretext", {"n": 1})) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def spec():
    return StageSpec("pretext", {"n": 1})


def holder(outputs):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(outputs)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def test_no_result_before_finish(tmp_path, spec):
    store = StageStore(tmp_path)
    assert store.result(spec) is None
    with store.claim(spec) as mine:
        assert mine
        store.finish(spec, {"metrics": {"x": 0.5}})
    result = store.result(spec)
    assert result["metrics"] == {"x": 0.5}
    assert result["key"] == spec.key


def test_recipe_is_written_with_the_claim(tmp_path, spec):
    store = StageStore(tmp_path)
    child = StageSpec("finetune", {"lr": 0.1}, spec)
    with store.claim(child):
        recipe = yaml.safe_load((store.folder(child) / "recipe.yaml").read_text())
    assert recipe == {"stage": "finetune", "key": child.key, "parent": f"pretext/{spec.key}", "lr": 0.1}


def test_a_second_process_does_not_get_the_claim_and_a_dead_owner_loses_it(tmp_path, spec):
    store = StageStore(tmp_path)
    process = holder(tmp_path)
    try:
        with store.claim(spec) as mine:
            assert not mine
        assert str(process.pid) in store.owner(spec)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with store.claim(spec) as mine:
        assert mine


def test_a_claim_survives_forked_children_no_longer_than_its_owner(tmp_path, spec):
    code = HOLD.replace("    print", "    import os\n    if os.fork() == 0: time.sleep(60)\n    print")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "True\n"
        process.kill()
        process.wait()
        with StageStore(tmp_path).claim(spec) as mine:
            assert mine
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_claim_removes_what_a_killed_writer_left(tmp_path, spec):
    store = StageStore(tmp_path)
    folder = store.folder(spec)
    folder.mkdir(parents=True)
    (folder / ".checkpoint.pt.4711").write_text("half")
    (folder / "checkpoint.pt").write_text("whole")
    with store.claim(spec):
        pass
    assert not (folder / ".checkpoint.pt.4711").exists()
    assert (folder / "checkpoint.pt").exists()


def test_a_failure_is_noted_until_the_next_claim(tmp_path, spec):
    store = StageStore(tmp_path)
    with store.claim(spec):
        store.fail(spec, "out of luck")
    note = json.loads((store.folder(spec) / "failed.json").read_text())
    assert note["reason"] == "out of luck"
    assert note["time"] <= time.time()
    with store.claim(spec):
        assert not (store.folder(spec) / "failed.json").exists()


def test_a_folder_of_a_newer_version_is_refused(tmp_path, spec):
    store = StageStore(tmp_path)
    store.folder(spec).mkdir(parents=True)
    (store.folder(spec) / "result.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(VsslError, match=r"result\.json: written by a newer vssl .* outputs=DIR"):
        store.result(spec)
