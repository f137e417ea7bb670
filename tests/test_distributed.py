"""Several processes that train one stage: what they exchange, and that together they do what one does."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from torch import nn

from conftest import ROOT, RUNTIME, sgd, step_decay, training
from multiprocess import pretrain, run_together, weights
from vssl import distributed
from vssl.dispatch.slots import rank_variables
from vssl.engine.checkpoint import load_checkpoint
from vssl.engine.loader import Steps
from vssl.engine.loop import Loop
from vssl.errors import VsslError
from vssl.nn.batch_norm import in_shuffled_order, synchronise
from vssl.nn.contrast import KeyQueue
from vssl.types import Backbone, Objective, StepOutput

PARTS = [torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([[7.0, 8.0]])]


def exchanges():
    mine = PARTS[distributed.rank()]
    return {
        "rows": distributed.all_gather_rows(mine).tolist(),
        "any": distributed.any_rank(distributed.rank() == 1, False),
        "first": distributed.broadcast_object(f"from {distributed.rank()}"),
        "all": distributed.all_gather_object(distributed.rank() * 10),
        "sum": distributed.all_reduce(torch.tensor([1.0, distributed.rank()])).tolist(),
    }


def test_what_ranks_exchange_is_the_same_on_all():
    one, two = run_together(exchanges)
    assert one == two
    assert one == {
        "rows": [[1, 2], [3, 4], [5, 6], [7, 8]],
        "any": [True, False],
        "first": "from 0",
        "all": [0, 10],
        "sum": [2, 1],
    }


def flags_and_rows():
    rank = distributed.rank()
    rows = torch.arange(rank)[:, None] + 10 * rank
    return distributed.any_rank(rank == 4, rank % 2 == 1, False), distributed.all_gather_rows(rows).tolist()


@pytest.mark.parametrize("processes", [5, distributed.MANY, 11])
def test_more_than_two_ranks_agree(processes):
    """In a ring, or through rank 0."""
    rows = [[10 * rank + row] for rank in range(processes) for row in range(rank)]
    answer = ([True, True, False], rows)
    assert run_together(flags_and_rows, processes=processes) == [answer] * processes


MEET = """
from pathlib import Path
from vssl import distributed
with distributed.init_distributed(60.0):
    distributed.wait_for_rank_0()
names = [thread.read_text() for thread in Path("/proc/self/task").glob("*/comm")]
print([name for name in names if "gloo" in name or "tcpstore" in name])
"""


def test_processes_that_have_parted_keep_no_thread_of_their_group():
    """One that is still there when the process ends can abort it ("terminate called without ...")."""
    command = [sys.executable, "-c", MEET]
    parted = [
        subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=subprocess.PIPE, text=True)
        for own in rank_variables(2)
    ]
    assert [process.communicate(timeout=100)[0] for process in parted] == ["[]\n", "[]\n"]


@pytest.mark.parametrize(
    ("gpus", "differ"),
    [(["GPU-a", "GPU-b"], True), (["GPU-a", "GPU-a"], False), (["", ""], False), (["GPU-a", ""], False)],
)
def test_nccl_is_for_processes_with_a_gpu_each(monkeypatch, gpus, differ):
    """Whichever number it has for each: a scheduler may show a process its own GPU alone."""
    store = torch.distributed.HashStore()
    store.set("gpu of 1", gpus[1])
    monkeypatch.setattr(distributed, "_gpu", lambda: gpus[0])
    assert distributed._gpus_differ(store, 0, 2) is differ


def test_one_process_alone_exchanges_with_itself():
    assert distributed.all_gather_rows(PARTS[0]) is PARTS[0]
    assert (
        distributed.rank(),
        distributed.world_size(),
        distributed.broadcast_object(3),
        distributed.all_gather_object(4),
    ) == (0, 1, 3, [4])
    assert distributed.any_rank(True, False) == [True, False]


class Net(Backbone):
    """A convolution and a linear layer; between them batch norm, if asked for."""

    feature_dim = 3

    def __init__(self, norm):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 2)
        self.norm = nn.BatchNorm3d(4) if norm else nn.Identity()
        self.linear = nn.Linear(4, 3)

    def forward(self, clips_BCTHW):
        return self.linear(self.norm(self.conv(clips_BCTHW)).relu().mean(dim=(2, 3, 4)))


class WithQueue(Objective):
    """A loss with dropout, a queue, and a parameter that is never used."""

    def __init__(self, norm, dropout):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.backbone = Net(norm)
        self.unused = nn.Parameter(torch.ones(2))
        self.queue = KeyQueue(10, 3, "rows")

    def forward(self, batch):
        features_BD = self.backbone(batch["clips"][:, 0])
        self.queue.hold(features_BD)
        loss = self.dropout(features_BD).square().mean() + (features_BD @ self.queue.keys.T).mean()
        return StepOutput(loss, {"mean": features_BD.mean()})

    def after_step(self, progress):
        self.queue.enqueue_held()


class Lines:
    def __init__(self):
        self.lines, self.clips = {}, 0

    def begin(self, step, share, clips):
        pass

    def advance(self, clips, **shown):
        self.clips += clips

    def log(self, metrics, step):
        self.lines[step] = dict(metrics)


def clip(index):
    return torch.rand(1, 3, 3, 4, 4, generator=torch.Generator().manual_seed(index), dtype=torch.float64)


def batches(steps, start):
    for step in range(start, steps.total):
        yield [
            {
                "clips": torch.stack([clip(at[1]) for at in micro]),
                "index": torch.tensor([at[1] for at in micro]),
            }
            for micro in steps.mine(step)
        ]


def train(folder, recipe, norm=False, dropout=0.3, stop_after=None, log_every=2, looks=None, **asked):
    """Train the small net; returns its state, the lines of metrics, and the clips that were counted."""
    torch.manual_seed(0)
    recipe = training(
        **{
            "optimizer": sgd(lr=0.05, weight_decay=1e-2),
            "schedule": step_decay(every_epochs=2, factor=0.1),
            **recipe,
        }
    )
    steps = Steps(11, recipe, seed=3)
    lines = Lines()
    runtime = dataclasses.replace(RUNTIME, save_every_s=0.0, log_every_steps=log_every, **asked)
    objective = WithQueue(norm, dropout).double()
    loop = Loop(objective, steps, 1, lambda batch: batch["clips"], folder, runtime, lines, looks)
    stream = batches(steps, loop.step)
    loop.run(stream if stop_after is None else (next(stream) for _ in range(stop_after)))
    return {k: v.clone() for k, v in objective.state_dict().items()}, lines.lines, lines.clips


def close(one, two, **tolerance):
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], two[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


NOTHING_LEFT = {"batch_size": 8, "micro_batch": 4}
"""With 11 samples: the second rank has none in the last step of an epoch."""


@pytest.mark.parametrize("recipe", [{}, {"drop_last": True}, {"micro_batch": 1}, NOTHING_LEFT])
def test_two_ranks_do_what_one_does_with_accumulation(tmp_path, recipe):
    """Also with 11 samples in batches of 4, where the last step of an epoch is not full and not even."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = train(tmp_path / "one", recipe, log_every=1)
    together = run_together(partial(train, log_every=1), tmp_path / "two", recipe)
    close(together[0][0], together[1][0], rtol=0, atol=0)
    close(together[0][0], alone[0], rtol=1e-9, atol=1e-12)
    assert together[0][1].keys() == alone[1].keys()
    for step, line in alone[1].items():
        assert together[0][1][step] == pytest.approx(line, rel=1e-9)
    assert together[0][2] == alone[2]


def test_synchronised_batch_norm_sees_the_whole_micro_batch(tmp_path):
    recipe = {"sync_bn": True, "drop_last": True, "micro_batch": 4, "epochs": 4}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    # No dropout: its masks are drawn for each part of a micro-batch.
    alone = train(tmp_path / "one", recipe, True, 0.0)
    one, two = run_together(train, tmp_path / "two", recipe, True, 0.0)
    close(one[0], two[0], rtol=0, atol=0)
    close(one[0], alone[0], rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
@pytest.mark.parametrize("synced", ["true", "false"])
def test_a_compiled_backbone_learns_the_same(tmp_path, synced):
    micro_batch = 8 if synced == "true" else 4
    recipe = (
        "auxiliary=none",
        f"pretext.training.sync_bn={synced}",
        f"pretext.training.micro_batch={micro_batch}",
        "pretext.training.drop_last=true",
    )
    for name, asked in (("eager", "false"), ("compiled", "true")):
        pretrain(tmp_path / name, 2, *recipe, f"runtime.compile={asked}")
    eager, compiled = (weights(tmp_path / name)["pretext"] for name in ("eager", "compiled"))
    close(compiled, eager, rtol=1e-3, atol=1e-5)


def test_without_it_ranks_agree_on_running_statistics(tmp_path):
    one, two = run_together(train, tmp_path, {"drop_last": True}, True)
    close(one[0], two[0], rtol=0, atol=0)
    assert not torch.equal(one[0]["backbone.norm.running_mean"], torch.zeros(4, dtype=torch.float64))


def stopped_and_resumed(folder, recipe):
    train(folder, recipe, norm=True, stop_after=3)
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 3
    return train(folder, recipe, norm=True)


@pytest.mark.parametrize("recipe", [{"drop_last": True}, NOTHING_LEFT])
def test_two_ranks_that_stop_continue_bit_for_bit(tmp_path, recipe):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = run_together(train, tmp_path / "whole", recipe, True)
    parts = run_together(stopped_and_resumed, tmp_path / "parts", recipe)
    for one, two in zip(whole, parts, strict=True):
        for state in (one[0], two[0]):
            del state["backbone.norm.num_batches_tracked"]  # goes on from that of rank 0
        close(one[0], two[0], rtol=0, atol=0)
        for step in (4, 6):
            assert two[1][step] == pytest.approx(one[1][step], rel=1e-12)


def lying_otherwise(folder, **asked):
    """What a training with `channels_last` shows its optimiser that lies in memory unlike its parameter."""
    found, step = [], torch.optim.SGD.step

    def look(optimizer):
        for parameter in (one for group in optimizer.param_groups for one in group["params"]):
            beside = [parameter.grad, optimizer.state[parameter].get("momentum_buffer")]
            found.extend(one for one in beside if one is not None and one.stride() != parameter.stride())
        step(optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", look)
        state, *_ = train(folder, {"drop_last": True}, channels_last=True, **asked)
    assert state["backbone.conv.weight"].is_contiguous(memory_format=torch.channels_last_3d)
    return len(found)


def test_gradients_of_several_ranks_lie_as_their_parameters(tmp_path):
    """A fused optimiser, as on a GPU, refuses others."""
    assert run_together(lying_otherwise, tmp_path) == [0, 0]


def test_momentum_of_another_layout_is_laid_out_anew(tmp_path):
    train(tmp_path, {"drop_last": True}, stop_after=3)
    assert lying_otherwise(tmp_path) == 0


def normalised_in_16_bits():
    norm = nn.Sequential(nn.BatchNorm3d(1))
    synchronise(norm)
    generator = torch.Generator().manual_seed(distributed.rank())
    clips = 10 + torch.randn(4, 1, 7, 7, 7, generator=generator)  # 1372 numbers: more than 8 bits can count
    output = norm(clips.bfloat16())
    return clips, output.dtype, output.detach().float(), norm[0].running_mean


def test_synchronised_batch_norm_counts_in_32_bits():
    (one, dtype, output_one, mean), (two, _, output_two, _) = run_together(normalised_in_16_bits)
    both = torch.cat([one, two])
    assert dtype == torch.bfloat16
    torch.testing.assert_close(mean, 0.1 * both.mean().reshape(1), rtol=1e-4, atol=0)
    expected = (both - both.mean()) / both.std(correction=0)
    torch.testing.assert_close(torch.cat([output_one, output_two]), expected, rtol=0.01, atol=0.05)


def far_from_zero():
    """Output, gradient and running statistics of numbers at mean/std = 1000; ranks have unlike parts."""
    together = nn.Sequential(nn.BatchNorm3d(2))
    synchronise(together)
    clips = distant_clips(distributed.rank()).requires_grad_()
    output = together(clips)
    (output * weights_of_loss(distributed.rank())).sum().backward()
    gradients = [clips.grad, distributed.all_reduce(together[0].weight.grad), output.detach()]
    return gradients, [name for name, _ in together.named_parameters()], together.state_dict()


def distant_clips(rank):
    noise = torch.randn(3 + rank, 2, 4, 5, 5, generator=torch.Generator().manual_seed(rank))
    return (
        noise * torch.tensor([1.0, 0.01])[:, None, None, None] + torch.tensor([1000, 10])[:, None, None, None]
    )


def weights_of_loss(rank):
    return torch.randn(3 + rank, 2, 4, 5, 5, generator=torch.Generator().manual_seed(10 + rank))


def test_synchronised_batch_norm_is_torchs_own_where_the_mean_is_a_thousand_times_the_deviation():
    one, two = run_together(far_from_zero)
    reference = nn.Sequential(nn.BatchNorm3d(2))
    clips = torch.cat([distant_clips(0), distant_clips(1)]).requires_grad_()
    output = reference(clips)
    (output * torch.cat([weights_of_loss(0), weights_of_loss(1)])).sum().backward()
    for found, expected in zip(zip(one[0], two[0], strict=True), [clips.grad, None, output], strict=True):
        if expected is not None:
            torch.testing.assert_close(torch.cat(found), expected.detach(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one[0][1], reference[0].weight.grad, rtol=1e-3, atol=1e-2)
    assert one[1] == [name for name, _ in reference.named_parameters()]
    close(one[2], reference.state_dict(), rtol=1e-4, atol=1e-6)
    close(one[2], two[2], rtol=0, atol=0)


def seeing_another_checkpoint(folder):
    if distributed.rank() == 1:  # a network file system that does not show what rank 0 has written
        folder = folder / "empty"
        folder.mkdir()
    try:
        train(folder, {"drop_last": True})
    except VsslError as error:
        return str(error)
    return "nothing happened"


def test_ranks_that_see_different_checkpoints_refuse_to_train(tmp_path):
    train(tmp_path, {"drop_last": True}, stop_after=3)
    answers = run_together(seeing_another_checkpoint, tmp_path)
    assert all("not all nodes see the same file yet" in answer for answer in answers)


def shuffled():
    mine = torch.arange(4.0)[:, None] + 4 * distributed.rank()
    torch.manual_seed(distributed.rank())
    seen = []

    def encode(rows):
        seen.extend(rows[:, 0].tolist())
        return rows * 10

    return in_shuffled_order(encode, mine)[:, 0].tolist(), seen


def test_shuffled_clips_come_back_to_their_own_rank_in_order():
    (one, seen_one), (two, seen_two) = run_together(shuffled)
    assert (one, two) == ([0, 10, 20, 30], [40, 50, 60, 70])
    assert sorted(seen_one + seen_two) == list(range(8))
    assert set(seen_one) != set(range(4))


def test_alone_nothing_can_be_shuffled():
    with pytest.raises(VsslError, match=r"^shuffle_bn=true: needs several processes; say false"):
        in_shuffled_order(nn.Identity(), torch.ones(2, 1))


def steps_of(recipe):
    values = {"epochs": 1, "batch_size": 8, "micro_batch": 8, "drop_last": True}
    try:
        steps = Steps(20, training(**{**values, **recipe}), seed=0)
    except VsslError as error:
        return str(error)
    return [[at[1] for at in micro] for micro in steps.mine(0)], steps.seeds(0)


def test_ranks_share_micro_batches_or_say_how_they_could():
    alone, seeds = steps_of({"micro_batch": 2})
    one, two = run_together(steps_of, {"micro_batch": 2})
    assert one[0] + two[0] == alone
    assert one[1] + two[1] == seeds
    assert len(set(seeds)) == 4
    refused = run_together(steps_of, {})
    assert refused[0] == refused[1]
    assert "choose micro_batch=4 or less, which is what batch norm sees, or say sync_bn=true" in refused[0]
    split = run_together(steps_of, {"sync_bn": True})
    assert split[0][0][0] + split[1][0][0] == steps_of({})[0][0]
    assert "choose a multiple of 2" in run_together(steps_of, {"sync_bn": True, "micro_batch": 1})[0]


def test_ranks_that_end_at_once_do_not_cut_one_another_off():
    for _ in range(5):
        assert run_together(distributed.rank, processes=3) == [0, 1, 2]


def lost(rank, wait):
    if distributed.rank() == rank:
        os._exit(0)
    try:
        wait()
    except distributed.LostRank as error:
        return str(error)
    return "nothing happened"


@pytest.mark.parametrize("processes", [2, distributed.MANY])
@pytest.mark.parametrize("wait", [distributed.barrier, distributed.wait_for_rank_0])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_gone_is_an_error_on_the_others(rank, wait, processes):
    answers = run_together(lost, rank, wait, processes=processes, gone=1, patience_s=20.0)
    assert len(answers) == processes - 1
    for answer in answers:
        assert answer.startswith("another process of this stage is gone or does not answer")


def fails(error):
    def exchange():
        raise error

    return exchange


def test_what_nccl_died_of_is_told():
    """In the documentation's form: a container whose shared memory is too small for NCCL."""
    said = (
        "NCCL error in: NCCLUtils.cpp:94, unhandled system error (run with NCCL_DEBUG=INFO for details)\n"
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed.\nLast error:\n"
        "Error while creating shared memory segment /dev/shm/nccl-Ab (size 33030528), error: No space left"
    )
    with pytest.raises(distributed.LostRank, match=r"\(Error while creating .* No space left\); log\.txt"):
        distributed._exchange(fails(RuntimeError(said)))


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_an_error_of_this_ranks_gpu_is_no_other_ranks(kind):
    with pytest.raises(kind):
        distributed._exchange(fails(kind("CUDA error: an illegal memory access was encountered")))


def slow_look(folder):
    if distributed.rank() > 0:
        return train(folder, {"epochs": 1}, looks=lambda epochs: {})
    return train(folder, {"epochs": 1}, looks=lambda epochs: time.sleep(4) or {"seen": 1.0})


def test_ranks_wait_for_a_look_longer_than_for_anything_else(tmp_path):
    one, _ = run_together(slow_look, tmp_path, patience_s=3.0)
    assert one[1][3]["seen"] == 1.0


def test_the_words_for_a_step_count_its_samples():
    recipe = training(batch_size=12)
    assert recipe.shared_out(2) == "2 processes x 3 micro-batches of 2"
    assert dataclasses.replace(recipe, sync_bn=True).shared_out(2) == "2 processes x 1 videos, 6 times"
