"""Writes sanity.md: what each pretext learns on the toy, from the finished stages of sweeps/methods.yaml.

python launch.py -m +sweeps=methods && python docs/sanity.py [outputs]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from vssl.stage.spec import StageSpec, class_name
from vssl.stage.store import StageStore

PAGE = Path(__file__).with_suffix(".md")

HEAD = """# What each pretext learns on the toy

Sanity, not science: tiny backbone, 320 synthetic videos of 130 to 160 frames, 12 epochs, no auxiliary stage.
*Own task*: accuracy on the last steps of training, beside what guessing comes to and what can be reached at
all ("?": not known); of CtP, how much less is wrong than if no patch moved and none grew. *Linear*: video
top-1 of a linear classifier on the frozen backbone, of eight motions. Mean and standard deviation over the
seeds, in percent. Whether a pretext beats another one here says nothing about other data.

`python launch.py -m +sweeps=methods` trains them, and `python docs/sanity.py` makes this page. Rotation has
the videos of `source=upright`: in the others all directions are alike, and nobody can tell which way up they
are.

| pretext | seeds | own task | chance | reachable | reached | linear |
|---|---:|---|---:|---:|---:|---:|
"""


def rows(store: StageStore) -> dict[str, list[str]]:
    """Cells of each method, by its name."""
    tests: dict[str, list[tuple[StageSpec | None, float]]] = defaultdict(list)
    for test in store.finished("test"):
        first = test.spec.chain[0]
        pretext = first if first.name == "pretext" else None
        name = class_name(pretext.recipe.task) if pretext else "random backbone"
        tests[name].append((pretext, test.finished.metrics["video_top1"]))
    return {name: _cells(store, name, found) for name, found in tests.items()}


def _cells(store: StageStore, name: str, found: Sequence[tuple[StageSpec | None, float]]) -> list[str]:
    """The lines of a method: one for each accuracy of its own task."""
    linear, pretexts = _spread([top1 for _, top1 in found]), [pretext for pretext, _ in found if pretext]
    if not pretexts:
        return [f"| {name} | {len(found)} | | | | | {linear} |"]
    stages = [store.stage(pretext) for pretext in pretexts]
    lines = []
    for metric, known in stages[0].finished.references.items():
        if metric.endswith(("_accuracy", "_explained")):
            reached = _spread([stage.lines[-1][metric] for stage in stages])
            reachable = f"{100 * known['reachable']:.1f}" if "reachable" in known else "?"
            cells = [
                metric.removesuffix("_accuracy").replace("_", " "),
                f"{100 * known['chance']:.1f}",
                reachable,
                reached,
            ]
            lines.append(f"| {name} | {len(found)} | {' | '.join(cells)} | {linear} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"


if __name__ == "__main__":
    outputs = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs")
    found = rows(StageStore(outputs))
    first = found.pop("random backbone", [])
    lines = [*first, *(line for name in sorted(found) for line in found[name])]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")
