"""Which samples make up which step."""

import errno
import gc
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import training
from vssl import stop
from vssl.engine.cost import CostMeter
from vssl.engine.loader import Loading, Steps, _next, evaluation_batches
from vssl.errors import VsslError
from vssl.stage.run import one_line


def steps(num_samples=10, batch_size=4, micro_batch=2, drop_last=False, seed=0):
    recipe = training(batch_size=batch_size, micro_batch=micro_batch, drop_last=drop_last)
    return Steps(num_samples, recipe, seed)


def test_every_epoch_shows_every_sample_once_in_another_order():
    plan = steps()
    assert (plan.per_epoch, plan.total) == (3, 9)
    orders = []
    for epoch in range(3):
        seen = [at for s in range(3) for micro in plan.micro_batches(3 * epoch + s) for at in micro]
        assert {at[0] for at in seen} == {epoch}
        orders.append([at[1] for at in seen])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1] != orders[2]


def test_micro_batches_of_a_full_and_of_the_last_step():
    plan = steps()
    assert [len(micro) for micro in plan.micro_batches(0)] == [2, 2]
    assert [len(micro) for micro in plan.micro_batches(2)] == [2]
    assert plan.most == 2


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(4, 2), (4, 4), (9, 3), (12, 4), (30, 3)])
def test_no_step_has_more_micro_batches_than_the_first(batch_size, micro_batch):
    plan = steps(batch_size=batch_size, micro_batch=micro_batch)
    assert plan.most == max(len(plan.micro_batches(step)) for step in range(plan.total))


def test_drop_last_leaves_the_rest_out():
    plan = steps(drop_last=True)
    assert (plan.per_epoch, plan.total) == (2, 6)


def test_accumulation_does_not_change_who_is_in_a_step():
    split, whole = steps(micro_batch=2), steps(micro_batch=4)
    for step in range(split.total):
        [all_of_it] = whole.micro_batches(step)
        assert [at for micro in split.micro_batches(step) for at in micro] == all_of_it


def test_the_seed_decides_the_order():
    assert steps(seed=1).micro_batches(0) == steps(seed=1).micro_batches(0)
    assert steps(seed=1).micro_batches(0) != steps(seed=2).micro_batches(0)


def test_too_few_samples_for_one_batch():
    with pytest.raises(
        VsslError, match="batch_size=4: 3 samples do not fill one batch, and drop_last=true; choose 3 or less"
    ):
        steps(num_samples=3, drop_last=True)


def cost():
    return CostMeter(torch.device("cpu"))


class Numbers:
    """A dataset whose samples are their numbers."""

    def __len__(self):
        return 1000

    def __getitem__(self, at):
        return {"index": torch.tensor(at[1])}

    def reading(self):
        return []


class Collecting(Numbers):
    """What a look for garbage copies of what the process shares with its parent, in KB."""

    def __getitem__(self, at):
        before = own_kb()
        gc.collect()
        return {"copied": torch.tensor(own_kb() - before)}


def own_kb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_loader_process_leaves_what_it_shares_alone_when_it_looks_for_garbage():
    """All that was imported: without it some 50 MB."""
    with closing(evaluation_batches(Collecting(), 2, Loading(1, False, timeout_s=60), cost())) as batches:
        assert next(batches)["copied"].max() < 10_000


def test_the_death_of_a_loader_process_is_told_to_who_waits_for_a_batch_and_nowhere_else():
    batches = evaluation_batches(Numbers(), 2, Loading(1, False, timeout_s=60), cost())
    assert next(batches)["index"].tolist() == [0, 1]
    [loader] = multiprocessing.active_children()
    os.kill(loader.pid, signal.SIGKILL)
    for _ in range(20):
        time.sleep(0.02)  # the signal of its death comes here
    with pytest.raises(
        VsslError, match=r"the loader worker .* is killed by signal: Killed .* want of memory"
    ):
        list(batches)


class Endless(Numbers):
    """A dataset whose samples take longer than anybody waits."""

    def __getitem__(self, at):
        time.sleep(60)

    def reading(self):
        return ["a.mp4"]


def test_the_death_of_a_loader_process_while_somebody_waits_for_its_batch():
    def kill():
        while not (loaders := multiprocessing.active_children()):
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(loaders[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(
        VsslError, match=r"is killed by signal: Killed while reading a\.mp4; .* want of memory"
    ):
        list(evaluation_batches(Endless(), 2, Loading(1, False, timeout_s=60), cost()))
    killer.join()


class Failing(Numbers):
    """Its samples are an error, raised in the loader process."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, at):
        raise self.error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)"), r"--shm-size"),
        (
            RuntimeError("unable to open shared memory object </t>: Too many open files (24)"),
            r"ulimit -n is \d",
        ),
        (OSError(24, "Too many open files"), r"ulimit -n is \d+\); raise that, or lower runtime\.workers$"),
    ],
)
def test_what_runs_out_in_a_loader_process_is_one_line_with_what_to_do(error, message):
    with pytest.raises(VsslError, match=message) as caught:
        list(evaluation_batches(Failing(error), 2, Loading(1, False, timeout_s=60), cost()))
    assert "\n" not in str(caught.value)
    assert "take the video out" not in str(caught.value)


class Pinned(Numbers):
    """Batches of many tensors, each of which needs an open file on its way."""

    def __getitem__(self, at):
        return {**super().__getitem__(at), **{str(n): torch.zeros(10) for n in range(12)}}


@pytest.fixture
def pins(monkeypatch):
    """Batches go through the thread that pins them for a GPU; here it copies them."""
    there = {"is_available": True, "current_accelerator": torch.device("cuda"), "current_device_index": 0}
    for name, value in there.items():
        monkeypatch.setattr(torch.accelerator, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda device: None)
    monkeypatch.setattr(
        "torch.utils.data._utils.pin_memory.pin_memory",
        lambda batch, device=None: {name: value.clone() for name, value in batch.items()},
    )


def test_what_the_thread_that_pins_batches_dies_of_is_told_at_once(pins):
    """And not after `timeout_s`, as a video that hangs."""
    with closing(evaluation_batches(Pinned(), 2, Loading(1, True, timeout_s=60), cost())) as batches:
        next(batches)
        with few_files(), pytest.raises(VsslError, match=r"too few open files \(ulimit -n is \d+\)"):
            list(batches)


def test_a_thread_that_dies_at_its_start_is_told_too(pins, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "set_device_index", fail_with(torch.AcceleratorError("no GPU")))
    with pytest.raises(torch.AcceleratorError, match="no GPU"):
        list(evaluation_batches(Pinned(), 2, Loading(1, True, timeout_s=60), cost()))


def test_a_death_never_takes_the_place_of_an_error_that_is_on_its_way():
    """Ctrl-C reaches the loader processes as well, and what they leave behind ends the thread that pins."""

    class Interrupted:
        def __next__(self):
            try:
                raise KeyboardInterrupt
            finally:
                deaths.append(OSError("cut off"))
                signal.raise_signal(signal.SIGCHLD)

    deaths = []

    def raise_deaths():
        for death in deaths:
            raise death

    with pytest.raises(KeyboardInterrupt):
        _next(Interrupted(), raise_deaths)


@contextmanager
def few_files():
    """No more open files than now."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_a_batch_that_does_not_come_through_is_one_line(error, monkeypatch):
    monkeypatch.setattr("vssl.engine.loader.DYING_S", 0)
    monkeypatch.setattr(
        "torch.utils.data.dataloader._MultiProcessingDataLoaderIter._next_data", fail_with(error)
    )
    with pytest.raises(VsslError, match=r"too few open files \(ulimit -n is \d+\)"):
        list(evaluation_batches(Numbers(), 2, Loading(1, False, timeout_s=60), cost()))


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # torch's own, of what it left
@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EMFILE, errno.ENOMEM])
def test_a_loader_process_that_cannot_be_started_takes_the_others_along(code, monkeypatch):
    """They outlive signals: the end of the training process would wait for them."""
    start, started = multiprocessing.process.BaseProcess.start, []

    def start_one(process):
        if started:
            raise OSError(code, os.strerror(code))
        started.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start_one)
    said = (
        rf"^a loader process cannot be started \({os.strerror(code)}\); lower runtime.workers, or allow more"
    )
    with pytest.raises(VsslError, match=said):
        list(evaluation_batches(Numbers(), 2, Loading(2, False, timeout_s=60), cost()))
    started[0].join(timeout=30)
    assert started[0].exitcode == -signal.SIGKILL


def interrupted(call, count, calls):
    """The call, during whose `count`-th time Ctrl-C comes; what it is called with is kept in `calls`."""

    def calling(*given):
        calls.append(given[0])
        call(*given)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGINT)

    return calling


@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_while_loader_processes_start_takes_all_along(count, monkeypatch):
    start, started = multiprocessing.process.BaseProcess.start, []
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", interrupted(start, count, started))
    with pytest.raises(KeyboardInterrupt):
        list(evaluation_batches(Numbers(), 2, Loading(2, False, timeout_s=60), cost()))
    assert [process.is_alive() for process in started] == [False, False]


def test_ctrl_c_while_loader_processes_end_takes_all_along(monkeypatch):
    """Processes that do not look up before the end of a long batch."""
    gc.collect()  # iterators of other tests, which end theirs
    iterators = []
    monkeypatch.setattr(
        "torch.utils.data.dataloader._MultiProcessingDataLoaderIter._shutdown_workers",
        interrupted(lambda iterator: None, 1, iterators),
    )
    with (
        pytest.raises(KeyboardInterrupt),
        closing(evaluation_batches(Numbers(), 2, Loading(2, False, timeout_s=60), cost())) as batches,
    ):
        next(batches)
    for process in iterators[0]._workers:
        process.join(timeout=30)
        assert process.exitcode == -signal.SIGKILL


def fail_with(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_another_kind_is_told_by_its_last_line(workers):
    with pytest.raises(ValueError, match="no such frame") as caught:
        list(evaluation_batches(Failing(ValueError("no such frame")), 2, Loading(workers, False, 60), cost()))
    assert one_line(caught.value) == "ValueError: no such frame"


@pytest.mark.parametrize("signum", stop.SIGNALS)
def test_a_signal_to_all_processes_of_a_job_leaves_the_loader_at_work(signum):
    batches = evaluation_batches(Numbers(), 100, Loading(1, False, timeout_s=60), cost())
    next(batches)
    [loader] = multiprocessing.active_children()
    os.kill(loader.pid, signum)
    assert len(list(batches)) == 9


class Bad(Numbers):
    """One sample cannot be read; the others take their time."""

    def __getitem__(self, at):
        if at[1] == 3:
            raise VsslError("a video that nobody can read")
        time.sleep(0.2)
        return super().__getitem__(at)


def test_an_error_ends_the_loader_processes_while_somebody_still_holds_it():
    """Else Python would wait for them at its end, for ever: they outlive its signals."""
    batches = evaluation_batches(Bad(), 2, Loading(2, False, timeout_s=60), cost())
    with pytest.raises(VsslError, match=r"^a video that nobody can read$") as held:
        list(batches)
    assert held.value.__cause__ is not None
    assert multiprocessing.active_children() == []


class Slow(Numbers):
    """Four samples, each of which takes 0.05 seconds to compute and 0.05 more to come."""

    def __len__(self):
        return 4

    def __getitem__(self, at):
        began = time.process_time()
        while time.process_time() < began + 0.05:
            pass
        time.sleep(0.05)
        return super().__getitem__(at)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_loading_takes_is_counted_and_stays_out_of_the_batch(workers):
    spent = cost()
    for batch in evaluation_batches(Slow(), 2, Loading(workers, False, timeout_s=60), spent):
        assert set(batch) == {"index"}
    assert spent.read().loader_seconds >= 0.2
    assert 0.4 <= spent.read().waiting_seconds <= spent.read().seconds


def test_what_earlier_runs_waited_for_is_added():
    spent = cost()
    spent.before = replace(spent.read(), waiting_seconds=5.0, loader_seconds=7.0)
    spent.waiting_seconds, spent.loader_seconds = 1.0, 2.0
    assert (spent.read().waiting_seconds, spent.read().loader_seconds) == (6.0, 9.0)
