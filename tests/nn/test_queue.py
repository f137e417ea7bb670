"""The ring of keys, against contents worked by hand."""

import pytest
import torch

from vssl.errors import VsslError
from vssl.nn.contrast import KeyQueue


def keys(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)[:, None].expand(-1, 2)


def contents(queue):
    return queue.keys[:, 0].tolist()


def test_a_batch_wraps_round_the_end():
    queue = KeyQueue(10, 2, "rows")
    queue.enqueue(keys(0, 1, 2, 3))
    queue.enqueue(keys(4, 5, 6, 7))
    assert contents(queue)[:8] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert queue.pointer == 8
    queue.enqueue(keys(8, 9, 10, 11))
    assert contents(queue) == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert queue.pointer == 2


def test_the_paper_sizes_hold_the_latest_keys():
    """16384 anchors and batches of 30, which do not divide them (paper 4.2)."""
    queue = KeyQueue(16384, 1, "rows")
    for first in range(0, 30 * 600, 30):
        queue.enqueue(torch.arange(first, first + 30, dtype=torch.float32)[:, None])
    latest = torch.arange(30 * 600 - 16384, 30 * 600, dtype=torch.float32)
    assert torch.equal(queue.keys[:, 0].sort().values, latest)
    oldest = queue.keys[queue.pointer, 0]
    assert oldest == latest[0]


def test_a_batch_may_fill_the_queue_but_not_more():
    queue = KeyQueue(4, 2, "rows")
    queue.enqueue(keys(0))
    queue.enqueue(keys(1, 2, 3, 4))
    assert contents(queue) == [4, 1, 2, 3]
    with pytest.raises(VsslError, match=r"^queue_size=4: cannot hold .* a batch of 5; choose 5 or more$"):
        queue.enqueue(keys(0, 1, 2, 3, 4))


def test_initial_keys():
    rows, columns = KeyQueue(512, 8, "rows").keys, KeyQueue(512, 8, "columns").keys
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(512))
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(8))
    # Released code: the keys are as short as sqrt(D/H).
    assert columns.norm(dim=1).square().mean().sqrt() == pytest.approx((8 / 512) ** 0.5, rel=1e-5)


def test_contents_and_pointer_are_state_but_nothing_is_trained():
    queue, copy = KeyQueue(10, 2, "rows"), KeyQueue(10, 2, "rows")
    queue.enqueue(keys(0, 1, 2))
    copy.load_state_dict(queue.state_dict())
    assert contents(copy) == contents(queue)
    assert copy.pointer == 3
    assert not list(queue.parameters())


def test_keys_of_a_step_are_held_in_training_mode_only():
    queue = KeyQueue(10, 2, "rows")
    queue.hold(keys(0, 1))
    queue.hold(keys(2))
    queue.eval().hold(keys(3))
    assert queue.pointer == 0
    queue.enqueue_held()
    assert contents(queue)[:3] == [0, 1, 2]
    queue.enqueue_held()
    assert queue.pointer == 3
