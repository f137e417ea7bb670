"""mode=convert: published weights become a plain state dict for `init.weights`, and a row for a sweep.

`python launch.py mode=convert backbone=r2plus1d_10 convert.family=vcop convert.weights=FILE`
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from vssl.backbone.convert import convert
from vssl.backbone.published import Origin
from vssl.checks import make_folder
from vssl.engine.checkpoint import load, save
from vssl.errors import OptionError, VsslError, as_typed
from vssl.files import digest, write_atomically
from vssl.pipeline import Point, plain
from vssl.stage.build import build
from vssl.stage.store import to_yaml

NESTED = ("state_dict", "model", "model_state")
"""Where others keep their weights; VCOP, VSPP and torchvision have nothing else."""


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Convert the file of each point, and say what it held that the backbone has no use for."""
    for point in points:
        _convert(point)


def _convert(point: Point) -> None:
    family, path = point.cfg.convert.family, point.cfg.convert.weights
    if not path:
        raise OptionError("convert.weights", None, "no file", "give the published checkpoint")
    node = {key: value for key, value in plain(point.cfg.backbone).items() if key != "input"}
    converted = convert(family, _read(Path(path)), build(node, "backbone"))
    folder, name = Path(point.cfg.convert.folder), f"{Path(path).stem}-{family}-{digest(Path(path))[:8]}"
    make_folder("convert.folder", folder)
    chosen = [line for line in point.overrides if line.startswith("backbone") and ".input." not in line]
    row = _row(name, chosen, converted.origin)
    save(folder / f"{name}.pt", converted.state)
    write_atomically(folder / f"{name}.yaml", to_yaml(row))
    print(f"{len(converted.state)} tensors of the backbone: {folder / name}.pt")
    print(f"{len(converted.unused)} others not used: {', '.join(converted.unused) or 'none'}")
    print(row["about"])
    words = " ".join([*row["overrides"], *row["defaults"]])
    print(f"use them with: {words} init.weights={folder / name}.pt")
    print(f"or test all in {folder} with: +sweeps=published protocol=linear downstream=ucf101")


def _row(name: str, chosen: list[str], origin: Origin) -> dict[str, Any]:
    """A row of a sweep: the backbone as it was chosen, and the clips that the weights expect."""
    pixels = {f"pretext.augmentation.{part}": value for part, value in origin.pixels._asdict().items()}
    return {
        "label": f"{name} ({origin.names})",
        "about": str(origin),
        "overrides": [
            *(*chosen, "auxiliary=none", "pretext=none"),
            *(f"{option}={as_typed(value)}" for option, value in pixels.items()),
        ],
        "defaults": [f"backbone.input.num_frames={origin.frames}"],
    }


def _read(path: Path) -> Mapping[str, Tensor]:
    """The flat mapping of a published checkpoint; some hold the command line as an argparse.Namespace."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: object = load(path, remedy="fetch it again")
    except VsslError as error:
        raise VsslError(f"convert.weights={error}") from error
    if not isinstance(content, Mapping):
        raise OptionError("convert.weights", path, "no state dict", "give the published checkpoint")
    nested = next((content[name] for name in NESTED if isinstance(content.get(name), Mapping)), content)
    return {name: value for name, value in nested.items() if isinstance(value, Tensor)}
