"""The command line as people write it."""

from vssl.cli import as_hydra_wants_it


def test_flags_may_come_late_and_experiments_with_a_plus():
    words = ["mode=plan", "+experiment=quick", "-m", "+sweeps=quickstart"]
    assert as_hydra_wants_it(words) == ["-m", "mode=plan", "experiment=quick", "+sweeps=quickstart"]


def test_a_sweep_file_is_always_a_multirun():
    assert as_hydra_wants_it(["mode=report", "+sweeps=table4"]) == ["-m", "mode=report", "+sweeps=table4"]
    assert as_hydra_wants_it(["+sweeps=table4", "-m"]) == ["-m", "+sweeps=table4"]
    assert as_hydra_wants_it(["--cfg", "job", "+sweeps=table4"]) == ["--cfg", "job", "+sweeps=table4"]
