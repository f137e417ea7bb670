"""The training loop. It knows no method: an objective gives a loss, the loop lowers it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vssl import distributed, stop
from vssl.compat.torch_private import compiler_in_parts
from vssl.engine.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from vssl.engine.cost import CostMeter, together
from vssl.engine.device import Augment, deliver, to_device
from vssl.engine.exchange import BUCKET_BYTES, GradientExchange
from vssl.engine.loader import Steps
from vssl.engine.meter import FiniteCheck, Meter
from vssl.engine.precision import arithmetic, autocast
from vssl.engine.runtime import Runtime
from vssl.errors import Diverged, OptionError, VsslError
from vssl.nn.batch_norm import SyncedBatchNorm, average_statistics, synchronise
from vssl.result import Cost
from vssl.types import Backbone, Batch, Objective, Progress

UNSTEADY = (nn.AvgPool3d,) if torch.__version__ >= "2.13" else (nn.AvgPool3d, nn.MaxPool3d)
"""Layers without a deterministic gradient on GPUs (documentation of torch.use_deterministic_algorithms)."""


class Callback(Protocol):
    """Receives progress and metrics."""

    def advance(self, clips: int, **shown: float) -> None:
        """`clips` more were trained on; `shown` is for the screen: loss, learning rate, and the share of the
        time that was spent waiting for batches."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of the steps since the last call."""

    def begin(self, step: int, share: float, clips: int) -> None:
        """Training on `clips` starts or goes on after `step` steps, `share` of all; forget what was logged
        past that."""


class Loop:
    """One training from its first or its last saved step to the end, by one process or by several.

    Several processes (ranks) see different samples of each step and add up their gradients, so that all of
    them hold the same weights, optimiser state and queues after it. This replaces DistributedDataParallel,
    which needs equal forward counts per rank; an epoch's last step may differ.
    """

    def __init__(
        self,
        objective: Objective,
        steps: Steps,
        clips_per_sample: int,
        augment: Augment,
        folder: Path,
        runtime: Runtime,
        callback: Callback,
        after_epoch: Callable[[int], Mapping[str, float]] | None = None,
    ) -> None:
        """`after_epoch` runs on rank 0, takes the number of epochs done and returns metrics, or none. It may
        look at the objective but must not change weights, buffers or modes."""
        self.device = runtime.torch_device()
        _check_pooling(objective.backbone, runtime)
        self.steps, self.runtime, self.callback = steps, runtime, callback
        # On a GPU some 200 operations become a few; a CPU does them clip by clip within its cache.
        compiles = runtime.compile and self.device.type == "cuda"
        self.augment = torch.compile(augment, dynamic=False) if compiles else augment
        self.clips_per_sample, self.after_epoch = clips_per_sample, after_epoch
        if steps.training.sync_bn:
            synchronise(objective)
        self.objective = to_device(objective, runtime).train()
        # Synchronised batch norm has exchanges of its own in backward.
        hidden = distributed.world_size() > 1 and not steps.training.sync_bn
        if runtime.compile:
            _compile(self.objective, in_parts=hidden)
        self.optimizer = steps.training.optimizer.build(objective.named_parameters())
        self.exchange = GradientExchange(objective.parameters(), hidden)
        self.folder, self.path = folder, folder / CHECKPOINT
        self.cost = CostMeter(self.device)
        self.monitor_seconds = 0.0
        self.meter, self.finite = Meter(), FiniteCheck()
        self.shown: dict[str, float] = {}
        self.step, self.share_was_read = 0, False
        if self.path.exists():
            self._resume()
        if len(set(distributed.all_gather_object(self.step))) > 1:
            raise VsslError(f"{self.path}: not all nodes see the same file yet; run again in a minute")
        callback.begin(self.step, self.step / steps.total, steps.samples * clips_per_sample)

    def run(self, batches: Iterator[list[Batch]]) -> None:
        """Train on this rank's `batches`, which must start at `self.step`; save at intervals and at the end.

        A signal to stop (`vssl.stop`) on any rank is obeyed by all after the same step, and after saving.
        """
        saved = time.monotonic()
        with stop.deferred(), arithmetic(self.steps.training.precision, self.runtime.deterministic):
            for micro_batches in batches:
                self._train_step(micro_batches)
                if self.step % self.steps.per_epoch == 0:
                    self._end_epoch(self.step // self.steps.per_epoch)
                is_due = time.monotonic() - saved >= self.runtime.save_every_s
                stopping, saving = distributed.any_rank(stop.requested(), is_due and distributed.rank() == 0)
                if stopping or saving or self.step == self.steps.total:
                    self._save()
                    saved = time.monotonic()
                if stopping:
                    stop.ask()
                    break

    def _train_step(self, micro_batches: Sequence[Batch]) -> None:
        training = self.steps.training
        lr = training.optimizer.lr * training.schedule.factor_at(self._progress().epochs, training.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        metrics = self._backward(micro_batches)
        if self.device.type == "cpu":
            self._check_finite()
        self.exchange.finish()
        if training.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._trained(), training.optimizer.clip_norm)
        self.optimizer.step()
        average_statistics(self.objective)
        self.step += 1
        progress = self._progress()
        self.objective.after_step(progress)
        self.share_was_read |= progress.share_was_read
        self._report(metrics, lr)

    def _progress(self) -> Progress:
        return Progress(self.step / self.steps.per_epoch, self.step / self.steps.total)

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _backward(self, micro_batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Accumulate this rank's part of the gradient of the mean loss over the effective batch; return its
        part of the mean metrics."""
        if self.device.type != "cpu":
            self._check_finite()  # of the step before
        self.optimizer.zero_grad(set_to_none=True)
        samples = self.steps.samples_in(self.step)
        means: dict[str, Tensor] = {}
        seeds = self.steps.seeds(self.step)
        for left, (host_batch, seed) in enumerate(zip(micro_batches, seeds, strict=True), 1 - len(seeds)):
            torch.manual_seed(seed)  # of dropout and the like; seeding each time leaves no state to save
            batch = deliver(host_batch, self.augment, self.runtime)
            with autocast(self.device, self.steps.training.precision):
                loss, metrics = self.objective(batch)
            share = len(batch["clips"]) / samples
            self.finite.note(self.step, host_batch["index"].tolist(), loss)
            if left == 0:
                self.exchange.begin()
            (loss * share).backward()
            for name, value in {"loss": loss, **metrics}.items():
                part = share * value.detach().double()
                means[name] = means[name] + part if name in means else part
        return means

    def _check_finite(self) -> None:
        if bad := self.finite.first_bad():
            step, indices, loss = bad
            raise Diverged(
                f"the loss is {loss} at step {step + 1} of {self.steps.total}; lower the learning rate "
                f"(training.optimizer.lr) or look at the videos of this batch: indices {indices}"
            )

    def _report(self, metrics: Mapping[str, Tensor], lr: float) -> None:
        self.meter.add(metrics)
        if self.step % self.runtime.log_every_steps == 0 or self.step == self.steps.total:
            epoch = 1 + (self.step - 1) // self.steps.per_epoch
            line = {**self.meter.read(), "lr": lr, "epoch": float(epoch)}
            self.shown = {"loss": line["loss"], "lr": lr, "waits": self.cost.waiting_share()}
            self.callback.log(line, self.step)
        self.callback.advance(self.steps.samples_in(self.step - 1) * self.clips_per_sample, **self.shown)

    def _end_epoch(self, epochs: int) -> None:
        """Look at the objective. This comes before saving, so that a resumed run has the same metrics; other
        ranks wait."""
        if self.after_epoch is not None and distributed.rank() == 0:
            began = time.monotonic()
            if metrics := self.after_epoch(epochs):
                self.callback.log({**metrics, "epoch": float(epochs)}, self.step)
            self.monitor_seconds += time.monotonic() - began
        distributed.wait_for_rank_0()

    def costs(self) -> Cost:
        """What the stage has cost so far, all ranks and earlier runs included."""
        whole = together(distributed.all_gather_object(self.cost.read()))
        return replace(whole, monitor_seconds=self.monitor_seconds)

    def _save(self) -> None:
        self._check_finite()
        state = {
            "step": self.step,
            "share_was_read": self.share_was_read,
            "cost": asdict(self.costs()),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state(),
        }
        if distributed.rank() == 0:
            save_checkpoint(self.path, state)
        distributed.barrier()

    def _resume(self) -> None:
        saved = load_checkpoint(self.path, self.device)
        self.objective.load_state_dict(saved["objective"])
        _restore(self.optimizer, saved["optimizer"])
        self.step = saved["step"]
        self.share_was_read = saved.get("share_was_read", False)  # older checkpoints do not say
        self.meter.load(saved["meter"])
        if distributed.rank() == 0:
            self.cost.before = Cost(**saved["cost"])
            self.monitor_seconds = self.cost.before.monitor_seconds


def _check_pooling(backbone: Backbone, runtime: Runtime) -> None:
    """Raise `OptionError` for a backbone that cannot be trained deterministically on the device."""
    pools = any(isinstance(part, UNSTEADY) for part in backbone.modules())
    trained = any(parameter.requires_grad for parameter in backbone.parameters())
    if runtime.torch_device().type == "cuda" and runtime.deterministic and pools and trained:
        without = f"of which torch {torch.__version__} has no deterministic gradient on GPUs"
        raise OptionError(
            "runtime.deterministic",
            True,
            f"{type(backbone).__name__} pools, {without}",
            "say false, choose a backbone of strided convolutions, or for maxima torch 2.13 or newer",
        )


def _compile(objective: Objective, in_parts: bool) -> None:
    """Compile both ways through a backbone, for each size of a batch on its own: what serves all sizes is
    slower, and a run that goes on after the first small batch would come to it later than one that has seen
    it. `in_parts`: so that gradients can be exchanged during backward."""
    torch.compiler.reset()  # what earlier stages compiled counts towards torch's limit
    how: dict[str, Any] = {"dynamic": False}
    if in_parts:
        how["backend"] = compiler_in_parts(BUCKET_BYTES)
    for module in objective.modules():
        if isinstance(module, Backbone):
            module.compile(**how)
            module.feature_map = torch.compile(module.feature_map, **how)  # type: ignore[method-assign]
        elif isinstance(module, SyncedBatchNorm):
            # Compiled by torch 2.11, its exchange loses the gradient of mean and variance.
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign, no-untyped-call]


def _restore(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimiser's state, but keep the layout in memory and the kernels of this run: the run that
    saved it may have had another device."""
    kernels = [{name: group[name] for name in ("fused", "foreach")} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, kernels, strict=True):
        group.update(own)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                # Adam's count of steps is one number, whatever the shape of the parameter.
                like = parameter if value.shape == parameter.shape else value.to(parameter.device)
                state[name] = torch.empty_like(like).copy_(value)
