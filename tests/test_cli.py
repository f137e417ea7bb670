"""The command line as people write it."""

from vssl.cli import as_hydra_wants_it


def test_flags_may_come_late_and_experiments_with_a_plus():
    words = ["mode=plan", "+experiment=quick", "-m", "+sweeps=quickstart"]
    assert as_hydra_wants_it(words) == ["-m", "mode=plan", "experiment=quick", "+sweeps=quickstart"]
