"""Run one stage in its folder: body, log file, record of success or failure."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from vssl import distributed, stop
from vssl.engine.loop import Callback
from vssl.engine.runtime import Runtime
from vssl.errors import VsslError
from vssl.protocol.accuracy import check_average
from vssl.stage.build import build
from vssl.stage.evaluate import evaluate
from vssl.stage.features import describe_videos
from vssl.stage.monitor import Monitoring
from vssl.stage.parts import build_task
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.stage.train import train
from vssl.stop import Stopped

log = logging.getLogger("vssl")

BODIES = {"gallery": describe_videos, "queries": describe_videos, "test": evaluate}
"""What stages do; all others train."""


class StageCallback(Callback, Protocol):
    """An callback that is also told how the stage ended."""

    def close(self, status: Literal["finished", "failed", "interrupted"]) -> None:
        """The stage has ended, or is left for later; nothing follows."""


class Silent:
    """Callback of the processes that keep no record."""

    def begin(self, step: int, share: float, clips: int) -> None:
        """Nothing to open."""

    def advance(self, clips: int, **shown: float) -> None:
        """Nothing to show."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Nothing to write."""

    def close(self, status: Literal["finished", "failed", "interrupted"]) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class Context:
    """What stages run in: where they lie, on what, and who is told."""

    store: StageStore
    runtime: Runtime
    make_callback: Callable[[StageSpec], StageCallback]
    say: Callable[[str], None]
    plain: Mapping[str, Any]
    """The same as JSON can hold it, for a worker in another process."""
    monitoring: Monitoring | None = None
    """What to look at while stages train without labels."""


@dataclass(frozen=True)
class Outcome:
    """What came of a stage of a forest, and why. One that is `submitted` or `queued` runs elsewhere."""

    spec: StageSpec
    status: Literal["done", "reused", "failed", "skipped", "submitted", "queued"]
    reason: str = ""
    seconds: float = 0.0


def check(spec: StageSpec) -> None:
    """Construct what the recipe names, to find mistakes before anything runs. Reads no data."""
    build_task(spec)
    if "augmentation" in spec.recipe:
        build(spec.recipe["augmentation"], f"{spec.name}.augmentation")
    with torch.device("meta"):  # no memory, no random weights
        build(spec.recipe["backbone"], "backbone")
    if "training" in spec.recipe:
        build(spec.recipe["training"], f"{spec.name}.training")
    if "average" in spec.recipe:
        check_average(spec.recipe["average"])


def run_stage(spec: StageSpec, context: Context) -> dict[str, Any]:
    """Run a claimed stage to its end and return its result.

    Whatever goes wrong is noted in the stage's folder, with the traceback in `log.txt`, and raised again.
    With several processes all of them call this: rank 0 keeps the record, and any of them notes an error.
    """
    store, runtime = context.store, context.runtime
    torch.set_num_threads(runtime.num_threads())
    body = BODIES.get(spec.name) or partial(train, monitoring=context.monitoring)
    is_first = distributed.rank() == 0
    callback: StageCallback = context.make_callback(spec) if is_first else Silent()
    with _logging_to(store.folder(spec) / "log.txt", logging.INFO if is_first else logging.WARNING):
        log.info("%s: start", spec)
        try:
            result = body(spec, store, runtime, callback)
            result = store.finish(spec, result) if is_first else result
        except Exception as error:
            with stop.deferred():  # when one process fails, the others are asked to stop
                _note(error, spec, store)
                callback.close("failed")
            raise
        except (KeyboardInterrupt, Stopped) as interruption:
            log.info("%s: interrupted (%s)", spec, one_line(interruption))
            callback.close("interrupted")
            raise
        log.info("%s: done, %s", spec, _short(result["metrics"]))
    callback.close("finished")
    return result


def _note(error: Exception, spec: StageSpec, store: StageStore) -> None:
    """Leave the traceback in the log, and the reason unless another process was the first to leave one."""
    who = f"{spec}, process {distributed.rank()}" if distributed.world_size() > 1 else str(spec)
    log.error("%s: %s\n%s", who, error, traceback.format_exc())
    with suppress(OSError):  # the disk may be what failed
        if store.note(spec, "failed.json") is None:
            store.fail(spec, one_line(error))


def one_line(error: BaseException) -> str:
    """What to tell the user: the message of an error that is meant for them, else its kind as well."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the device of {error.filename or 'outputs'}; free some and run again"
    text = " ".join(str(error).split())
    return text if isinstance(error, VsslError) else f"{type(error).__name__}: {text}"


def _short(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items()) or "no metrics"


@contextmanager
def _logging_to(path: Path, level: int) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
