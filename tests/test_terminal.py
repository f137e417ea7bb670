"""What is printed never stops the work."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT, command, environment

SAYS = "import sys; from vssl.terminal import steady_output; steady_output(); "


def says(code, **options):
    """A process that prints with steady output."""
    words = [sys.executable, "-c", SAYS + code]
    return subprocess.run(words, cwd=ROOT, text=True, check=False, timeout=60, **options)


def test_a_reader_that_has_gone_stops_nothing(tmp_path):
    reads, writes = os.pipe()
    os.close(reads)
    done = says(
        f"print('a' * 10**6, flush=True); open('{tmp_path}/after', 'w'); print('b', file=sys.stderr)",
        stdout=writes,
        stderr=subprocess.PIPE,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "b\n")
    assert (tmp_path / "after").exists()


def test_a_full_disk_under_the_output_stops_nothing():
    with open("/dev/full", "w") as full:
        done = says("print('a', flush=True); sys.exit(3)", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (3, "")


def test_letters_that_the_encoding_has_not_are_escaped():
    ascii_only = {**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = says(r"print('31 \xb1 2')", stdout=subprocess.PIPE, env=ascii_only)
    assert (done.returncode, done.stdout) == (0, "31 \\xb1 2\n")


def test_closed_streams_are_not_written_into_the_next_file(tmp_path):
    code = f"import os; file = open('{tmp_path}/file', 'w'); print('a', flush=True); os.write(1, b'b'); input"
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", SAYS + code]
    assert subprocess.run(closed, cwd=ROOT, check=False, timeout=60).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_whose_output_is_cut_off_goes_on(processes, data, tmp_path):
    """`python launch.py | head -1`"""
    slots = f"dispatch.max_parallel_stages={processes}"
    words = command(tmp_path, data, "auxiliary=none", "pretext=none", slots)
    launch = subprocess.Popen(
        words, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert launch.stdout.readline()
    launch.stdout.close()
    assert (launch.stderr.read(), launch.wait(timeout=200)) == ("", 0)
    assert len(list(tmp_path.glob("stages/*/*/result.json"))) == 2
