"""The loop on a small problem: resume, accumulation, and what stops it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import RUNTIME, sgd, step_decay, training
from vssl.engine.checkpoint import load_checkpoint, save, save_checkpoint
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.engine.optimizers import LARS, AdamW
from vssl.errors import VsslError
from vssl.types import Backbone, Objective, StepOutput


class Mean(Backbone):
    feature_dim = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, clips_BCTHW):
        return (clips_BCTHW.mean(dim=(2, 3, 4)) * self.weight).sum(1, keepdim=True)


class Regression(Objective):
    """Has dropout (needs the generator) and a buffer that after_step moves (needs to be saved)."""

    def __init__(self):
        super().__init__()
        self.backbone = Mean()
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(()))
        self.progress = []

    def forward(self, batch):
        error = self.dropout(self.backbone(batch["clips"][:, 0])) - batch["label"][:, None]
        loss = (error**2).mean()
        return StepOutput(loss, {"error": error.abs().mean()})

    def after_step(self, progress):
        self.seen += 1
        self.progress.append((progress.epochs, progress.share))


class Recorder:
    def __init__(self):
        self.lines, self.clips, self.began = {}, 0, []

    def begin(self, step, share, clips):
        self.lines = {s: line for s, line in self.lines.items() if s <= step}
        self.began.append((step, share))

    def advance(self, clips, **shown):
        self.clips += clips

    def log(self, metrics, step):
        self.lines[step] = dict(metrics)


def make_batches(steps, start, poison=None):
    for step in range(start, steps.total):
        batches = []
        for micro in steps.micro_batches(step):
            g = torch.Generator().manual_seed(micro[0][0] * 100 + micro[0][1])
            clips = torch.stack([torch.rand((1, 3, 2, 2, 2), generator=g) + at[1] for at in micro])
            label = torch.tensor([float(at[1]) for at in micro])
            if step == poison:
                label[0] = math.nan
            batches.append({"clips": clips, "label": label, "index": torch.tensor([a[1] for a in micro])})
        yield batches


def make_loop(
    folder,
    *,
    micro_batch=2,
    log_every=2,
    recorder=None,
    dropout=True,
    epochs=4,
    after_epoch=None,
    optimizer=None,
    schedule=None,
):
    torch.manual_seed(0)
    recipe = training(
        epochs=epochs,
        micro_batch=micro_batch,
        optimizer=optimizer or sgd(lr=1e-4, weight_decay=1e-3),
        schedule=schedule or step_decay(every_epochs=2, factor=0.1),
    )
    runtime = replace(RUNTIME, threads=None, save_every_s=0.0, log_every_steps=log_every)
    objective = Regression()
    if not dropout:
        objective.dropout = nn.Identity()
    steps = Steps(10, recipe, seed=3)
    recorder = recorder or Recorder()
    return Loop(objective, steps, 1, lambda batch: batch["clips"], folder, runtime, recorder, after_epoch)


def test_a_training_that_stops_at_any_step_continues_bit_for_bit(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = make_loop(tmp_path / "whole")
    whole.run(make_batches(whole.steps, 0))
    for stop in range(1, whole.steps.total):
        folder = tmp_path / str(stop)
        folder.mkdir()
        recorder = Recorder()
        first = make_loop(folder, recorder=recorder)
        batches = make_batches(first.steps, 0)
        first.run(next(batches) for _ in range(stop))
        second = make_loop(folder, recorder=recorder)
        assert second.step == stop
        second.run(make_batches(second.steps, second.step))
        assert_same(second.objective.state_dict(), whole.objective.state_dict())
        assert recorder.lines == whole.callback.lines
        assert recorder.began == [(0, 0.0), (stop, stop / whole.steps.total)]


COMMON = {"weight_decay": 0.05, "decay_norm_and_bias": False, "clip_norm": 0.5}
OPTIMIZERS = {
    "sgd": sgd(lr=1e-3, **COMMON),
    "adamw": AdamW(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, **COMMON),
    "lars": LARS(lr=1.0, momentum=0.9, trust=0.01, **COMMON),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_continues_bit_for_bit(tmp_path, name):
    """With a warm-up that the stop falls into."""
    schedule = step_decay(warmup_epochs=2.5)
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    made = [make_loop(folder, optimizer=OPTIMIZERS[name], schedule=schedule) for folder in folders]
    made[0].run(make_batches(made[0].steps, 0))
    batches = make_batches(made[1].steps, 0)
    made[1].run(next(batches) for _ in range(4))
    again = make_loop(folders[1], optimizer=OPTIMIZERS[name], schedule=schedule)
    again.run(make_batches(again.steps, again.step))
    assert_same(again.objective.state_dict(), made[0].objective.state_dict())
    assert not torch.equal(again.objective.backbone.weight.detach(), torch.ones(3))


def test_the_count_of_steps_of_adam_stays_one_number_in_a_run_that_goes_on(tmp_path):
    """Also where the run that saved it computed by other kernels."""
    first = make_loop(tmp_path, optimizer=OPTIMIZERS["adamw"])
    batches = make_batches(first.steps, 0)
    first.run(next(batches) for _ in range(3))
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    saved["optimizer"]["param_groups"][0].update(fused=True, foreach=False)  # as on a GPU
    save_checkpoint(tmp_path / "checkpoint.pt", saved)
    [state] = make_loop(tmp_path, optimizer=OPTIMIZERS["adamw"]).optimizer.state.values()
    assert (state["step"].shape, state["step"].item(), state["exp_avg"].shape) == ((), 3, (3,))


def test_the_gradient_is_clipped_before_the_step(tmp_path):
    """Plain SGD at a learning rate of 1 moves by the gradient itself."""
    loop = make_loop(tmp_path, optimizer=sgd(lr=1.0, momentum=0.0, clip_norm=0.25), schedule=step_decay())
    loop.run(next(make_batches(loop.steps, 0)) for _ in range(1))
    assert (loop.objective.backbone.weight.detach() - 1).norm() == pytest.approx(0.25, rel=1e-4)


def test_a_group_may_have_a_learning_rate_of_its_own(tmp_path):
    loop = make_loop(tmp_path)
    loop.optimizer.param_groups[0]["lr_scale"] = 10.0
    loop.run(next(make_batches(loop.steps, 0)) for _ in range(1))
    assert loop.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_the_objective_is_told_of_progress_after_each_step(tmp_path):
    loop = make_loop(tmp_path)
    loop.run(make_batches(loop.steps, 0))
    assert loop.objective.progress == [(n / 3, n / 12) for n in range(1, 13)]


def test_a_run_goes_on_with_its_own_kernels_not_with_those_of_the_device_that_saved(tmp_path):
    first = make_loop(tmp_path)
    batches = make_batches(first.steps, 0)
    first.run(next(batches) for _ in range(3))
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    saved["optimizer"]["param_groups"][0].update(fused=True, foreach=False)  # as on a GPU
    save_checkpoint(tmp_path / "checkpoint.pt", saved)
    [group] = make_loop(tmp_path).optimizer.param_groups
    assert (group["fused"], group["foreach"]) == (False, True)


def assert_same(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path):
    loops = []
    for micro in (4, 1):
        folder = tmp_path / str(micro)
        folder.mkdir()
        loop = make_loop(folder, micro_batch=micro, dropout=False)
        loop.run(whole_batches(loop.steps))
        loops.append(loop)
    one, two = (loop.objective.backbone.weight for loop in loops)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)
    for step, line in loops[0].callback.lines.items():
        assert loops[1].callback.lines[step] == pytest.approx(line, rel=1e-5)


def whole_batches(steps):
    """Batches whose samples do not depend on how the step is cut."""
    for step in range(steps.total):
        batches = []
        for micro in steps.micro_batches(step):
            clips = torch.stack([torch.full((1, 3, 2, 2, 2), 0.1 * at[1]) for at in micro])
            label = torch.tensor([float(at[1]) for at in micro])
            batches.append({"clips": clips, "label": label, "index": label.long()})
        yield batches


def test_the_learning_rate_follows_the_schedule_and_is_logged(tmp_path):
    loop = make_loop(tmp_path, log_every=3)
    loop.run(make_batches(loop.steps, 0))
    assert {step: line["lr"] for step, line in loop.callback.lines.items()} == pytest.approx(
        {3: 1e-4, 6: 1e-4, 9: 1e-5, 12: 1e-5}
    )


def test_metrics_are_means_over_the_steps_since_the_last_line(tmp_path):
    folders = [tmp_path / "each", tmp_path / "pairs"]
    for folder in folders:
        folder.mkdir()
    each, pairs = make_loop(folders[0], log_every=1), make_loop(folders[1], log_every=2)
    for loop in (each, pairs):
        loop.run(make_batches(loop.steps, 0))
    single = each.callback.lines
    assert pairs.callback.lines[2]["loss"] == pytest.approx((single[1]["loss"] + single[2]["loss"]) / 2)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    loop = make_loop(tmp_path)
    batches = make_batches(loop.steps, 0, poison=2)
    with pytest.raises(VsslError, match=r"the loss is nan at step 3 of 12; lower the learning rate"):
        loop.run(batches)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert saved["step"] == 2
    torch.testing.assert_close(
        loop.objective.backbone.weight.detach(), saved["objective"]["backbone.weight"], rtol=0, atol=0
    )


def test_progress_counts_clips(tmp_path):
    loop = make_loop(tmp_path)
    loop.run(make_batches(loop.steps, 0))
    assert loop.callback.clips == 4 * 10


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
    save(tmp_path / "checkpoint.pt", {"format": 99})
    with pytest.raises(VsslError, match="written by a newer vssl"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_damaged_file_of_weights_is_named(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"not weights")
    with pytest.raises(VsslError, match=r"w\.pt: damaged, or not a file of tensors"):
        load_checkpoint(tmp_path / "w.pt")


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VsslError, match="no GPU is visible"):
        replace(RUNTIME, device="cuda").torch_device()


def test_after_each_epoch_somebody_may_look(tmp_path):
    """Three steps an epoch. A look comes before saving: one that dies is repeated, and costs add up."""
    looks, recorder = [], Recorder()

    def look(epochs):
        saved = load_checkpoint(tmp_path / "checkpoint.pt", "cpu")["step"]
        looks.append((epochs, saved))
        if looks == [(1, 2), (2, 5)]:
            raise KeyboardInterrupt
        return {"seen": float(epochs)} if epochs % 2 == 0 else {}

    loop = make_loop(tmp_path, log_every=5, recorder=recorder, after_epoch=look)
    with pytest.raises(KeyboardInterrupt):
        loop.run(make_batches(loop.steps, 0))
    again = make_loop(tmp_path, log_every=5, recorder=recorder, after_epoch=look)
    before = again.monitor_seconds
    assert before > 0
    again.run(make_batches(again.steps, again.step))
    assert looks == [(1, 2), (2, 5), (2, 5), (3, 8), (4, 11)]
    assert {step: line for step, line in recorder.lines.items() if "seen" in line} == {
        6: {"seen": 2.0, "epoch": 2.0},
        12: {"seen": 4.0, "epoch": 4.0},
    }
    assert again.costs().monitor_seconds > before
