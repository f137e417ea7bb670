"""The training loop. It knows no method: an objective gives a loss, the loop lowers it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from vssl import stop
from vssl.engine.checkpoint import load_checkpoint, save_checkpoint
from vssl.engine.loader import Loading, Steps
from vssl.errors import VsslError
from vssl.types import Batch, Objective


@dataclass(frozen=True)
class Runtime:
    """Where and how a stage runs; nothing here changes the weights on one machine.

    `workers`: loader processes (0: in the training process; null: one per core, at most 2 for training on a
    CPU and 16 for a GPU). `threads`: of the CPU's arithmetic (null: the cores that the loader leaves, or 1;
    another number may change the last bits of a sum). `save_every_s`: seconds between
    checkpoints (0: every step). `log_every_steps`: steps between two lines of metrics. `max_bad_share`: of an
    epoch's samples whose video cannot be read and is replaced; more stop the stage. `timeout_s`: seconds to
    wait for a batch before the loader is killed and what it hangs in is named (not with workers=0).
    """

    device: Literal["auto", "cpu", "cuda"]
    workers: int | None
    threads: int | None
    save_every_s: float
    log_every_steps: int
    max_bad_share: float
    timeout_s: float

    def torch_device(self) -> torch.device:
        """The device to train on; asking for a GPU that is not there raises `VsslError`."""
        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise VsslError("runtime.device=cuda: no GPU is visible to torch; use runtime.device=cpu")
        return torch.device("cuda" if has_gpu and self.device != "cpu" else "cpu")

    def num_workers(self) -> int:
        """Loader processes to start."""
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0))
        return min(cores, 16) if self.torch_device().type == "cuda" else min(cores, 2)

    def num_threads(self) -> int:
        """Threads of the CPU's arithmetic: by default the cores that loader processes leave."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) - self.num_workers())

    def loading(self) -> Loading:
        """How a stage loads its batches."""
        return Loading(self.num_workers(), self.torch_device().type == "cuda", self.timeout_s)


class Observer(Protocol):
    """Who is told how training goes."""

    def advance(self, clips: int, **shown: float) -> None:
        """`clips` more were trained on; `shown` is for the eye (loss, lr)."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of the steps since the last call, for the record."""

    def begin(self, step: int, share: float) -> None:
        """Work begins after `step` steps, `share` of the whole; forget what was logged past that."""


@dataclass
class Meter:
    """Means of metrics since the last reading; part of a checkpoint, so that a resumed run logs the same."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, metrics: Mapping[str, float]) -> None:
        """Count one step."""
        self.steps += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def read(self) -> dict[str, float]:
        """Return the means and start over."""
        means = {name: total / self.steps for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means


class Loop:
    """One training from its first or its last saved step to the end."""

    def __init__(
        self,
        objective: Objective,
        steps: Steps,
        augment: Callable[[Batch], Tensor],
        folder: Path,
        runtime: Runtime,
        observer: Observer,
    ) -> None:
        self.device = runtime.torch_device()
        self.objective = objective.to(self.device).train()
        self.steps, self.augment, self.runtime, self.observer = steps, augment, runtime, observer
        self.optimizer = steps.training.optimizer.build(objective.parameters())
        self.path = folder / "checkpoint.pt"
        self.meter = Meter()
        self.step = 0
        self.seconds = 0.0
        if self.path.exists():
            self._resume()
        observer.begin(self.step, self.step / steps.total)

    def run(self, batches: Iterator[list[Batch]]) -> None:
        """Train on `batches`, which must start at `self.step`; save at intervals and at the end.

        A signal to stop (`vssl.stop`) is obeyed after a step, and after saving.
        """
        saved = started = time.monotonic()
        before = self.seconds
        with stop.deferred():
            for micro_batches in batches:
                self._train_step(micro_batches)
                now = time.monotonic()
                self.seconds = before + now - started
                last = self.step == self.steps.total or stop.requested()
                if last or now - saved >= self.runtime.save_every_s:
                    self._save()
                    saved = now
                if stop.requested():
                    break

    def _train_step(self, micro_batches: Sequence[Batch]) -> None:
        training = self.steps.training
        # Dropout draws from torch's generator; seeding each step leaves no state to save.
        torch.manual_seed((self.steps.seed << 32) + self.step)
        epoch = self.step // self.steps.per_epoch
        lr = training.optimizer.lr * training.schedule.factor_at(epoch, training.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        metrics = self._backward(micro_batches)
        self.optimizer.step()
        self.step += 1
        self.objective.after_step(self.step / self.steps.total)
        self._report(
            metrics, lr, epoch, sum(b["clips"].shape[0] * b["clips"].shape[1] for b in micro_batches)
        )

    def _backward(self, micro_batches: Sequence[Batch]) -> dict[str, float]:
        """Accumulate the gradient of the mean loss over the effective batch; return its mean metrics."""
        self.optimizer.zero_grad(set_to_none=True)
        samples = sum(len(batch["clips"]) for batch in micro_batches)
        means: dict[str, float] = {}
        for host_batch in micro_batches:
            batch = {name: value.to(self.device, non_blocking=True) for name, value in host_batch.items()}
            batch["clips"] = self.augment(batch)
            loss, metrics = self.objective(batch)
            share = len(batch["clips"]) / samples
            if not torch.isfinite(loss):
                raise VsslError(
                    f"the loss is {loss.item()} at step {self.step + 1} of {self.steps.total}; lower the "
                    "learning rate (training.optimizer.lr) or look at the videos of this batch: indices "
                    f"{host_batch['index'].tolist()}"
                )
            (loss * share).backward()
            for name, value in {"loss": loss, **metrics}.items():
                means[name] = means.get(name, 0.0) + share * float(value.detach())
        return means

    def _report(self, metrics: Mapping[str, float], lr: float, epoch: int, clips: int) -> None:
        self.meter.add(metrics)
        self.observer.advance(clips, loss=metrics["loss"], lr=lr)
        if self.step % self.runtime.log_every_steps == 0 or self.step == self.steps.total:
            line = {**self.meter.read(), "lr": lr, "epoch": float(epoch + 1)}
            self.observer.log(line, self.step)

    def _save(self) -> None:
        save_checkpoint(
            self.path,
            {
                "step": self.step,
                "seconds": self.seconds,
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "meter": {"sums": self.meter.sums, "steps": self.meter.steps},
            },
        )

    def _resume(self) -> None:
        saved: dict[str, Any] = load_checkpoint(self.path, self.device)
        self.objective.load_state_dict(saved["objective"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.meter = Meter(**saved["meter"])
