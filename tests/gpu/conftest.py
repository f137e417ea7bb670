"""Tests of a GPU: against the CPU, and against itself computing in other ways.

VSSL_TEST_DEVICE=cpu (`make test-gpu DEVICE=cpu`) runs them without one: then they show no more than that they
run. How far results lie apart is kept as a table, outputs/bench/differences.json.
"""

import os
from collections import defaultdict

import pytest
import torch

from benchmarks.measuring import Table, environment, markdown, write

DEVICE = os.environ.get("VSSL_TEST_DEVICE", "cuda")
IS_GPU = DEVICE == "cuda"

found = defaultdict(dict)


def pytest_collection_modifyitems(items):
    here = [item for item in items if "gpu" in item.path.parts]
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if IS_GPU and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU is visible to torch"))


@pytest.fixture
def close():
    """Check that a relative difference is within a tolerance, and keep it for the table."""

    def check(what, where, difference, tolerance):
        found[what, tolerance][where] = difference
        assert difference <= tolerance, f"{what}, {where}: {difference:.2g} apart, {tolerance:g} allowed"

    return check


def pytest_sessionfinish():
    """Keep the differences of a run."""
    if not found:
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
