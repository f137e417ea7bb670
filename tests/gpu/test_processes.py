"""Processes that train together on GPUs, against one process on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from conftest import ROOT
from gpu.conftest import DEVICE, IS_GPU
from gpu.trainings import DROPPING, EXACT, apart, spec_of, trained
from vssl import distributed
from vssl.dispatch.slots import rank_variables

NAMES = ["vspp", "rspnet", "ascnet_style", DROPPING, "auxskd of vspp", "compress of vspp", "finetune"]


def together(name, folder, gpus):
    """What each of two processes comes to; they see so many GPUs."""
    variables = os.environ | {
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))),
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
    assert torch.equal(distributed.all_gather_rows(rows), rows)
    assert distributed.any_rank(True, False) == [True, False]
    assert distributed.broadcast_object("first") == "first"
    assert distributed.all_gather_object(4) == [4]
    distributed.barrier()


@pytest.mark.parametrize("name", NAMES)
def test_a_group_of_one_trains_as_a_process_alone(name, request):
    alone = trained(spec_of(name), EXACT)
    request.getfixturevalue("group_of_one")
    assert torch.equal(trained(spec_of(name), EXACT).moved, alone.moved)
