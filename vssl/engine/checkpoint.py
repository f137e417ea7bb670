"""Files of tensors and plain values: written atomically, loaded weights-only."""

import io
from pathlib import Path
from typing import Any

import torch

from vssl.errors import VsslError
from vssl.files import write_atomically

FORMAT = 1
CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"
"""Files of a stage that trains: to resume from, and for the next stage."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors and plain values) so that a kill leaves the old file or the new one.

    Raises `OSError` if the disk is full; the old file is still there then.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, device: torch.device | str = "cpu", remedy: str = "give another") -> dict[str, Any]:
    """Read what `save` wrote, refusing anything but tensors and plain values.

    What cannot be read raises `VsslError` with the file, the cause and the `remedy`.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise VsslError(f"{path}: no such file; {remedy}") from error
    except Exception as error:  # of damaged pickles anything may come, IndexError and AssertionError too
        raise VsslError(f"{path}: damaged, or not a file of tensors and plain values; {remedy}") from error
    return content


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint to resume from, stamped with the layout's version."""
    save(path, {"format": FORMAT, **content})


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; one of a newer layout raises `VsslError`."""
    content = load(path, device, f"delete {path.parent} and run again")
    if content.get("format", 0) > FORMAT:
        raise VsslError(f"{path}: written by a newer vssl; update vssl or choose another outputs=DIR")
    return content
