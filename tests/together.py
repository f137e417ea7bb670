"""Run a function in several processes that train together, as a stage does."""

import io
import multiprocessing
import os
import traceback

import torch

from vssl import ranks
from vssl.dispatch.slots import rank_variables


def run_together(function, *args, processes=2, timeout_s=120):
    """The results of `function(*args)` on each rank; an error on any fails the test with its traceback."""
    fork = multiprocessing.get_context("fork")  # torch is imported already
    results = fork.Queue()
    started = [
        fork.Process(target=_run, args=(own, results, function, args)) for own in rank_variables(processes)
    ]
    for process in started:
        process.start()
    try:
        answers = dict(torch.load(io.BytesIO(results.get(timeout=timeout_s))) for _ in started)
    finally:
        for process in started:
            process.join(10)
            process.kill()
    for answer in answers.values():
        assert not isinstance(answer, str) or not answer.startswith("Traceback"), answer
    return [answers[rank] for rank in range(processes)]


def _run(variables, results, function, args):
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        with ranks.joined(os.environ, 60.0):
            answer = (ranks.rank(), function(*args))
    except Exception:
        answer = (int(variables["RANK"]), traceback.format_exc())
    content = io.BytesIO()
    torch.save(answer, content)  # a queue would pass tensors on as files, which end with this process
    results.put(content.getvalue())
