"""What a contributor adds, and in how many files: a toy of each kind, put into a copy of the project, runs.

None of them edits a file that is there.
"""

import json
import shutil
import subprocess
import sys
from textwrap import dedent

import pytest

from conftest import ROOT, SMALL, environment, fitting

TOYS = {
    "pretext": {
        "vssl/pretext/toy.py": '''
            """Is the clip played backwards?"""

            from __future__ import annotations

            from dataclasses import dataclass

            import numpy as np
            from torch import nn
            from torch.nn import functional as F

            from vssl.checks import check_at_least
            from vssl.types import ClipPlan, ClipSampler, Objective, StepOutput, Task


            @dataclass(frozen=True)
            class Sampler(ClipSampler):
                num_frames: int

                def __post_init__(self):
                    check_at_least("num_frames", self.num_frames, 1)

                @property
                def classes(self):
                    return {"backwards": 2}

                def plan(self, num_frames, rng):
                    backwards = int(rng.integers(2))
                    frames_T = np.minimum(np.arange(self.num_frames), num_frames - 1)
                    return ClipPlan(frames_T[None, :: -1 if backwards else 1], {"backwards": backwards})


            class Classifier(Objective):
                def __init__(self, backbone):
                    super().__init__()
                    self.backbone, self.head = backbone, nn.Linear(backbone.feature_dim, 2)

                def forward(self, batch):
                    logits_BN = self.head(self.backbone(batch["clips"][:, 0]))
                    accuracy = (logits_BN.argmax(dim=1) == batch["backwards"]).float().mean()
                    return StepOutput(F.cross_entropy(logits_BN, batch["backwards"]), {"accuracy": accuracy})


            @dataclass(frozen=True)
            class Toy(Task):
                sampler: Sampler

                def objective(self, backbone):
                    return Classifier(backbone)

                def references(self):
                    return {"accuracy": {"chance": 0.5, "reachable": 1.0}}
        ''',
        "conf/pretext/toy.yaml": """
            defaults:
              - /augmentation@augmentation: crop
              - /training@training: default
              - _self_
            _target_: vssl.pretext.toy.Toy
            sampler:
              _target_: vssl.pretext.toy.Sampler
              num_frames: ${backbone.input.num_frames}
            revision: 1
        """,
        "tests/pretext/test_toy.py": '''
            """Frame lists by hand."""

            import numpy as np

            from vssl.pretext.toy import Sampler


            def test_frames():
                plans = [Sampler(3).plan(9, np.random.default_rng(seed)) for seed in range(9)]
                for plan in plans:
                    assert plan.frames_KT.tolist() == [[2, 1, 0] if plan.targets["backwards"] else [0, 1, 2]]
                assert len({plan.targets["backwards"] for plan in plans}) == 2
        ''',
    },
    "backbone": {
        "vssl/backbone/toy.py": '''
            """One convolution."""

            from torch import nn

            from vssl.checks import check_at_least
            from vssl.types import Backbone


            class Toy(Backbone):
                def __init__(self, width: int) -> None:
                    check_at_least("width", width, 1)
                    super().__init__()
                    self.feature_dim = width
                    self.layer = nn.Conv3d(3, width, 4, stride=4)
                    self.norm = nn.BatchNorm3d(width)

                def forward(self, clips_BCTHW):
                    return self.norm(self.layer(clips_BCTHW)).relu().mean(dim=(2, 3, 4))
        ''',
        "conf/backbone/toy.yaml": """
            _target_: vssl.backbone.toy.Toy
            width: 8
            input: {num_frames: 16, resize: [36, 36], crop: 32}
        """,
    },
    "protocol": {
        "vssl/protocol/toy.py": '''
            """Mean average precision and median rank of the gallery's own class."""

            from dataclasses import dataclass

            import torch
            from torch.nn import functional as F

            from vssl.protocol.evaluation import EvalResult
            from vssl.protocol.neighbours import Neighbours
            from vssl.result import Metric


            @dataclass(frozen=True)
            class Toy(Neighbours):
                power: float

                @property
                def metrics(self):
                    rank = Metric("rank", "median rank", larger_is_better=False, percent=False)
                    return [Metric("mAP", "mAP", headline=True), rank]

                def evaluate(self, queries, gallery, num_classes):
                    cosine_VG = F.normalize(queries.features_VD) @ F.normalize(gallery.features_VD).T
                    order_VG = cosine_VG.argsort(dim=1, descending=True)
                    hits_VG = gallery.labels_V[order_VG] == queries.labels_V[:, None]
                    places_G = torch.arange(1, hits_VG.shape[1] + 1)
                    precision_VG = hits_VG.cumsum(dim=1) / places_G
                    mean = float(((precision_VG * hits_VG).sum(1) / hits_VG.sum(1)).mean())
                    rank = float((hits_VG.float().argmax(dim=1) + 1.0).median())
                    return EvalResult({"mAP": mean**self.power, "rank": rank}, {"order_VG": order_VG})
        ''',
        "conf/protocol/toy.yaml": """
            _target_: vssl.protocol.toy.Toy
            power: 1.0
            revision: 1
        """,
    },
    "tracking": {
        "vssl/tracking/toy.py": '''
            """Appends what it is told to a file."""

            from dataclasses import dataclass
            from pathlib import Path

            from vssl.tracking.metrics import Tracker


            @dataclass(frozen=True)
            class Toy(Tracker):
                file: str

                def _say(self, *words):
                    with Path(self.file).open("a") as file:
                        print(*words, file=file)

                def begin(self, launch):
                    self._say("begin")

                def mirror(self, stage, status):
                    self._say(stage.name, status)

                def reuse(self, stage):
                    self._say(stage.name, "reused")

                def sync(self, stage, status):
                    self._say(stage.name, status)

                def end(self, ok):
                    self._say("end", ok)

                def where(self):
                    return self.file
        ''',
        "conf/tracking/toy.yaml": """
            _target_: vssl.tracking.toy.Toy
            file: ${outputs}/told.txt
        """,
    },
    "decoder": {
        "vssl/data/decoders/toy.py": '''
            """Another decoder, upside down."""

            from vssl.data.decoders import pyav


            def read(path, frames_T):
                return pyav.read(path, frames_T)[:, ::-1].copy()
        ''',
    },
    "data set": {
        "conf/source/toy.yaml": """
            defaults: [folder, _self_]
            name: toy
            root: ???
            published: {classes: 8, train: [16], test: [8]}
        """,
        "conf/downstream/toy.yaml": """
            defaults:
              - folder
              - _self_
              - override /source@train: toy
              - override /source@test: toy
        """,
    },
    "augmentation": {
        "vssl/data/operations/toy.py": '''
            """Negative pictures."""

            from dataclasses import dataclass

            from vssl.data.operations import Operation


            @dataclass(frozen=True)
            class Toy(Operation):
                strength: float

                def apply(self, pixels_NCTHW, drawn):
                    return pixels_NCTHW + self.strength * (255 - 2 * pixels_NCTHW)

                def still(self):
                    return self
        ''',
    },
}
NEW_FILES = {
    "pretext": 3,
    "backbone": 2,
    "protocol": 2,
    "tracking": 2,
    "decoder": 1,
    "data set": 2,
    "augmentation": 1,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the toys in it."""
    root = tmp_path_factory.mktemp("project")
    for name in ("vssl", "conf", "hydra_plugins", "sweeps"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "launch.py", root)
    for files in TOYS.values():
        for path, text in files.items():
            assert not (root / path).exists()
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(dedent(text).lstrip())
    return root


def launch(project, *overrides):
    others = ("protocol", "tracking", "source", "downstream")
    words = fitting([*(line for line in SMALL if not line.startswith(others)), *overrides])
    done = subprocess.run(
        [sys.executable, "launch.py", *words],
        cwd=project,
        env={**environment(), "PYTHONPATH": str(project)},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_how_many_files_each_kind_takes():
    assert {kind: len(files) for kind, files in TOYS.items()} == NEW_FILES


def test_toys_of_all_kinds_run_together(project):
    chosen = [f"{group}=toy" for group in ("pretext", "backbone", "protocol", "tracking")]
    operation = "+pretext.augmentation.toy={_target_: vssl.data.operations.toy.Toy, strength: 0.5}"
    videos = ["source.num_videos=16", "downstream.train.num_videos=16", "downstream.test.num_videos=8"]
    printed = launch(project, *chosen, "decoder=toy", operation, *videos, "features.sampler.num_clips=2")
    stages = project / "outputs" / "stages"
    [result] = [json.loads(path.read_text()) for path in stages.glob("test/*/result.json")]
    assert 0 < result["metrics"]["mAP"] <= 1
    assert result["metrics"]["rank"] >= 1
    assert result["protocol"]["power"] == 1.0
    for word in ("mAP", "median rank", f"{100 * result['metrics']['mAP']:.1f}"):
        assert word in printed
    told = (project / "outputs" / "told.txt").read_text().splitlines()
    assert told[0] == "begin"
    assert told[-1] == "end True"
    assert {"auxiliary finished", "pretext finished", "test finished"} <= set(told)
    assert "toy" in next(stages.glob("pretext/*/recipe.yaml")).read_text()


def test_a_data_set_is_two_files(project):
    folder = next((project / "outputs" / "data").glob("synthetic-*"))
    videos = sorted(folder.glob("*.mp4"))
    for subset, some in (("train", videos[:8]), ("test", videos[:4])):
        for number, video in enumerate(some):
            target = project / "videos" / subset / f"class{number % 2}" / f"{subset}{video.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, target)
    chosen = ["source=toy", "source.root=videos", "downstream=toy", "downstream.root=videos"]
    launch(project, "mode=check", *chosen)
    small = ["auxiliary=none", "pretext=none", "protocol=knn", "features.sampler.num_clips=1"]
    assert "toy" in launch(project, *chosen, *small, "tracking=jsonl")


def test_the_tests_of_a_toy_are_found(project):
    test = project / "tests" / "pretext" / "test_toy.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=project,
        env={**environment(), "PYTHONPATH": str(project)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
