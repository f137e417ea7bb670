"""Which samples make up which step, and a loader that delivers them from any step on."""

import gc
import resource
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, default_collate

from vssl import distributed, stop
from vssl.compat.torch_private import iterator, kill_workers, watched
from vssl.engine.cost import CostMeter
from vssl.engine.training import Training
from vssl.errors import OptionError, VsslError
from vssl.types import Batch

Item = TypeVar("Item")
SampleAt = tuple[int, int]
"""(epoch, index): with the seed, all that a sample depends on."""

DYING_S = 2.0
_ORDER = 0x0DE5  # keeps the shuffling apart from the samples' own generators
_SECONDS = "loader_seconds"


class Samples(Protocol):
    """A dataset that knows which videos are being read."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: SampleAt) -> Batch: ...

    def reading(self) -> list[str]:
        """Names of the videos that are being read at this moment, in any process."""


@dataclass(frozen=True)
class Loading:
    """How batches are loaded.

    workers: processes (0: this one). pin_memory: for the way to a GPU. timeout_s: seconds to wait for a batch
    before the processes are killed and the videos that they hang in are named; it takes workers.
    """

    workers: int
    pin_memory: bool
    timeout_s: float


class _Batched:
    """Batches of samples, each with the processor time in seconds that it took to make.

    This includes collating: a batch goes to new shared memory, which takes longer than the copy.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, at: list[SampleAt]) -> Batch:
        began = time.process_time()
        try:
            batch: Batch = default_collate([self.samples[one] for one in at])
        except OptionError as error:  # torch makes the error anew in the training process, from one text
            raise VsslError(str(error)) from error
        return {**batch, _SECONDS: torch.tensor(time.process_time() - began)}


class Steps:
    """The steps of a whole training, each a list of micro-batches, as a pure function of the seed."""

    def __init__(self, num_samples: int, training: Training, seed: int) -> None:
        """Raise `OptionError`, its option named as in `training`, if there is no step or ranks cannot share
        one."""
        self.training, self.seed, self.num_samples = training, seed, num_samples
        whole, rest = divmod(num_samples, training.batch_size)
        self.per_epoch = whole + (1 if rest and not training.drop_last else 0)
        if self.per_epoch == 0:
            problem = f"{num_samples} samples do not fill one batch, and drop_last=true"
            raise OptionError("batch_size", training.batch_size, problem, f"choose {num_samples} or less")
        self.total = self.per_epoch * training.epochs
        self.most = -(-min(num_samples, training.batch_size) // training.micro_batch)
        """Micro-batches of a step, but for the last step of an epoch, which may have fewer."""
        training.check_ranks(distributed.world_size(), self.most)

    @property
    def samples(self) -> int:
        """Samples of all steps."""
        dropped = self.num_samples % self.training.batch_size if self.training.drop_last else 0
        return (self.num_samples - dropped) * self.training.epochs

    def samples_in(self, step: int) -> int:
        """Samples of one step (0-based over the whole training), those of all ranks together."""
        return len(self._samples(step))

    def micro_batches(self, step: int) -> list[list[SampleAt]]:
        """All samples of one step, as batch norm sees them."""
        samples, micro = self._samples(step), self.training.micro_batch
        return [samples[i : i + micro] for i in range(0, len(samples), micro)]

    def mine(self, step: int) -> list[list[SampleAt]]:
        """This rank's part of a step: some of the micro-batches or, with synchronised batch norm, a part of
        each. The parts of all ranks, one after the other, have the order of `micro_batches`."""
        whole, rank, world = self.micro_batches(step), distributed.rank(), distributed.world_size()
        if self.training.sync_bn:
            return [_part(micro_batch, rank, world) for micro_batch in whole]
        return _part(whole, rank, world)

    def seeds(self, step: int) -> list[int]:
        """A seed for the forward of each micro-batch in `mine`; it does not depend on the rank."""
        count, rank, world = len(self.micro_batches(step)), distributed.rank(), distributed.world_size()
        if self.training.sync_bn:
            numbers = [number * world + rank for number in range(count)]
        else:
            numbers = _part(list(range(count)), rank, world)
        sequences = (np.random.SeedSequence([self.seed, step, number]) for number in numbers)
        return [int(sequence.generate_state(1, np.uint64)[0]) for sequence in sequences]

    def _samples(self, step: int) -> list[SampleAt]:
        epoch, within = divmod(step, self.per_epoch)
        size = self.training.batch_size
        chosen = self._order(epoch)[within * size : (within + 1) * size]
        return [(epoch, index) for index in chosen.tolist()]

    @lru_cache(maxsize=2)  # noqa: B019  lives as long as one training
    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([_ORDER, self.seed, epoch]).permutation(self.num_samples)


def _part(items: list[Item], rank: int, world: int) -> list[Item]:
    """A rank's part of a list: as equal as can be, and no rank has more than the first."""
    begin, end = (-(-number * len(items) // world) for number in (rank, rank + 1))
    return items[begin:end]


def training_batches(
    dataset: Samples, steps: Steps, start: int, loading: Loading, cost: CostMeter
) -> Generator[list[Batch], None, None]:
    """Yield this rank's micro-batches of each step from `start` to the end; add their cost to `cost`.

    Whoever takes them closes them, or an error that somebody still holds would keep the loader processes:
    they outlive the signal of Python's own end, which would wait for them for ever.
    """
    all_at = (micro_batch for step in range(start, steps.total) for micro_batch in steps.mine(step))
    with closing(_load(dataset, all_at, loading, cost)) as batches:
        for step in range(start, steps.total):
            yield [next(batches) for _ in steps.mine(step)]


def evaluation_batches(
    dataset: Samples, batch_size: int, loading: Loading, cost: CostMeter
) -> Generator[Batch, None, None]:
    """Yield every sample once, in order; the last batch may be smaller. Add their cost to `cost`. They are
    closed as those of `training_batches`."""
    at = [(0, index) for index in range(len(dataset))]
    chunks = [at[i : i + batch_size] for i in range(0, len(at), batch_size)]
    yield from _load(dataset, chunks, loading, cost)


def _load(
    dataset: Samples, batches_at: Iterable[list[SampleAt]], loading: Loading, cost: CostMeter
) -> Generator[Batch, None, None]:
    loader: DataLoader[Batch] = DataLoader(
        _Batched(dataset),  # type: ignore[arg-type]  # it is all that torch asks of a Dataset
        sampler=batches_at,
        batch_size=None,
        num_workers=loading.workers,
        prefetch_factor=2 if loading.workers else None,
        pin_memory=loading.pin_memory,
        timeout=loading.timeout_s if loading.workers else 0,
        worker_init_fn=_begin,
    )
    try:
        with closing(_batches(loader)) as batches:
            while batch := cost.wait_for(batches):
                cost.loader_seconds += float(batch.pop(_SECONDS))
                yield batch
    except VsslError as error:
        # torch wraps what a worker raised into its whole traceback; the last line is what was said.
        said = str(error).strip().splitlines()[-1]
        raise VsslError(said.removeprefix(f"{VsslError.__module__}.{VsslError.__name__}: ")) from error
    except (RuntimeError, OSError, EOFError) as error:
        lost = _lost(error, dataset.reading()) if loading.workers else None
        if lost is None:
            raise
        raise VsslError(lost) from error


def _batches(loader: DataLoader[Batch]) -> Generator[Batch, None, None]:
    """Yield the loader's batches; only here can the death of a loader process raise `RuntimeError`.

    torch raises it from a signal handler at any moment, such as during an exchange with other ranks, which
    would then get the blame.
    """
    if not loader.num_workers:
        yield from loader
        return
    with watched(partial(_started, loader)) as (batches, raise_deaths):
        while (batch := _next(batches, raise_deaths)) is not None:
            yield batch


def _next(batches: Any, raise_deaths: Callable[[], None]) -> Batch | None:
    """The next batch, None at the end."""
    handled = sys.exc_info()[1]

    def look(*_: object) -> None:
        if sys.exc_info()[1] is handled:  # not in the place of an error that is on its way already
            raise_deaths()

    signal.signal(signal.SIGCHLD, look)
    try:
        raise_deaths()
        batch: Batch | None = next(batches, None)
        return batch
    except (ConnectionError, EOFError):  # the end of a loader process, a moment before it is dead
        time.sleep(DYING_S)
        raise_deaths()
        raise
    except RuntimeError:  # a process is dead, or hangs in native code and obeys nothing else
        kill_workers(batches)
        raise
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # instead of torch's handler


def _started(loader: DataLoader[Batch]) -> Any:
    """The loader's iterator, with all its processes."""
    try:
        return iterator(loader)
    except OSError as error:
        raise VsslError(
            f"a loader process cannot be started ({error.strerror}); lower runtime.workers, or allow more "
            "open files (ulimit -n) and processes (ulimit -u)"
        ) from error


def _begin(worker: int) -> None:
    """Schedulers signal every process of a job; the training process needs its workers to finish its step.

    What it shares with them they leave out when they look for garbage: a look would copy some 50 MB.
    """
    for signum in stop.SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # inherited in `stop.undivided`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()


NO_ROOM = ("unable to write to file </torch", "unable to allocate shared memory", "Bus error")
NO_FILES = ("Too many open files", "ancillary data", "unable to open shared memory object")
"""How torch says that something has run out; it has no classes for it."""


def _lost(error: Exception, reading: list[str]) -> str | None:
    """What to tell of loader processes that hang, have died or cannot hand over a batch; None if it is not
    that."""
    # Whoever waits for a batch when a process dies gets torch's vaguer error around the one that says how.
    text = str(error.__cause__ if isinstance(error.__cause__, RuntimeError) else error)
    if any(words in text for words in NO_ROOM):
        return (
            "shared memory (/dev/shm) has no room for a batch; give it more (docker run --shm-size=8g), or "
            "load in the training process (runtime.workers=0)"
        )
    cut_off = isinstance(error, (EOFError, ConnectionError)) and not text.startswith("Caught ")
    if cut_off or any(words in text for words in NO_FILES):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            "a batch could not be handed over from a loader process: too few open files "
            f"(ulimit -n is {limit}); raise that, or lower runtime.workers"
        )
    if not text.startswith("DataLoader "):
        return None
    what = " ".join(text.removeprefix("DataLoader ").split()).partition(". ")[0].removesuffix(".")
    names = " or ".join(reading) or "no video: it waited for the disk or the processor"
    remedy = "take the video out of the list, or re-encode it with mode=prepare"
    if "signal: Killed" in what:
        remedy = "the system kills for want of memory: give the job more, or lower runtime.workers"
    elif "timed out" in what:
        remedy += "; if it is only slow, raise runtime.timeout_s"
    return f"the loader {what} while reading {names}; {remedy}"
