"""mode=status watch=true: from outside, as a user has it."""

import signal
import subprocess

from conftest import ROOT, command, environment

LINE = "0 of 3 stages done, ETA ?"


def test_ctrl_c_leaves_what_is_watched_without_a_traceback(tmp_path, data):
    words = command(tmp_path, data, "mode=status", "watch=true", "auxiliary=none")
    watched = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    waits = f"{LINE}, nothing runs: this waits for a launch (Ctrl-C leaves)\n"
    assert watched.stdout.readline() == waits
    watched.send_signal(signal.SIGINT)
    said, _ = watched.communicate(timeout=100)
    assert (watched.returncode, said) == (0, f"{LINE}\n")


def test_what_is_done_ends_it(launch, finished):
    store, _ = finished
    words = ["auxiliary=none", "protocol.test.sampler.num_clips=2", f"outputs={store.root.parent}"]
    done = launch("mode=status", "watch=true", *words)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == "3 of 3 stages done, 100% of the clips"
    assert last.startswith("3 done; ")
