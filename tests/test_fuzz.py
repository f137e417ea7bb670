"""Mutated command lines end in a result or in one line, never in a traceback."""

import os
import random
import runpy
import sys
from contextlib import suppress

import pytest

from conftest import ROOT
from vssl import cli
from vssl.errors import VsslError
from vssl.overrides import as_hydra_wants_it, check_words

WORDS = [
    *(
        "mode=plan",
        "mode=report",
        "seed=0",
        "seed=0,1,2",
        "-m",
        "+experiment=quick",
        "experiment=[as_paper,quick]",
    ),
    *(
        "auxiliary=none",
        "pretext=vcop",
        "pretext=vspp,rspnet",
        "backbone=r3d_10",
        "protocol=knn",
        "~auxiliary",
    ),
    *(
        "source=folder",
        "source.root=/data/my videos",
        "roots.ucf101=/data",
        "init.weights=net.pt",
        "label=a (b)",
    ),
    *("pretext.training.epochs=2", "pretext.sampler.num_segments=1,2", "auxiliary.teacher_temperature=0.01"),
    *(
        "pretext.augmentation.flip=null",
        "~pretext.augmentation.flip",
        "+pretext.augmentation.grey={_target_: x.Y}",
    ),
    *(
        "dispatch=slurm",
        "dispatch.default.memory=32G",
        'dispatch.default.extra=["--exclude=n7"]',
        "tracking=jsonl",
    ),
    *(
        "tracking.uri=http://host:5000",
        "monitor.every_epochs=2",
        "+sweeps=table3",
        "plan.clips_per_s=500",
        "--cfg job",
    ),
    *(
        "runtime.device=cpu",
        "source.root=${outputs}/a",
        "hydra.run.dir=.",
        "prepare.size=[112,112]",
        "stage=3f9c",
    ),
]
PIECES = [*"=,.'\"[](){}$~+@-:;#&|<>!%^*?\\/ \t\n0_aü日\udcff", "null", "none", "${", "1e3", "../", "=="]


def mutated(rng):
    """Some words, each with a few changes."""
    words = rng.sample(WORDS, rng.randint(1, 3))
    return [part for word in words for part in _change(word, rng).split(" " if word == "--cfg job" else "\0")]


def _change(word, rng):
    """Most changes are made to the value: a name that does not exist hides the rest."""
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        start = rng.randint(word.find("=") + 1 if rng.random() < 0.9 else 0, len(word))
        end = min(len(word), start + rng.choice([0, 0, 1, 1, 3]))
        word = word[:start] + rng.choice([*PIECES, "", word[:start][-4:]]) + word[end:]
    return word


@pytest.mark.parametrize("seed", range(10))
def test_words_are_taken_or_refused_in_one_line(seed):
    rng, groups = random.Random(seed), cli.groups(ROOT / "conf")
    for _ in range(60):
        words = mutated(rng)
        taken = as_hydra_wants_it(words)
        assert as_hydra_wants_it(taken) == taken, words
        with suppress(VsslError):
            check_words(taken, groups)


@pytest.mark.parametrize("seed", range(int(os.environ.get("VSSL_FUZZ", "20"))))
def test_a_launch_ends_in_a_plan_or_in_one_line(seed, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(ROOT)
    words = [*mutated(random.Random(seed)), f"outputs={tmp_path}", "mode=plan"]
    monkeypatch.setattr(sys, "argv", ["launch.py", *words])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    code = 0
    try:
        runpy.run_path("launch.py", run_name="__main__")
    except SystemExit as end:
        code = end.code
    said = capfd.readouterr().err
    assert code in (0, 1), (words, said)
    assert code == 0 or said.startswith("vssl: "), (words, said)
    assert said.count("\n") == code, (words, said)
