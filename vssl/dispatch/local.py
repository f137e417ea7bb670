"""Run a forest of stages on this machine: one after the other in this process, or several at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from vssl.checks import Checked, at_least
from vssl.dispatch.slots import Slots
from vssl.engine.runtime import Runtime
from vssl.stage.construct import Machine
from vssl.stage.context import Context, Outcome
from vssl.stage.kind import KINDS
from vssl.stage.run import one_line, run_stage
from vssl.stage.spec import StageSpec

POLL_S = 1.0


@dataclass(frozen=True)
class LocalDispatcher(Checked):
    """Stages in order; a failed one stops only its descendants; what others are running is waited for.

    `max_parallel_stages`: independent stages that run at once. One runs in this process; several run in a
    process each, so that a crash fails one stage. `gpus_per_stage`: GPUs that each slot has for itself (0:
    all slots see all); without a GPU it does not matter. `processes_per_stage` that train a stage together
    (None: one for each of its GPUs).
    """

    max_parallel_stages: int = field(metadata=at_least(1))
    gpus_per_stage: int = field(metadata=at_least(0))
    processes_per_stage: int | None = field(metadata=at_least(1))

    def machines(self, runtime: Runtime) -> dict[str, Machine]:
        """What stages of each kind run on. Raises `OptionError` if they cannot here."""
        slots = self._slots(runtime)
        return dict.fromkeys(KINDS, Machine(slots.processes if slots else 1, runtime.torch_device().type))

    def _slots(self, runtime: Runtime) -> Slots | None:
        """Where stages have processes of their own; None if all run in this one."""
        on_gpus = runtime.torch_device().type == "cuda"
        processes = self.processes_per_stage or (max(1, self.gpus_per_stage) if on_gpus else 1)
        if self.max_parallel_stages == processes == 1:
            return None
        return Slots(self.max_parallel_stages, self.gpus_per_stage, processes, runtime.device)

    def run(self, forest: Sequence[StageSpec], context: Context) -> list[Outcome]:
        """Run what is not done; return one outcome per stage, in the order of the forest."""
        ended = {spec: Outcome(spec, "reused") for spec in forest if context.store.result(spec) is not None}
        todo = [spec for spec in forest if spec not in ended]
        if slots := self._slots(context.runtime):
            slots.run(todo, ended, context)
        else:
            _one_by_one(todo, ended, context)
        return [ended[spec] for spec in forest]


def _one_by_one(todo: list[StageSpec], ended: dict[StageSpec, Outcome], context: Context) -> None:
    """Run the stages of `todo` in this process and note their outcomes in `ended`."""
    pending, waiting = list(todo), False
    while pending:
        outcome = next(filter(None, (_try(spec, ended, context) for spec in pending)), None)
        if outcome:
            ended[outcome.spec] = outcome
            pending.remove(outcome.spec)
        else:
            if not waiting:
                context.say(f"{pending[0]}: {context.store.owner(pending[0])} is running it; waiting")
            time.sleep(POLL_S)
        waiting = outcome is None


def _try(spec: StageSpec, ended: dict[StageSpec, Outcome], context: Context) -> Outcome | None:
    """The outcome of a stage, running it if need be; None if it has to wait for another one."""
    if not all(other in ended for other in spec.waits_for):
        return None
    if spec.parent and ended[spec.parent].status in ("failed", "skipped"):
        return Outcome(spec, "skipped", f"{spec.parent} {ended[spec.parent].status}")
    with context.store.claim(spec) as mine:
        if not mine:
            return None
        if context.store.result(spec) is not None:
            return Outcome(spec, "reused")
        started = time.monotonic()
        try:
            run_stage(spec, context)
        # The border between stages: whatever one dies of, the others run on. Its log has the traceback.
        except Exception as error:
            return Outcome(spec, "failed", one_line(error), time.monotonic() - started)
        return Outcome(spec, "done", "", time.monotonic() - started)
