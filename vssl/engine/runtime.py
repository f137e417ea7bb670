"""Where and how a stage runs."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from vssl import distributed
from vssl.checks import Checked, at_least
from vssl.cores import usable_cores
from vssl.engine.loader import Loading
from vssl.errors import VsslError


@dataclass(frozen=True)
class Runtime(Checked):
    """Where and how a stage runs; nothing here changes the weights on one machine, but for last bits.

    `workers`: loader processes (0: in the training process; null: one per core, at most 2 for training on a
    CPU and 16 for a GPU). `threads`: of the CPU's arithmetic (null: the cores that the loader leaves, or 1;
    another number may change the last bits of a sum). `channels_last`, `compile`: how convolutions lie in
    memory, and torch.compile for the backbones and, on a GPU, for the augmentation; both may change last
    bits. `deterministic`: on a GPU, algorithms that give the same bits each time, in place of those that
    prove fastest. `save_every_s`: seconds between checkpoints (0: every step). `log_every_steps`: steps
    between two lines of metrics. `max_bad_share`: of an epoch's samples whose video cannot be read and is
    replaced; more stop the stage. `timeout_s`: seconds to wait for a batch before the loader is killed and
    what it hangs in is named (not with workers=0).
    """

    device: Literal["auto", "cpu", "cuda"]
    workers: int | None = field(metadata=at_least(0))
    threads: int | None = field(metadata=at_least(1))
    channels_last: bool
    compile: bool
    deterministic: bool
    save_every_s: float = field(metadata=at_least(0))
    log_every_steps: int = field(metadata=at_least(1))
    max_bad_share: float = field(metadata=at_least(0))
    timeout_s: float = field(metadata=at_least(1))

    def torch_device(self) -> torch.device:
        """The device to train on; asking for a GPU that is not there raises `VsslError`."""
        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise VsslError("runtime.device=cuda: no GPU is visible to torch; use runtime.device=cpu")
        if not has_gpu or self.device == "cpu":
            return torch.device("cpu")
        return torch.device("cuda", distributed.local_rank() % torch.cuda.device_count())

    def device_in_words(self) -> str:
        """The same for people, with the GPU's name: `cpu`, or `cuda:0, NVIDIA H100 80GB HBM3`."""
        device = self.torch_device()
        return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)

    def num_workers(self) -> int:
        """Loader processes to start."""
        if self.workers is not None:
            return self.workers
        return min(self._cores(), 16 if self.torch_device().type == "cuda" else 2)

    def num_threads(self) -> int:
        """Threads of the CPU's arithmetic: by default the cores that loader processes leave."""
        return self.threads or max(1, self._cores() - self.num_workers())

    def loading(self) -> Loading:
        """How a stage loads its batches."""
        return Loading(self.num_workers(), self.torch_device().type == "cuda", self.timeout_s)

    def _cores(self) -> int:
        """Cores for this process: its share of those that it may use."""
        return max(1, usable_cores() // distributed.local_world_size())
