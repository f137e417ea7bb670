"""What stages run in, and what came of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vssl.engine.runtime import Runtime
from vssl.stage.callback import StageCallback
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore

if TYPE_CHECKING:
    from vssl.stage.monitor import Monitoring


@dataclass(frozen=True)
class Context:
    """What stages run in: where they lie, on what, and who is told."""

    store: StageStore
    runtime: Runtime
    make_callback: Callable[[StageSpec], StageCallback]
    say: Callable[[str], None]
    plain: Mapping[str, Any]
    """The same as JSON can hold it, for a worker in another process."""
    monitoring: "Monitoring"
    """What to look at while stages train without labels."""
    look: Callable[[], None] = lambda: None
    """Called again and again while stages run in other processes."""


@dataclass(frozen=True)
class Outcome:
    """What came of a stage of a forest, and why. One that is `submitted` or `queued` runs elsewhere."""

    spec: StageSpec
    status: Literal["done", "reused", "failed", "skipped", "submitted", "queued"]
    reason: str = ""
    seconds: float = 0.0
