"""Training recipes: batches that processes cannot share, and values that cannot be."""

import pytest

from conftest import training
from vssl.errors import OptionError


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused_with_one_that_does():
    with pytest.raises(OptionError, match=r"^micro_batch=8: does not divide batch_size=30; try 2$"):
        training(batch_size=30, micro_batch=8)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "micro_batch"])
def test_at_least_one_of_each(name):
    with pytest.raises(OptionError, match=rf"^{name}=0: too small; choose 1 or more$"):
        training(**{name: 0})


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        (
            {},
            4,
            "^micro_batch=2: 4 processes cannot share .*; choose micro_batch=1 or less, .* sync_bn=",
        ),
        (
            {"sync_bn": True, "drop_last": True},
            4,
            "^micro_batch=2: 4 processes cannot split .* a multiple of 4$",
        ),
        (
            {"sync_bn": True},
            2,
            "^drop_last=false: 2 processes cannot split the last batch evenly.*; say true$",
        ),
    ],
)
def test_processes_that_cannot_share_a_step(changes, processes, message):
    with pytest.raises(OptionError, match=message):
        training(**changes).check_ranks(processes, 2)


def test_bfloat16_is_refused_where_there_is_none(monkeypatch):
    with pytest.raises(OptionError, match=r"^precision=bfloat16: is for GPUs; say float32"):
        training(precision="bfloat16").check_device("cpu")
    monkeypatch.setattr("vssl.engine.training.has_bfloat16", lambda: False)
    with pytest.raises(OptionError, match=r"bfloat16: needs a GPU of compute .*; say float32$"):
        training(precision="bfloat16").check_device("cuda")
    training(precision="tf32").check_device("cuda")
    monkeypatch.setattr("vssl.engine.training.has_bfloat16", lambda: True)
    training(precision="bfloat16").check_device("cuda")
