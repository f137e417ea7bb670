"""Several processes that train together: a function in each of them, or whole stages."""

import io
import multiprocessing
import os
import traceback
from dataclasses import asdict

import torch

from conftest import SMALL, composed
from vssl import distributed
from vssl.context import open_context
from vssl.dispatch.local import LocalDispatcher
from vssl.dispatch.slots import rank_variables
from vssl.pipeline import monitored, plain, plan
from vssl.tracking.metrics import Launch


def run_together(function, *args, processes=2, gone=0, patience_s=60.0, timeout_s=120):
    """The results of `function(*args)` on each rank, but for `gone` of them that end without one; an error on
    any fails the test with its traceback. `patience_s`: seconds that they wait for one another."""
    fork = multiprocessing.get_context("fork")  # torch is imported already
    results = fork.Queue()
    started = [
        fork.Process(target=_run, args=(own, results, patience_s, function, args))
        for own in rank_variables(processes)
    ]
    for process in started:
        process.start()
    try:
        answers = dict(torch.load(io.BytesIO(results.get(timeout=timeout_s))) for _ in started[gone:])
    finally:
        for process in started:
            process.join(10)
            process.kill()
    for answer in answers.values():
        assert not isinstance(answer, str) or not answer.startswith("Traceback"), answer
    return [answers[rank] for rank in sorted(answers)]


def _run(variables, results, patience_s, function, args):
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        with distributed.init_distributed(patience_s):
            answer = (distributed.rank(), function(*args))
    except Exception:
        answer = (int(variables["RANK"]), traceback.format_exc())
    content = io.BytesIO()
    torch.save(answer, content)  # a queue would pass tensors on as files, which end with this process
    results.put(content.getvalue())
    results.close()
    results.join_thread()
    os._exit(0)  # an orderly end of a fork tells of all that its parent has not freed


def pretrain(outputs, processes, *overrides):
    """Run the stages before fine-tuning as `dispatch.processes_per_stage` has it; return their outcomes."""
    cfg = composed(*SMALL, *overrides, f"outputs={outputs}")
    nodes = {group: plain(cfg[group]) for group in ("runtime", "tracking")} | {"monitor": monitored(cfg)}
    context, _ = open_context(
        {"outputs": str(outputs), "launch": asdict(Launch("0", "test", "test")), **nodes}
    )
    stages = [spec for spec in plan(cfg) if spec.name in ("auxiliary", "pretext")]
    return LocalDispatcher(1, 1, processes).run(stages, context)


def weights(outputs):
    """The weights of each training stage by its name."""
    files = sorted(outputs.glob("stages/*/*/weights.pt"))
    return {file.parent.parent.name: torch.load(file) for file in files}
