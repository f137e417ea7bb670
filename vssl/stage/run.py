"""Run one stage in its folder: body, log file, record of success or failure."""

import errno
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from vssl import distributed, stop
from vssl.errors import Diverged, VsslError, first_line
from vssl.result import StageResult
from vssl.stage.callback import Silent, StageCallback
from vssl.stage.choice import chosen
from vssl.stage.construct import Stage
from vssl.stage.context import Context
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.stop import Stopped

log = logging.getLogger("vssl")

FULL = (
    "lower training.micro_batch (batch norm then sees fewer clips: another recipe) or say "
    "precision=bfloat16; nvidia-smi shows whether others use it"
)
"""What to do where a GPU's memory is full."""
NO_MEMORY = re.compile(r"CUDA error: out of memory|STATUS_ALLOC_FAILED")
"""How CUDA and its libraries say so, when it is not torch that asks for memory."""


def run_stage(spec: StageSpec, context: Context) -> StageResult:
    """Run a claimed stage to its end and return its result.

    Whatever goes wrong is noted in the stage's folder, with the traceback in `log.txt`, and raised again.
    With several processes all of them call this: rank 0 keeps the record, and any of them notes an error.
    """
    store = context.store
    torch.set_num_threads(context.runtime.num_threads())
    is_first = distributed.rank() == 0
    callback: StageCallback = context.make_callback(spec) if is_first else Silent()
    with _logging_to(store.folder(spec) / "log.txt", logging.INFO if is_first else logging.WARNING):
        log.info("%s: start", spec)
        try:
            stage = Stage(spec, recipe=chosen(spec, store))
            result: StageResult = spec.kind.load_body()(stage, context, callback)
            if is_first:
                store.finish(spec, result)
        except Exception as error:
            with stop.deferred():  # when one process fails, the others are asked to stop
                _note(error, spec, store)
                callback.close("failed")
            raise
        except (KeyboardInterrupt, Stopped) as interruption:
            log.info("%s: interrupted (%s)", spec, one_line(interruption))
            callback.close("interrupted")
            raise
        words = ", ".join(f"{name} {value:.3f}" for name, value in result.metrics.items())
        log.info("%s: done, %s", spec, words or "no metrics")
    callback.close("finished")
    return result


def _note(error: Exception, spec: StageSpec, store: StageStore) -> None:
    """Leave the traceback in the log, and the reason unless another process was the first to leave one."""
    who = f"{spec}, process {distributed.rank()}" if distributed.world_size() > 1 else str(spec)
    log.error("%s: %s\n%s", who, error, traceback.format_exc())
    with suppress(OSError):  # the disk may be what failed
        if store.note(spec, "failed.json") is None:
            store.fail(spec, one_line(error), isinstance(error, Diverged))


def one_line(error: BaseException) -> str:
    """What to tell the user: the message of an error that is meant for them, else its kind as well."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the device of {error.filename or 'outputs'}; free some and run again"
    text = str(error).strip()
    is_from_loader = "Original Traceback" in text
    said = _raised(text.splitlines()) if is_from_loader else " ".join(text.split())
    if isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError)) and not is_from_loader:
        said = first_line(error)
    if isinstance(error, torch.OutOfMemoryError) or NO_MEMORY.search(text):
        return f"the GPU's memory is full ({said.split('. ')[0]}); {FULL}"
    return said if is_from_loader or isinstance(error, VsslError) else f"{type(error).__name__}: {said}"


def _raised(lines: list[str]) -> str:
    """The line of a traceback that names the error: the first after the last frame, as CUDA's messages go on
    with advice."""
    frames = [number for number, line in enumerate(lines) if line.startswith(("  File ", "Original "))]
    after = lines[frames[-1] + 1 :] if frames else []
    said = next((line for line in after if not line.startswith(" ")), "")
    return said if said.partition(": ")[2] else lines[-1]


@contextmanager
def _logging_to(path: Path, level: int) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
