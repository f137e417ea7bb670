"""What is said of a stage that fails."""

import errno
import os

import pytest
import torch

from vssl.errors import VsslError
from vssl.stage.run import one_line

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (VsslError("what; what to do"), "what; what to do"),
        (ValueError("one\n  two"), "ValueError: one two"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "f"),
            "no space left on the device of f; free some and run again",
        ),
        (
            torch.OutOfMemoryError(FULL),
            "the GPU's memory is full (CUDA out of memory); lower training.micro_batch (batch norm then sees "
            "fewer clips: another recipe) or say precision=bfloat16; nvidia-smi shows whether "
            "others use it",
        ),
    ],
)
def test_one_line(error, said):
    assert one_line(error) == said
