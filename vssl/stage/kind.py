"""The kinds of stages: what each does, and what it needs of a machine."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class StageKind:
    """What stages of one kind have in common.

    body: module and function that run such a stage; imported when it runs, as torch comes with it.
    trains: it is a training, which several processes may share, and leaves weights.
    labelled: it needs the labels of its videos.
    resources: whose resources of dispatch=slurm it asks for.
    """

    name: str
    body: str
    trains: bool
    labelled: bool
    resources: str

    def load_body(self) -> Callable[..., Any]:
        """The function that runs a stage of this kind."""
        module, _, function = self.body.rpartition(".")
        body: Callable[..., Any] = getattr(import_module(module), function)
        return body


AUXILIARY = StageKind("auxiliary", "vssl.stage.train.train", True, False, "auxiliary")
PRETEXT = StageKind("pretext", "vssl.stage.train.train", True, False, "pretext")
CLASSIFIER = StageKind("classifier", "vssl.stage.train.train", True, True, "finetune")
FEATURES = StageKind("features", "vssl.stage.features.describe_videos", False, False, "test")
TEST = StageKind("test", "vssl.stage.evaluate.test_classifier", False, True, "test")
COMPARISON = StageKind("comparison", "vssl.stage.evaluate.compare_features", False, True, "test")

KINDS = {kind.name: kind for kind in (AUXILIARY, PRETEXT, CLASSIFIER, FEATURES, TEST, COMPARISON)}
