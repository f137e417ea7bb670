"""Writes recipes.md: what the paper, the released codes and the defaults say of every option, from conf/.

python docs/recipes.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from vssl.errors import as_typed
from vssl.pipeline import plain
from vssl.words import NONE

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).with_suffix(".md")

Table = dict[str, tuple[str, ...]]
"""Cells of each option, in the order of COLUMNS."""

COLUMNS = {"paper": ["experiment=as_paper"], "released code": ["experiment=as_released"], "default": []}

UNSAID = {"sync_bn", "precision", "decay_norm_and_bias", "clip_norm", "warmup_epochs", "warmup_factor"}
UNSAID |= {"revision", "num_classes", "stage", "test.batch_size", "schedule.per"}
UNSAID |= {"choose", "held_out", "tested_on"}
"""Options of this framework that no published recipe has; all columns have their defaults."""

HEAD = """# Recipes: paper, released code, here

Every value of every published recipe: `experiment=as_paper`, `experiment=as_released`, and the default, on
`backbone=r2plus1d_10` and `source=kinetics100` unless a heading says otherwise. What differs from the
default is **bold**; {none} is an option that a recipe does not have. Options are as they are typed, but that
clips and augmentation of the auxiliary stage refer to `pretext.sampler` and `pretext.augmentation`, and
frames, sizes and crops to `backbone.input`.

Why a value is what it is stands beside it: in `conf/experiment/as_paper.yaml` and `as_released.yaml`, and in
the yaml of the group. What the paper leaves open is as released: so the protocols of VCOP and RSPNet, which
it does not use, are theirs in all columns. Of the auxiliary stage on VCOP's and RSPNet's clips, and of the
fine-tuning of auxSKD and VideoPace, no code was released: there that column has the pretext's or the paper's
values.

`python docs/recipes.py` makes this page from `conf/`; `tests/test_docs.py` fails if it is not up to date.
"""


@dataclass(frozen=True)
class Section:
    """A table of one group's options with some choices; with a `base`, of what differs from that table."""

    title: str
    group: str
    choices: tuple[str, ...]
    base: Section | None = None

    @property
    def heading(self) -> str:
        """What the table shows."""
        return f"{self.title}: what differs from {self.base.title}" if self.base else self.title

    @property
    def lines(self) -> Table:
        """The cells of each option, training first."""
        columns = [options(self.group, (*self.choices, *chosen)) for chosen in COLUMNS.values()]
        names = sorted(dict.fromkeys(name for column in columns for name in column), key=_place)
        found = {name: tuple(column.get(name, NONE) for column in columns) for name in names}
        known = self.base.lines if self.base else {}
        gone = {name: (NONE,) * len(COLUMNS) for name in known if name not in found}
        return {name: cells for name, cells in {**found, **gone}.items() if known.get(name) != cells}


def sections() -> dict[str, list[Section]]:
    """All tables, by stage."""
    vspp, vcop, videopace, rspnet, videomoco = (
        Section(name, "pretext", (f"pretext={name.lower()}",))
        for name in ("VSPP", "VCOP", "VideoPace", "RSPNet", "VideoMoCo")
    )
    auxskd = Section("auxSKD on VSPP's clips", "auxiliary", vspp.choices)
    others = [
        Section(f"On {one.title}'s clips", "auxiliary", one.choices, auxskd)
        for one in (vcop, videopace, rspnet)
    ]
    paper, of_vcop, of_rspnet = (
        Section(f"`protocol={name}`", "protocol", (*pretext.choices, f"protocol={name}", "downstream=ucf101"))
        for name, pretext in {"finetune": vspp, "finetune_vcop": vcop, "finetune_rspnet": rspnet}.items()
    )
    nets = ["backbone=c3d", "backbone=resnet3d_18", "backbone=s3d_g"]
    hmdb51 = replace(of_rspnet, choices=(*of_rspnet.choices[:-1], "downstream=hmdb51"))
    return {
        "Auxiliary stage": [auxskd, *others, on("source=ucf101", auxskd)],
        "Pretext stage": [
            *(vspp, on("source=ucf101", vspp), vcop),
            *(videopace, on("source=ucf101", videopace), on("backbone=s3d_g", videopace)),
            *(rspnet, *(on(net, rspnet) for net in nets)),
            videomoco,
        ],
        "Fine-tuning and test, on UCF101": [paper, of_vcop, of_rspnet, *(on(net, of_rspnet) for net in nets)],
        "Fine-tuning and test, on HMDB51": [
            replace(on(net, hmdb51), base=of_rspnet) for net in ("backbone=r2plus1d_10", *nets)
        ],
    }


def on(choice: str, section: Section) -> Section:
    """The same with another choice."""
    title = f"{section.title} with `{choice}`"
    return Section(title, section.group, (*section.choices, choice), section)


def _place(name: str) -> int:
    """Training, task, clips, augmentation; then the same of the test."""
    parts = ("training", "", "sampler", "augmentation")
    part = next((place for place, part in enumerate(parts) if part and f".{part}." in f"{name}."), 1)
    return part + len(parts) * (".test." in name)


def options(group: str, choices: tuple[str, ...]) -> dict[str, str]:
    """Every option of a group as it is typed, with its value."""
    config = composed(*choices)
    found = dict(leaves(plain(config[group]), group))
    if group == "pretext":  # which is the data set's where the recipe says nothing
        found["pretext.repeat"] = found.get("pretext.repeat", as_typed(config.source.repeat))
    return found


@cache
def composed(*choices: str) -> DictConfig:
    """The config of some choices."""
    names = {choice.partition("=")[0] for choice in choices}
    defaults = {"backbone": "r2plus1d_10", "source": "kinetics100"}
    others = [f"{name}={value}" for name, value in defaults.items() if name not in names]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", [*others, *choices])


def leaves(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Values by path; of the schedule and the crop, their class too."""
    for name, value in node.items():
        where = f"{path}.{name}"
        if isinstance(value, Mapping):
            if name in ("schedule", "crop"):
                yield where, value["_target_"].rpartition(".")[2]
            yield from leaves(value, where)
        elif name != "_target_" and not any(where.endswith(f".{unsaid}") for unsaid in UNSAID):
            yield where, as_typed(value)


def page() -> str:
    """The text of recipes.md."""
    parts = [HEAD.format(none=NONE)]
    for stage, tables in sections().items():
        parts.append(f"\n## {stage}\n")
        parts += [table(section) for section in tables]
    return "".join(parts)


def table(section: Section) -> str:
    """A heading and a line per option."""
    lines = [f"| option | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, cells in section.lines.items():
        marked = [cell if cell == cells[-1] else f"**{cell}**" for cell in cells]
        lines.append(f"| `{name}` | {' | '.join(marked)} |")
    return "\n".join(["", f"### {section.heading}", "", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
