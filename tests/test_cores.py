"""How many cores a container leaves: files as Linux writes them, worked by hand."""

import os

import pytest

from vssl import cores


@pytest.fixture
def group(monkeypatch, tmp_path):
    """Write what a process finds of its control groups; 96 cores are there."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)))
    monkeypatch.setattr(cores, "GROUPS", tmp_path)
    monkeypatch.setattr(cores, "GROUP_OF", tmp_path / "of-this-process")

    def write(mine, **files):
        (tmp_path / "of-this-process").write_text(mine)
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return write


def test_without_control_groups_all_cores_count(group):
    assert cores.usable_cores() == 96


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400000 100000", 4),
        ("max 100000", 96),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("9999999 1", 96),
        ("", 96),
        ("400000 0", 96),
    ],
)
def test_a_container_has_the_time_that_it_gets(group, text, expected):
    """Docker's and Kubernetes' own view: the root is the container. Half a core more is worth a process."""
    group("0::/\n", cpu_dot_max=text)
    assert cores.usable_cores() == expected


def test_the_groups_above_limit_too(group):
    """A job of a scheduler, seen from the machine: its step has no limit of its own."""
    group("0::/slurm/job_7/step_0\n", slurm__job_7__cpu_dot_max="800000 100000")
    assert cores.usable_cores() == 8


@pytest.mark.parametrize(("quota", "expected"), [("200000", 2), ("-1", 96)])
def test_the_older_version_has_two_files_for_it(group, quota, expected):
    mine = "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/\n"
    group(mine, cpu__cpu_dot_cfs_quota_us=quota, cpu__cpu_dot_cfs_period_us="100000")
    assert cores.usable_cores() == expected
