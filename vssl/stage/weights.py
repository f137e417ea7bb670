"""Weights that a stage starts from, and the arrays that it leaves."""

import io
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from vssl.engine.checkpoint import WEIGHTS, load
from vssl.errors import OptionError, VsslError
from vssl.files import digest, write_atomically
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.types import Backbone


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Load a plain state dict (.pt or .safetensors) strictly; what does not fit is named in the error."""
    try:
        backbone.load_state_dict(_state(path))
    except (RuntimeError, TypeError) as error:
        reason = shorten(str(error), 400)  # torch names all that does not fit
        raise VsslError(f"{path}: not weights of {type(backbone).__name__}: {reason}") from error


def load_given(backbone: Backbone, path: Path, option: str) -> None:
    """The same, of a file that an option names."""
    try:
        load_backbone(backbone, path)
    except VsslError as error:
        raise VsslError(f"{option}={error}") from error


def _state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix != ".safetensors":
        return load(path, remedy=_remedy(path))
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise VsslError(f"{path}: no such file; {_remedy(path)}") from error
    except SafetensorError as error:
        raise VsslError(f"{path}: damaged, or not a safetensors file ({error}); {_remedy(path)}") from error


def _remedy(path: Path) -> str:
    """What to do about weights that cannot be read: of a stage, or of someone else."""
    is_stage = (path.parent / "recipe.yaml").exists()
    return f"delete {path.parent} and run again" if is_stage else "fetch it again"


def last_trained(spec: StageSpec) -> StageSpec | None:
    """The nearest stage before this one that trained, if there is one."""
    return next((before for before in reversed(spec.chain[:-1]) if before.kind.trains), None)


def starting_weights(spec: StageSpec, store: StageStore) -> Path | None:
    """Weights that a stage starts from: of the last stage that trained, else the file given, else none.

    Raises `VsslError` if the file is no longer what it was when the stage got its key.
    """
    if trained := last_trained(spec):
        return store.folder(trained) / WEIGHTS
    first = spec.chain[0]
    if not (file := first.paths.get("init")):
        return None
    return unchanged(Path(file), first.recipe.init, "init.weights")


def unchanged(file: Path, known: object, option: str) -> Path:
    """The file. Raises `OptionError` if it is no longer what it was when the stage got its key."""
    if digest(file) != known:
        raise OptionError(option, file, "has changed since the launch", "start again")
    return file


def start_in_words(spec: StageSpec) -> str:
    """The same for a reader."""
    return str(last_trained(spec) or ("file" if "init" in spec.chain[0].paths else "random"))


def num_parameters(module: torch.nn.Module) -> int:
    """Parameters of a module, trained or not."""
    return sum(p.numel() for p in module.parameters())


def write_arrays(path: Path, arrays: Mapping[str, object]) -> None:
    """Write arrays, or what becomes one, to an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an npz file."""
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except FileNotFoundError as error:
        raise VsslError(
            f"{path}: no such file; delete the result.json beside it to run that stage again"
        ) from error
