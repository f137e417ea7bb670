"""A multirun composes each point as a run of its own would."""

from conftest import SMALL, composed
from vssl.pipeline import merge, plan


def test_the_points_of_a_sweep_have_the_keys_of_single_runs(launch, data):
    sweep = [
        "auxiliary=none",
        "pretext=vcop,vspp",
        "seed=0,1",
        "protocol.training.epochs=3,4",
        "source={num_videos: 24}",
    ]
    done = launch("-m", "mode=plan", *sweep)
    assert done.returncode == 0, done.stderr
    alone = [
        [
            *SMALL,
            *data,
            sweep[0],
            f"pretext={pretext}",
            f"seed={seed}",
            f"protocol.training.epochs={epochs}",
            *sweep[4:],
        ]
        for pretext in ("vcop", "vspp")
        for seed in (0, 1)
        for epochs in (3, 4)
    ]
    keys = {spec.key for spec in merge(plan(composed(*overrides)) for overrides in alone)}
    printed = {line.split()[0] for line in done.stdout.splitlines() if " to do " in line}
    assert printed == keys
    assert len(keys) == 4 + 8 + 8  # pretexts are shared by the two lengths of fine-tuning
