"""One of the processes of test_processes.py: train a few steps, leave what they came to in a file."""

import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve()
sys.path[:1] = [str(HERE.parents[2]), str(HERE.parents[1])]

from gpu.trainings import EXACT, spec_of, trained  # noqa: E402
from vssl import distributed  # noqa: E402

if __name__ == "__main__":
    name, folder = sys.argv[1:]
    with distributed.init_distributed(60.0):
        found = trained(spec_of(name), EXACT)
        torch.save({"moved": found.moved, "losses": found.losses}, f"{folder}/{distributed.rank()}.pt")
