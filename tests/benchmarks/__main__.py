"""Measure, print tables and write outputs/bench/*.json.

python tests/benchmarks [NAME ...] [--videos DIR]    # all of them, a quarter of an hour on two cores
python tests/benchmarks --markdown                   # the tables as they were measured last
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:1] = [str(HERE.parents[1]), str(HERE.parent)]

from benchmarks.measuring import Options, environment, kept, markdown, same_machine, write  # noqa: E402

NAMES = ("loader", "augmentation", "step", "training", "overhead", "launch", "scale")
FORKS = ("scale",)
"""Those that fork processes, which a GPU does not survive."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--videos", type=Path, help="folder of videos for the loader; default: drawn ones")
    parser.add_argument("--markdown", action="store_true", help="measure nothing, print the last tables")
    parser.add_argument("--smallest", action="store_true", help="see that it runs; the numbers mean nothing")
    asked = parser.parse_args()
    names = asked.names or NAMES
    options = Options(asked.smallest, asked.videos)
    if unknown := set(names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    if asked.markdown:
        print("\n".join(markdown(*found) for name in names if (found := kept(name, asked.smallest))))
    elif len(names) == 1:
        measure(names[0], options)
    else:
        sys.exit(max([measure_apart(name, options) for name in names]))


def measure(name: str, options: Options) -> None:
    """One benchmark, in this process."""
    if name in FORKS:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    begun = environment()
    before = kept(name, options.smallest)
    fuller = len(before[0].rows) if before and same_machine(before[1], begun) else 0
    for table in importlib.import_module(f"benchmarks.{name}").run(options):
        if len(table.rows) >= fuller:
            write(name, table, begun, options.smallest)  # each time: what is stopped has measured something
    if not table.rows:
        sys.exit("\n".join([f"{name}: nothing could be measured", *table.remarks]))
    write(name, table, begun, options.smallest)
    print(markdown(table, begun), flush=True)


def measure_apart(name: str, options: Options) -> int:
    """One benchmark in a process of its own: no other one has set its threads or filled its memory."""
    print(f"\n{name}", flush=True)
    words = ["--videos", str(options.videos)] if options.videos else []
    words += ["--smallest"] if options.smallest else []
    return subprocess.run([sys.executable, str(HERE), name, *words], check=False).returncode


if __name__ == "__main__":
    main()
