import json
import os
import re
import subprocess
import sys
import time

import pytest

import fake_store
from conftest import ROOT
from vssl.dispatch.cluster import Job
from vssl.dispatch.records import JobRecords, Record
from vssl.dispatch.states import eta, share, states
from vssl.stage.store import StageStore

PATH = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


class FakeCluster:
    def __init__(self):
        self.queue = {}
        self.asked = 0

    def jobs(self):
        self.asked += 1
        return self.queue


PARENT, CHILD, TEST = fake_store.chain(1, 0)


@pytest.fixture
def store(tmp_path):
    return StageStore(tmp_path)


@pytest.fixture
def records(store):
    return JobRecords(store.root.parent)


@pytest.fixture
def cluster():
    return FakeCluster()


def submitted(records, cluster, spec, job, state=None, reason="None", node="", restarts=0):
    records.write(spec.key, Record(job))
    if state:
        cluster.queue[job] = Job(job, state, reason, node, restarts)


def only(spec, store, cluster):
    return states(spec.chain, store, cluster)[-1]


def test_without_jobs_slurm_is_not_asked(store, cluster):
    fake_store.finish(store, PARENT)
    assert [state.status for state in states([PARENT, CHILD], store, cluster)] == ["done", "to do"]
    assert cluster.asked == 0


def test_a_waiting_job_tells_its_reason(store, records, cluster):
    submitted(records, cluster, PARENT, "7_0", "PENDING", "Resources")
    state = only(PARENT, store, cluster)
    assert (state.status, state.job, state.detail) == ("queued", "7_0", "Resources")
    submitted(records, cluster, PARENT, "7_0", "PENDING", "BeginTime", restarts=2)
    assert only(PARENT, store, cluster).detail == "BeginTime, requeue 2"


def test_a_running_stage_tells_how_far_it_is_and_where(store, records, cluster):
    submitted(records, cluster, PARENT, "7_0", "RUNNING", node="node3")
    code = """
import sys, time
import fake_store
from vssl.stage.store import StageStore
from pathlib import Path
with StageStore(Path(sys.argv[1])).claim(fake_store.chain(1, 0)[0]) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root.parent)], env=PATH, stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout.readline() == "True\n"
        progress = {"step": 40, "done": 400, "total": 1000, "rate": 2.0, "time": time.time()}
        (store.folder(PARENT) / "progress.json").write_text(json.dumps(progress))
        state = only(PARENT, store, cluster)
        assert state.status == "running"
        assert re.fullmatch(r"step 40, 40%, ETA (5:00|4:5\d), node3", state.detail)
    finally:
        owner.kill()
        owner.wait()
    submitted(records, cluster, PARENT, "7_0", "RUNNING", node="node3")
    assert only(PARENT, store, cluster).detail == "running on node3"  # its process has not begun again


def test_progress_in_words():
    now = time.time()
    assert share({"done": 999, "total": 1000}) == "99%"
    assert share({"done": 0, "total": 0}) == "0%"
    assert eta({"done": 0, "total": 10, "rate": 0.0, "time": now}) == "ETA ?"
    assert eta({"done": 0, "total": 10, "rate": 1.0, "time": now - 60}) == "ETA 0:00"


def test_a_failure_tells_cause_and_log(store, records, cluster):
    submitted(records, cluster, PARENT, "7_0", "FAILED")
    store.folder(PARENT).mkdir(parents=True)
    store.fail(PARENT, "the loss is nan")
    log = store.folder(PARENT) / "log.txt"
    log.touch()
    state = only(PARENT, store, cluster)
    assert (state.status, state.detail, state.log) == ("failed", "the loss is nan", log)


@pytest.mark.parametrize(
    ("state", "status", "detail"),
    [
        ("OUT_OF_MEMORY", "failed", "its job ended as OUT_OF_MEMORY and left no result"),
        ("CANCELLED", "cancelled", "its job was cancelled"),
        (None, "failed", "its job is no longer in the queue and left no result"),
    ],
)
def test_a_job_that_ended_without_a_word(store, records, cluster, state, status, detail):
    submitted(records, cluster, PARENT, "7_0", state)
    log = records.log("7_0")
    log.touch()
    found = only(PARENT, store, cluster)
    assert (found.status, found.detail, found.log) == (status, detail, log)


ENDS = """vssl: start 0 on node[1-2]
srun: error: node1: task 0: Killed
vssl: start 1 on node[1-2]
srun: error: node2: task 1: {}
srun: error: node1: task 0: Exited with exit code 1
"""


@pytest.mark.parametrize("noted", [True, False])
def test_of_several_processes_the_one_that_died_is_the_cause(store, records, cluster, noted):
    """Not what the others say, which only miss it."""
    submitted(records, cluster, PARENT, "7_0", "FAILED")
    records.log("7_0").write_text(ENDS.format("Out Of Memory"))
    if noted:
        store.folder(PARENT).mkdir(parents=True)
        store.fail(PARENT, "another process is gone")
    assert only(PARENT, store, cluster).detail == "node2: task 1: Out Of Memory"


def test_one_that_said_why_it_failed_is_believed(store, records, cluster):
    submitted(records, cluster, PARENT, "7_0", "FAILED")
    records.log("7_0").write_text(ENDS.format("Exited with exit code 1"))
    store.folder(PARENT).mkdir(parents=True)
    store.fail(PARENT, "the loss is nan")
    assert only(PARENT, store, cluster).detail == "the loss is nan"


@pytest.mark.parametrize("state", ["CANCELLED", None])
def test_the_children_of_a_failed_stage_say_so(store, records, cluster, state):
    submitted(records, cluster, PARENT, "7_0", "TIMEOUT")
    submitted(records, cluster, CHILD, "8_0", state)
    found = only(CHILD, store, cluster)
    assert (found.status, found.detail) == ("cancelled", f"{PARENT} failed")


def test_a_job_that_was_taken_back_is_no_failure(store, records, cluster):
    records.write(PARENT.key, Record("7_0", cancelled=True))
    assert only(PARENT, store, cluster).status == "cancelled"


def test_a_killed_process_leaves_a_stale_stage(store, cluster):
    store.folder(PARENT).mkdir(parents=True)
    (store.folder(PARENT) / "owner.json").write_text(json.dumps({"pid": 12, "host": "here"}))
    (store.folder(PARENT) / "progress.json").write_text(json.dumps({"step": 30}))
    found = only(PARENT, store, cluster)
    assert found.status == "stale"
    assert found.detail == "step 30, left by process 12 on here; the same command continues"


def test_gpu_hours_are_the_stages_own(store, cluster):
    fake_store.finish(store, PARENT, gpus=2, seconds=7200.0)
    assert only(PARENT, store, cluster).gpu_hours == 4.0
    fake_store.finish(store, PARENT, gpus=2, seconds=7200.0, inherited_seconds=3600.0)
    assert only(PARENT, store, cluster).gpu_hours == 2.0
    fake_store.finish(store, PARENT, gpus=0, seconds=7200.0)
    assert only(PARENT, store, cluster).gpu_hours == 0.0


def test_a_finished_test_tells_its_headline(store, cluster):
    fake_store.finish_chain(store, TEST.chain, 0.5)
    assert [state.detail for state in states(TEST.chain, store, cluster)] == ["", "", "video top-1 50.0 %"]


def test_a_thousand_stages_are_read_without_torch(tmp_path):
    """Importing torch alone would take longer than all of it."""
    code = """
import sys
from pathlib import Path
from vssl.dispatch.records import JobRecords, Record
from vssl.dispatch.states import states
import fake_store
from vssl.stage.store import StageStore
import vssl.commands.status
class Queue:
    calls = 0
    def jobs(self):
        self.calls += 1
        return {}
store, queue = StageStore(Path(sys.argv[1])), Queue()
forest = [fake_store.chain(i, 0)[0] for i in range(1000)]
for spec in forest:
    JobRecords(store.root.parent).write(spec.key, Record("1_0"))
found = states(forest, store, queue)
print(len(found), queue.calls, sorted({"torch", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=PATH, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1000 1 []\n"
