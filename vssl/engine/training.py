"""Training recipes: how long, how fast, and in which batches."""

import math
from dataclasses import dataclass, field

from vssl.checks import Checked, at_least
from vssl.engine.optimizers import Optimizer
from vssl.engine.precision import Precision, has_bfloat16
from vssl.engine.schedules import Schedule
from vssl.errors import OptionError


@dataclass(frozen=True)
class Training(Checked):
    """A training recipe.

    `batch_size` is the effective batch, the videos behind one optimiser step. `micro_batch` is how many go
    through the network at once: it divides `batch_size`, and the micro-batches of a step are shared out among
    the processes of the stage and, within one of them, accumulated. BatchNorm sees micro-batches, so both
    belong to the recipe. With `sync_bn` each micro-batch is split among the processes, and batch norm still
    sees it whole. `precision` of the arithmetic: `tf32` rounds the factors of products on a GPU to 10 bits,
    `bfloat16` is torch's mixed precision.
    """

    epochs: int = field(metadata=at_least(1))
    batch_size: int = field(metadata=at_least(1))
    micro_batch: int = field(metadata=at_least(1))
    drop_last: bool
    sync_bn: bool
    precision: Precision
    optimizer: Optimizer
    schedule: Schedule

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.micro_batch:
            problem = f"does not divide batch_size={self.batch_size}"
            remedy = f"try {math.gcd(self.batch_size, self.micro_batch)}"
            raise OptionError("micro_batch", self.micro_batch, problem, remedy)

    def check_samples(self, num_samples: int, least: int, who: str) -> None:
        """Raise `OptionError` if a micro-batch has fewer samples than the `least` that `who` needs."""
        if self.micro_batch < least:
            problem = f"{who} needs {least} samples at once"
            raise OptionError("micro_batch", self.micro_batch, problem, f"choose {least} or more")
        rest = 0 if self.drop_last else num_samples % self.batch_size % self.micro_batch
        if 0 < rest < least:
            problem = f"an epoch of {num_samples} ends with {rest} sample, and {who} needs {least} at once"
            raise OptionError("drop_last", False, problem, "say true, or choose another batch_size")

    def check_ranks(self, processes: int, micro_batches: int) -> None:
        """Raise `OptionError` if the processes cannot share a step of so many micro-batches evenly."""
        if self.sync_bn and processes > 1:
            problem = f"{processes} processes cannot split {{}} evenly, as sync_bn=true asks for"
            if self.micro_batch % processes:
                remedy = f"choose a multiple of {processes}"
                raise OptionError("micro_batch", self.micro_batch, problem.format("it"), remedy)
            if not self.drop_last:
                raise OptionError("drop_last", False, problem.format("the last batch"), "say true")
        elif self.batch_size // self.micro_batch % processes or micro_batches < processes:
            problem = f"{processes} processes cannot share the {micro_batches} micro-batches of a step evenly"
            most = max(1, self.batch_size // processes)
            remedy = f"choose micro_batch={most} or less, which is what batch norm sees, or say sync_bn=true"
            raise OptionError("micro_batch", self.micro_batch, problem, remedy)

    def check_device(self, device: str) -> None:
        """Raise `OptionError` for a precision that this kind of device does not have."""
        if device == "cpu" and self.precision == "bfloat16":
            # torch 2.15: the gradient of a 3x1x1 convolution over two time steps is off without bounds there.
            raise OptionError("precision", self.precision, "is for GPUs", "say float32, as fast on a CPU")
        if device == "cuda" and self.precision == "bfloat16" and not has_bfloat16():
            problem = "needs a GPU of compute capability 8.0 or higher, and this one is older"
            raise OptionError("precision", self.precision, problem, "say float32")

    def shared_out(self, processes: int) -> str:
        """How a step is computed, in words."""
        micro_batches = self.batch_size // self.micro_batch
        if self.sync_bn and processes > 1:
            return f"{processes} processes x {self.micro_batch // processes} videos, {micro_batches} times"
        return f"{processes} processes x {micro_batches // processes} micro-batches of {self.micro_batch}"
