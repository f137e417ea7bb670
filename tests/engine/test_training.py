"""Training recipes: schedules by hand, and recipes that cannot be."""

import pytest

from conftest import training
from vssl.engine.training import SGD, Cosine, StepDecay
from vssl.errors import VsslError


def test_step_decay_of_the_paper():
    lr = [1e-3 * StepDecay(6, 0.1).factor_at(epoch, 20) for epoch in range(20)]
    assert lr == pytest.approx([1e-3] * 6 + [1e-4] * 6 + [1e-5] * 6 + [1e-6] * 2)


def test_cosine_starts_at_one_and_ends_near_its_last_factor():
    cosine = Cosine(1e-3)
    assert cosine.factor_at(0, 200) == 1
    assert cosine.factor_at(100, 200) == pytest.approx((1 + 1e-3) / 2)
    assert cosine.factor_at(200, 200) == pytest.approx(1e-3)


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused_with_one_that_does():
    with pytest.raises(VsslError, match=r"batch_size=30 .* micro_batch=8; try micro_batch=2"):
        training(batch_size=30, micro_batch=8)


def test_at_least_one_epoch():
    with pytest.raises(VsslError, match="at least 1"):
        training(epochs=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-0.1, 0.9, 0.0), "lr=-0.1: too small"),
        (lambda: SGD(0.1, -0.9, 0.0), "momentum=-0.9: too small"),
        (lambda: StepDecay(0, 0.1), "every_epochs=0: too small"),
        (lambda: StepDecay(1, 0.0), "factor=0.0: too small"),
    ],
)
def test_numbers_that_train_nothing(make, message):
    with pytest.raises(VsslError, match=message):
        make()
