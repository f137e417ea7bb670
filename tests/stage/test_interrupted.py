"""A stage that Ctrl-C ends, whatever it does."""

import multiprocessing
from dataclasses import replace

import pytest

from conftest import RUNTIME, SMALL, composed, context_in
from vssl.pipeline import plan
from vssl.stage.callback import Silent
from vssl.stage.run import run_stage

FROM_SCRATCH = ("auxiliary=none", "pretext=none")


class Interrupting(Silent):
    """Ctrl-C, while a batch is used and not while it is waited for."""

    def advance(self, *args, **shown):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["auxiliary=none"], "pretext"),
        ([*FROM_SCRATCH], "test"),
        ([*FROM_SCRATCH, "protocol=knn"], "gallery"),
    ],
)
def test_no_loader_process_is_left_while_the_interruption_is_still_held(overrides, name, data, tmp_path):
    """Else Python would wait for it at its end, for ever: loader processes outlive its signals."""
    small = [line for line in SMALL if not line.startswith("protocol.")]
    for spec in plan(composed(*small, *data, *overrides)):
        ends_here = spec.name == name
        callback = Interrupting() if ends_here else Silent()
        runtime = replace(RUNTIME, workers=int(ends_here))
        context = context_in(tmp_path, runtime, lambda _, callback=callback: callback)
        context.store.folder(spec).mkdir(parents=True)
        if ends_here:
            with pytest.raises(KeyboardInterrupt) as held:
                run_stage(spec, context)
            assert held.tb is not None
            assert multiprocessing.active_children() == []
            return
        run_stage(spec, context)
