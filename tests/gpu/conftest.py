"""Tests of a GPU: against the CPU, and against itself computing in other ways.

VSSL_TEST_DEVICE=cpu (`make test-gpu DEVICE=cpu`) runs them without one: then they show that they run, and
what fewer bits do to a step (rounding.py). How far results lie apart is kept as a table,
outputs/bench/differences.json.
"""

import os
from collections import defaultdict

import pytest
import torch

from benchmarks.measuring import Table, environment, markdown, write
from vssl.cores import usable_cores

DEVICE = os.environ.get("VSSL_TEST_DEVICE", "cuda")
IS_GPU = DEVICE == "cuda"

# torch 2.9 reads it once, at the first matrix product, which may come before the first deterministic test.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

found = defaultdict(dict)


def pytest_collection_modifyitems(items):
    here = [item for item in items if "gpu" in item.path.parts]
    for item in here:
        item.add_marker(pytest.mark.gpu)
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
        if IS_GPU and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU is visible to torch"))


def group_of(item):
    """Tests that share what they compute run in one process: all of a training, all pipelines."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return f"{item.path.stem}-{params.get('name') or params.get('backbone')}"


def pytest_xdist_auto_num_workers():
    """Four processes, or fewer if the GPU lacks room: the largest backbones take some 8 GiB."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist reads it
    if not IS_GPU or not torch.cuda.is_available():
        return 4
    return max(1, min(4, torch.cuda.get_device_properties(0).total_memory // (10 * 2**30)))


@pytest.fixture(scope="session", autouse=True)
def threads():
    """Processes that test side by side share the cores."""
    torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture
def close(record_property):
    """Check that a relative difference is within a tolerance, and keep it for the table."""

    def check(what, where, difference, tolerance):
        record_property("difference", (what, where, difference, tolerance))
        assert difference <= tolerance, f"{what}, {where}: {difference:.2g} apart, {tolerance:g} allowed"

    return check


def pytest_runtest_logreport(report):
    """Collect the differences of all processes."""
    for name, value in report.user_properties if report.when == "call" else ():
        if name == "difference":
            what, where, difference, tolerance = value
            found[what, tolerance][where] = difference


def pytest_sessionfinish(session):
    """Keep the differences of a run."""
    if not found or hasattr(session.config, "workerinput"):
        return
    rows = [
        [what, len(apart), f"{max(apart.values()):.1e}", max(apart, key=apart.get), f"{tolerance:g}"]
        for (what, tolerance), apart in found.items()
    ]
    columns = ["compared", "cases", "largest difference", "where", "allowed"]
    remarks = ["Differences are relative: the length of the difference by the length of the second one."]
    values = {what: apart for (what, _), apart in found.items()}
    table, begun = Table("Differences", columns, rows, remarks, values), environment()
    print(f"\n{markdown(table, begun)}")
    write("differences", table, begun, smallest=not IS_GPU)
