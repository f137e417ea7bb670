"""Signals that ask to stop, in a process of their own: handlers belong to a whole process."""

import subprocess
import sys

import pytest

from conftest import ROOT

BEGIN = """
import os, signal, sys
from vssl import stop
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what was started with nohup would ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)  # or in the background
stop.listen()
def ask(name):
    os.kill(os.getpid(), getattr(signal, name))
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR2", 140), ("SIGHUP", 129)])
def test_a_signal_raises_at_once(name, code):
    done = run(
        f"""
try:
    ask({name!r})
    print("not reached")
except stop.Stopped as stopped:
    print(stopped)
    sys.exit(stopped.exit_code)
"""
    )
    assert (done.stdout, done.returncode) == (f"stopped by {name}\n", code)


def test_a_deferred_signal_waits_for_the_end_of_the_block():
    done = run(
        """
try:
    with stop.deferred():
        ask("SIGTERM")
        print(stop.requested())
    print("not reached")
except stop.Stopped:
    print("stopped")
"""
    )
    assert done.stdout == "True\nstopped\n"


def test_an_error_in_the_block_is_not_hidden():
    done = run(
        """
with stop.deferred():
    ask("SIGTERM")
    raise ValueError("first")
"""
    )
    assert done.stderr.splitlines()[-1] == "ValueError: first"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR2", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("when", range(9))
def test_a_block_is_done_whole_or_not_at_all(name, when):
    """A signal comes before, during or after it: it is heard, and so is the next one."""
    done = run(
        f"""
install, calls = signal.signal, []
def installing(signum, handler):
    install(signum, handler)
    comes()
def comes():
    calls.append(1)
    if len(calls) == {when + 1}:
        ask({name!r})
signal.signal = installing
halves = 0
def heard(code):
    try:
        code()
    except BaseException as asked:
        print(type(asked).__name__)
def block():
    with stop.undivided():
        globals()["halves"] += 1
        comes()
        globals()["halves"] += 1
heard(block)
heard(lambda: ask({name!r}))
print(halves % 2)
"""
    )
    raised = "KeyboardInterrupt" if name == "SIGINT" else "Stopped"
    assert done.stdout == f"{raised}\n{raised}\n0\n"


def test_no_except_exception_catches_it():
    assert run("try: ask('SIGTERM')\nexcept Exception: print('caught')").stdout == ""


def test_handlers_of_others_stay():
    theirs = "signal.signal(signal.SIGUSR2, lambda *_: print('theirs'))\nstop.listen()"
    assert (
        run(f"signal.signal(signal.SIGUSR2, signal.SIG_DFL)\n{theirs}\nask('SIGUSR2')").stdout == "theirs\n"
    )
