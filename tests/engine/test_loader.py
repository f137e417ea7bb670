"""Which samples make up which step."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from vssl.engine.loader import Loading, Steps, evaluation_batches
from vssl.engine.training import SGD, StepDecay, Training
from vssl.errors import VsslError


def steps(num_samples=10, batch_size=4, micro_batch=2, drop_last=False, seed=0):
    training = Training(
        3, batch_size, micro_batch, drop_last, False, "float32", SGD(0.1, 0.9, 0.0), StepDecay(1, 1.0)
    )
    return Steps(num_samples, training, seed)


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
    with pytest.raises(VsslError, match="3 samples do not fill one batch of 4"):
        steps(num_samples=3, drop_last=True)


class Numbers:
    """A dataset whose samples are their numbers."""

    def __len__(self):
        return 1000

    def __getitem__(self, at):
        return {"index": torch.tensor(at[1])}

    def reading(self):
        return []


def test_the_death_of_a_loader_process_is_told_to_who_waits_for_a_batch_and_nowhere_else():
    batches = evaluation_batches(Numbers(), 1000, 2, Loading(workers=1, pin_memory=False, timeout_s=60))
    assert next(batches)["index"].tolist() == [0, 1]
    [loader] = multiprocessing.active_children()
    os.kill(loader.pid, signal.SIGKILL)
    for _ in range(20):
        time.sleep(0.02)  # the signal of its death comes here
    with pytest.raises(VsslError, match=r"the loader worker .* is killed by signal"):
        list(batches)
