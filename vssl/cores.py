"""How many processor cores this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, GROUP_OF = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux has its control groups, and those of this process."""


def usable_cores() -> int:
    """Cores that the scheduler allows, but no more than the processor time that a container or a job gets
    (docker run --cpus, limits of Kubernetes): more processes would only wait for one another."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *map(math.ceil, _shares())]))


def _shares() -> Iterator[float]:
    """The limits of this process's control groups and of those above them, in cores."""
    lines = GROUP_OF.read_text().splitlines() if GROUP_OF.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = GROUPS / "cpu" if controllers else GROUPS  # version 1 has a tree for each controller
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(top):
                yield from _share(folder)


def _share(folder: Path) -> Iterator[float]:
    """The limit of one group, if it has one: microseconds of all cores together in each period."""
    one_file, two_files = folder / "cpu.max", [folder / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    try:
        if one_file.exists():
            quota, period = one_file.read_text().split()
        else:
            quota, period = (file.read_text().strip() for file in two_files)
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no limit that can be read is none
        return
