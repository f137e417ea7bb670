"""Processes that train together on GPUs, against one process on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from conftest import ROOT
from gpu.conftest import DEVICE, IS_GPU
from gpu.trainings import DROPPING, EXACT, apart, spec_of, trained
from vssl import distributed
from vssl.dispatch.slots import rank_variables, visible_gpus
from vssl.engine import exchange

NAMES = ["vspp", "rspnet", "ascnet_style", DROPPING, "auxskd of vspp", "compress of vspp", "finetune"]


def together(name, folder, gpus):
    """What each of two processes comes to; they see so many of the GPUs that this one sees."""
    variables = os.environ | {
        "CUDA_VISIBLE_DEVICES": ",".join(visible_gpus(os.environ, min(gpus, torch.cuda.device_count()))),
        "VSSL_TEST_DEVICE": DEVICE,
    }
    command = [sys.executable, str(Path(__file__).with_name("process.py")), name, str(folder)]
    started = [
        subprocess.Popen(command, cwd=ROOT, env={**variables, **own}, stderr=subprocess.PIPE, text=True)
        for own in rank_variables(2)
    ]
    for process in started:
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one(name, gpus, tmp_path, close):
    """Through gloo where they share a GPU, else through NCCL."""
    if IS_GPU and torch.cuda.device_count() < gpus:
        pytest.skip(f"needs {gpus} GPUs")
    alone = trained(spec_of(name), EXACT)
    one, two = together(name, tmp_path, gpus)
    assert torch.equal(one["moved"], two["moved"])
    assert one["losses"] == two["losses"]
    close(f"two processes against one: {gpus} GPUs", name, apart(one["moved"], alone.moved), 1e-3)


@pytest.fixture
def group_of_one(tmp_path):
    """A process group, though this process is alone in it: what NCCL can be asked for with one GPU."""
    backend = "cpu:gloo,cuda:nccl" if IS_GPU else "gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_nccl_exchanges_with_one_process(group_of_one):
    rows = torch.arange(6.0, device=DEVICE).view(3, 2)
    assert torch.equal(distributed.all_reduce(rows.clone()), rows)
    assert torch.equal(distributed.start_all_reduce(rows.clone())(), rows)
    assert torch.equal(distributed.all_gather_rows(rows), rows)
    assert distributed.any_rank(True, False) == [True, False]
    assert distributed.broadcast_object("first") == "first"
    assert distributed.all_gather_object(4) == [4]
    distributed.barrier()


def test_nccl_sums_gradients_during_backward(group_of_one, monkeypatch):
    """In several buckets. One process leaves that out, unless it takes itself for one of two."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 100)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 1)).to(DEVICE)
    unused = nn.Parameter(torch.ones(3, device=DEVICE))
    parameters = [unused, *net.parameters()]
    own = torch.autograd.grad(net(torch.ones(2, 4, device=DEVICE)).sum(), parameters[1:])
    sums = exchange.GradientExchange(parameters, hidden=True)
    sent = []
    start = distributed.start_all_reduce
    monkeypatch.setattr(distributed, "start_all_reduce", lambda bucket: sent.append(bucket) or start(bucket))
    sums.begin()
    net(torch.ones(2, 4, device=DEVICE)).sum().backward()
    assert len(sent) == len(sums.buckets) - 1 >= 3  # that of the parameter without a gradient waits
    sums.finish()
    assert len(sent) == len(sums.buckets)
    assert unused.grad is None
    for parameter, gradient in zip(parameters[1:], own, strict=True):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_of_one_trains_as_a_process_alone(name, request):
    alone = trained(spec_of(name), EXACT)
    request.getfixturevalue("group_of_one")
    assert torch.equal(trained(spec_of(name), EXACT).moved, alone.moved)
