"""What is said of a stage that fails."""

import errno
import os

import pytest
import torch
from torch._utils import ExceptionWrapper

from vssl.errors import VsslError
from vssl.stage.run import one_line

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB."
ADVICE = (
    "lower training.micro_batch (batch norm then sees fewer clips: another recipe) or say "
    "precision=bfloat16; nvidia-smi shows whether others use it"
)
OF_CUDA = (
    "CUDA error: {}\nSearch for `cudaError' in the documentation.\n"
    "CUDA kernel errors might be reported later.\n"
    "Device-side assertions were explicitly omitted for this error check."
)


def raised_again(error):
    """As torch does with what a loader process, or the thread that pins its batches, has raised."""
    try:
        raise error
    except Exception:
        wrapper = ExceptionWrapper(where="in pin memory thread for device 0")
    try:
        wrapper.reraise()
    except Exception as again:
        return again


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
            f"the GPU's memory is full (CUDA out of memory); {ADVICE}",
        ),
        (
            torch.AcceleratorError(OF_CUDA.format("out of memory")),
            f"the GPU's memory is full (CUDA error: out of memory); {ADVICE}",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "the GPU's memory is full (CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling "
            f"`cublasCreate(handle)`); {ADVICE}",
        ),
        (
            raised_again(torch.AcceleratorError(OF_CUDA.format("out of memory"))),
            f"the GPU's memory is full (torch.AcceleratorError: CUDA error: out of memory); {ADVICE}",
        ),
        (torch.AcceleratorError(OF_CUDA.format("no image")), "AcceleratorError: CUDA error: no image"),
        (ValueError("the Original Traceback"), "the Original Traceback"),
        (raised_again(ValueError("\nsaid below")), "said below"),
        (
            raised_again(torch.AcceleratorError(OF_CUDA.format("invalid argument"))),
            "torch.AcceleratorError: CUDA error: invalid argument",
        ),
    ],
)
def test_one_line(error, said):
    assert one_line(error) == said
