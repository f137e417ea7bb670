"""Writes sanity.md: what each pretext learns on the toy, from the finished stages of sweeps/methods.yaml.

python launch.py -m +sweeps=methods && python docs/sanity.py [outputs]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vssl.pipeline import plan
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

ROOT = Path(__file__).parent.parent
SWEEP = OmegaConf.load(ROOT / "sweeps/methods.yaml")
SEEDS = SWEEP.hydra.sweeper.params.seed.split(",")
PAGE = Path(__file__).with_suffix(".md")

HEAD = """# What each pretext learns on the toy

Sanity, not science: tiny backbone, 320 synthetic videos of 130 to 160 frames, 12 epochs, no auxiliary stage.
*Own task*: accuracy on the last steps of training, beside what guessing comes to and what can be reached at
all ("?": not known); of CtP also how much less is wrong than if no patch moved and none grew. *Linear*: video
top-1 of a linear classifier on the frozen backbone, of eight motions. Mean and standard deviation over the
seeds, in percent. Whether a pretext beats another one here says nothing about other data.

`python launch.py -m +sweeps=methods` trains them, and `python docs/sanity.py` makes this page. What of
`sweeps/methods.yaml` is not done yet has no line, or fewer seeds.

- In the toy's videos all directions and all moments are alike: nobody can tell which way up they are, or
  which clip came first. Hence `source=upright`, below a lamp, and `source=fading`, while it goes out.
  Without the lamp VCOP comes to 18.2 ± 1.1 % (3 seeds), with 16.7 % by guessing.
- MoCo's key encoder stands still in the end (`momentum_end`). With one that moves, it was at 65 % (seed 2)
  after three epochs, and fell as it slowed down; VideoMoCo's and CEP's move to the end. Besides, 1,024 keys
  are those of one and a half epochs, some of them of the query's own video.
- Shuffle & Learn asks one linear layer whether the clip in the middle lies between the others, hardly a
  linear question: from the long videos it learns nothing (51.2 ± 3.5 %, 3 seeds). Its videos have 64 to
  70 frames, little more than a tuple, so that how bright a clip is tells its place.
- CtP has another backbone, with a map of 8 x 8 places, AdamW and 1,500 steps (published: 675,000). Its
  videos fade, so that patches stand out, and are as long as Shuffle & Learn's: its linear accuracy compares
  with no other row. The box of the first frame alone, without what follows, tells the direction of 53 % of
  the ways and 52 % of the growths. Beyond that, it learns a little of which way a patch grows, and that
  late: a trial of 600 steps showed nothing of it. By distance it learns nothing of the growth: boxes are in
  whole pixels of 32, two of five sides keep their length, and the exact sizes would explain 40 %. Of
  squares that only move, or only grow, a smaller net explains 75 % and 60 % after 120 steps (a test).

| pretext | seeds | own task | chance | reachable | reached | linear |
|---|---:|---|---:|---:|---:|---:|
"""


def rows(store: StageStore) -> Iterator[str]:
    """The lines of all rows of the sweep, as far as their first stages are done."""
    for row in SWEEP.sweep.rows:
        chains = [_chain(row.overrides, seed) for seed in SEEDS]
        done = [chain for chain in chains if store.result(chain[0])]
        if done:
            yield from _lines(store, row.label, done)


def _chain(overrides: Sequence[str], seed: str) -> list[StageSpec]:
    """The stages of one row and seed."""
    return plan(compose("config", overrides=[*SWEEP.sweep.overrides, *overrides, f"seed={seed}"]))


def _lines(store: StageStore, label: str, chains: Sequence[list[StageSpec]]) -> Iterator[str]:
    """The lines of a row: one for each metric of its own task that guessing is known of."""
    name = f"| {label} | {len(chains)} |"
    tests = [result for chain in chains if (result := store.result(chain[-1]))]
    linear = _spread([test.metrics["video_top1"] for test in tests])
    if len(tests) < len(chains):
        linear += f" ({len(tests)} seeds)"
    if chains[0][0].name != "pretext":
        yield f"{name} | | | | {linear} |"
        return
    stages = [store.stage(chain[0]) for chain in chains]
    for metric, known in stages[0].finished.references.items():
        if metric.endswith(("_accuracy", "_explained")):
            reached = _spread([stage.lines[-1][metric] for stage in stages])
            reachable = f"{100 * known['reachable']:.1f}" if "reachable" in known else "?"
            task = metric.removesuffix("_accuracy").replace("_", " ")
            yield f"{name} {task} | {100 * known['chance']:.3g} | {reachable} | {reached} | {linear} |"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"


if __name__ == "__main__":
    outputs = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        lines = list(rows(StageStore(outputs)))
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")
