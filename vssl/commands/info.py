"""mode=info: versions, devices, cluster and disk, as text to paste into an issue."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import vssl
from vssl.cores import usable_cores
from vssl.data.decode import load_decoder
from vssl.dispatch.cluster import Slurm
from vssl.errors import VsslError, first_line
from vssl.secrets import hidden
from vssl.stage.provenance import code_digest, git_commit

PLANNED = False

LIBRARIES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "mlflow", "submitit", "optuna")
DECODERS = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}
"""The library of each decoder."""
VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_ID")
"""Shown if they are set; no others, which may be nobody's business."""


def execute(cfg: DictConfig) -> None:
    """Print a line for each fact; what is missing is said there."""
    for name, value in _facts(cfg):
        print(f"{name + ':':<22}{value}")


def _facts(cfg: DictConfig) -> Iterator[tuple[str, object]]:
    yield "vssl", f"{vssl.__version__}, commit {git_commit()}, code {code_digest()}"
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield from ((name, _version(name)) for name in LIBRARIES)
    yield from ((f"decoder {name}", _decoder(name)) for name in DECODERS)
    yield from _devices()
    yield "cores", f"{usable_cores()} to be used, {os.cpu_count()} in all"
    yield "memory", _memory()
    yield "shared memory", _space(Path("/dev/shm"))
    yield "Slurm", _slurm()
    yield from ((name, os.environ[name]) for name in VARIABLES if name in os.environ)
    outputs = Path(cfg.outputs)
    yield "outputs", f"{_without_home(outputs)}, {_space(outputs)}"
    yield "tracking", _tracking(cfg)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return f"not installed (pip install {library})"


def _decoder(name: str) -> str:
    try:
        load_decoder(name)
        import_module(DECODERS[name])  # it may be there and lack a library of the system
    except (VsslError, ImportError, OSError) as error:
        return f"cannot be used: {first_line(error)}"
    return f"{DECODERS[name]} {_version(DECODERS[name])}"


def _devices() -> Iterator[tuple[str, str]]:
    try:
        torch: Any = import_module("torch")
    except (ImportError, OSError) as error:
        yield "devices", f"torch cannot be imported: {first_line(error)}"
        return
    yield "CUDA of torch", f"{torch.version.cuda or 'none'}, cuDNN {torch.backends.cudnn.version() or 'none'}"
    count = torch.cuda.device_count()
    for number in range(count):
        about = torch.cuda.get_device_properties(number)
        capability = f"{about.major}.{about.minor}"
        yield f"GPU {number}", f"{about.name}, {_gb(about.total_memory)}, compute capability {capability}"
    if not count:
        yield "GPUs", "none that torch can see"


def _memory() -> str:
    """From the kernel; a container may have less, as its cgroup says."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    found = [text for path in limits if path.exists() and (text := path.read_text().strip()).isdecimal()]
    limit = min(map(int, found), default=pages * page)
    return _gb(pages * page) + (f", limited to {_gb(limit)}" if limit < pages * page else "")


def _space(folder: Path) -> str:
    """Free space where a folder is or would be."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), None)
    if there is None or (there != folder and folder == Path("/dev/shm")):
        return "none"
    disk = shutil.disk_usage(there)
    return f"{_gb(disk.free)} of {_gb(disk.total)} free"


def _slurm() -> str:
    if not shutil.which("squeue"):
        return "none"
    try:
        return Slurm().version()
    except VsslError as error:
        return f"is there, but {str(error)[:120]}"


def _tracking(cfg: DictConfig) -> str:
    tracker = str(cfg.tracking.get("_target_", "none")).rpartition(".")[2]
    uri = OmegaConf.select(cfg, "tracking.uri")
    return f"{tracker}, {_without_home(hidden(str(uri)))}" if uri else tracker


def _without_home(place: object) -> str:
    return str(place).replace(str(Path.home()), "~")


def _gb(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
