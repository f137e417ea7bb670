"""mode=convert: weights published by others become a plain state dict for `init.weights`.

`python launch.py mode=convert backbone=r2plus1d_10 convert.family=vcop convert.weights=FILE`
"""

import argparse
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from vssl.backbone.convert import convert
from vssl.engine.checkpoint import save
from vssl.errors import OptionError
from vssl.files import digest
from vssl.pipeline import Point, plain
from vssl.stage.build import build

NESTED = ("state_dict", "model")
"""Where VideoPace and auxSKD, and RSPNet, keep their weights; VCOP and VSPP have nothing else."""


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Convert one file, and say what it held that the backbone has no use for."""
    family, path = cfg.convert.family, cfg.convert.weights
    if not path:
        raise OptionError("convert.weights", None, "no file", "give the published checkpoint")
    backbone = build({key: value for key, value in plain(cfg.backbone).items() if key != "input"}, "backbone")
    converted = convert(family, _read(Path(path)), backbone)
    target = Path(cfg.outputs) / "converted" / f"{Path(path).stem}-{family}-{digest(Path(path))[:8]}.pt"
    target.parent.mkdir(parents=True, exist_ok=True)
    save(target, converted.state)
    print(f"{len(converted.state)} tensors of the backbone: {target}")
    print(f"{len(converted.unused)} others not used: {', '.join(converted.unused) or 'none'}")
    print(f"use them with init.weights={target} pretext={family} (for the range of pixels that they expect)")


def _read(path: Path) -> Mapping[str, Tensor]:
    """The flat mapping of a published checkpoint; some hold the command line as an argparse.Namespace."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        remedy = "give the published checkpoint"
        raise OptionError("convert.weights", path, str(error.strerror), remedy) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        problem, remedy = "damaged, or not a checkpoint of tensors and plain values", "fetch it again"
        raise OptionError("convert.weights", path, problem, remedy) from error
    nested = next((content[name] for name in NESTED if isinstance(content.get(name), Mapping)), content)
    return {name: value for name, value in nested.items() if isinstance(value, Tensor)}
