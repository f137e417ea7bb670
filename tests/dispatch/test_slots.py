import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import fake_store
from conftest import context_in, interrupted_when_starting, start
from vssl.dispatch import slots
from vssl.dispatch.slots import Slots, cause_of_death, own_cores, shares, visible_gpus
from vssl.errors import VsslError


def gpus_of_slots(gpus, gpus_per_stage, processes):
    """What two slots see of these GPUs; None: all."""
    return [share.get("CUDA_VISIBLE_DEVICES") for share in shares(gpus, 2, gpus_per_stage, processes)]


def test_each_slot_has_its_own_gpus():
    assert gpus_of_slots(["0", "1", "2", "3"], 2, 2) == ["0,1", "2,3"]
    assert gpus_of_slots([], 1, 3) == [None, None]
    assert gpus_of_slots(["0", "1"], 0, 2) == [None, None]


def test_too_few_gpus_are_an_error():
    with pytest.raises(VsslError, match="needs 4 GPUs, 3 are visible"):
        gpus_of_slots(["0", "1", "2"], 2, 2)
    for gpus_per_stage, each in ((1, 1), (0, 2)):
        with pytest.raises(VsslError, match=f"processes_per_stage=3, but a stage has {each} of 2 GPUs"):
            gpus_of_slots(["0", "1"], gpus_per_stage, 3)


def test_gpus_that_a_scheduler_gave_are_shared_out_by_their_names():
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "5, 7"}, 2) == ["5", "7"]
    assert visible_gpus({}, 2) == ["0", "1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, 0) == []


def test_a_death_has_a_cause():
    assert "want of memory" in cause_of_death(-signal.SIGKILL)
    assert cause_of_death(-signal.SIGSEGV) == "killed by SIGSEGV"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [{2, 3, 5, 7}]), (2, [{2, 5}, {3, 7}]), (3, [{2, 7}, {3}, {5}]), (5, [{2}, {3}, {5}, {7}, {2}])],
)
def test_slots_share_out_the_cores_and_none_is_left_without(monkeypatch, count, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 2, 5, 3})
    assert [own_cores(slot, count) for slot in range(count)] == expected


def test_slots_share_out_what_a_container_gets(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)))
    monkeypatch.setattr("vssl.dispatch.slots.usable_cores", lambda: 4)
    assert own_cores(0, 1) == set(range(96))
    found = set()
    for name in ("pod-a", "pod-b", "pod-c"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        one, two = (own_cores(slot, 2) for slot in range(2))
        assert (len(one), len(two), one & two) == (2, 2, set())
        found |= one | two
    assert len(found) > 4


@pytest.fixture
def run_slots(tmp_path, monkeypatch):
    """Run independent stages in so many slots, where a worker runs `code`; returns the outcomes."""

    def run(count, code):
        monkeypatch.setattr(slots, "worker_command", lambda path: [sys.executable, "-c", code, str(path)])
        context = replace(context_in(tmp_path), plain={"outputs": str(tmp_path)})
        ended = {}
        specs = [fake_store.chain(1, slot)[0] for slot in range(count)]
        Slots(count, 0, 1, "cpu").run(specs, ended, context)
        return list(ended.values())

    return run


CORES = """
import json, os, sys
with open(sys.argv[1] + ".cores", "w") as file:
    json.dump(sorted(os.sched_getaffinity(0)), file)
"""


def test_a_worker_sees_the_cores_of_its_slot_only(run_slots, tmp_path):
    mine = sorted(os.sched_getaffinity(0))
    run_slots(2, CORES)
    seen = [json.loads(file.read_text()) for file in tmp_path.glob("jobs/*.cores")]
    assert sorted(seen) == sorted([mine[::2], mine[1::2] or mine])
    assert sorted(os.sched_getaffinity(0)) == mine


def test_a_worker_that_ends_before_it_has_claimed_anything_fails_its_stage(run_slots):
    [outcome] = run_slots(1, "raise SystemExit(3)")
    assert (outcome.status, outcome.reason) == (
        "failed",
        "its process ended with exit status 3 and said no more",
    )


def test_a_handler_of_others_that_raises_nothing_leaves_the_stages_at_work(run_slots):
    """That of submitit, say, in a job of Hydra's launcher."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        [outcome] = run_slots(1, "import os, signal; os.kill(os.getppid(), signal.SIGTERM); exit(3)")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "exit status 3" in outcome.reason


def test_ctrl_c_is_not_for_the_workers(run_slots):
    """Not even before they can be told to ignore it."""
    [outcome] = run_slots(1, "import os, signal; os.kill(os.getpid(), signal.SIGINT); raise SystemExit(3)")
    assert "exit status 3" in outcome.reason


DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".pid", "w") as file:
    file.write(str(os.getpid()))
time.sleep(100)
"""


def test_a_second_ctrl_c_kills_workers_that_do_not_stop(run_slots, tmp_path, monkeypatch, capsys):
    """Ctrl-C comes whenever the launcher sleeps, once the worker is up."""
    sleep = time.sleep

    def interrupt(seconds):
        while not [file for file in tmp_path.glob("jobs/*.pid") if file.read_text()]:
            sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_slots(1, DEAF)
    [file] = tmp_path.glob("jobs/*.pid")
    deadline = time.monotonic() + 20
    while is_alive(file.read_text()):
        assert time.monotonic() < deadline
        sleep(0.01)
    assert "save their state and stop; Ctrl-C kills them" in capsys.readouterr().out


def test_ctrl_c_while_a_worker_starts_stops_it(run_slots, monkeypatch):
    """Nobody else would: workers leave Ctrl-C to the launcher."""
    started = interrupted_when_starting(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_slots(1, "import time; time.sleep(100)")
    assert [process.poll() is None for process in started] == [False]


def is_alive(pid):
    """Whether a process runs; one that nobody has asked after since its end has no command any more."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.exists() and path.read_bytes() != b""


def children(process):
    """Processes that the launcher has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def start_slots(outputs, data, *overrides):
    """A launch with two slots, once a stage of it has saved its state."""

    def has_saved():
        return list(Path(outputs).glob("stages/*/*/checkpoint.pt"))

    return start(has_saved, outputs, data, "auxiliary=none", "dispatch.max_parallel_stages=2", *overrides)


LONG = ["pretext.training.epochs=300", "runtime.save_every_s=0"]


@pytest.mark.slow
def test_a_process_that_is_killed_fails_its_stage_and_no_other(data, tmp_path):
    process = start_slots(
        tmp_path, data, "pretext=none,vspp", "-m", *LONG, "protocol.test.sampler.num_clips=2"
    )
    pretext = next(tmp_path.glob("stages/pretext/*/owner.json"))
    owner = int(pretext.read_text().split('"pid": ')[1].split(",")[0])
    assert owner in children(process)
    os.kill(owner, signal.SIGKILL)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "killed by SIGKILL" in output
    assert len(list(tmp_path.glob("stages/test/*/result.json"))) == 1
    assert "1 of 5 stages failed, 2 skipped" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signums", "pause", "ends"),
    [
        ([signal.SIGTERM, signal.SIGTERM], 0.1, {143: "stopped by SIGTERM"}),
        ([signal.SIGINT], 0, {130: "interrupted"}),
        # as systemd does; either may come first
        ([signal.SIGTERM, signal.SIGHUP], 0, {143: "stopped by SIGTERM", 129: "stopped by SIGHUP"}),
    ],
)
def test_asked_to_stop_the_workers_save_and_all_end(data, tmp_path, signums, pause, ends):
    process = start_slots(tmp_path, data, *LONG)
    workers = children(process)
    for signum in signums:
        os.killpg(process.pid, signum) if signum == signal.SIGINT else process.send_signal(signum)
        time.sleep(pause)
    output, _ = process.communicate(timeout=60)
    assert f"vssl: {ends[process.returncode]}; the same command continues" in output
    assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers)
    [log] = tmp_path.glob("stages/pretext/*/log.txt")
    assert "interrupted (Stopped: stopped by SIGTERM)" in log.read_text()
