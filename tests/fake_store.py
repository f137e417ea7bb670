"""A store of stages that never ran, with results that can be worked out by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from vssl.dispatch.states import State
from vssl.files import write_atomically
from vssl.pipeline import Point
from vssl.result import Cost, Metric, StageResult
from vssl.stage.kind import AUXILIARY, CLASSIFIER, FEATURES, PRETEXT, TEST
from vssl.stage.spec import Recipe, StageSpec
from vssl.stage.store import StageStore, StoredStage

HOUR = 3600.0
KINDS = {
    "auxiliary": AUXILIARY,
    "pretext": PRETEXT,
    "finetune": CLASSIFIER,
    "gallery": FEATURES,
    "queries": FEATURES,
    "test": TEST,
}
COST = Cost(seconds=HOUR, gpus=2, clips=1000, peak_memory_bytes=2**30, energy_joules=3.6e6)
"""Of every stage, unless told otherwise: an hour on two GPUs."""

VIDEO_TOP1 = Metric("video_top1", "video top-1", headline=True)
DECLARED = [VIDEO_TOP1, Metric("clip_top1", "clip top-1"), Metric("chance", "chance")]


def videos(name, subset="train", num_videos=1000):
    """The data of a recipe; "synthetic" are videos that were made up."""
    if name == "synthetic":
        return {"_target_": "a.SyntheticVideos", "appearance": subset, "num_videos": num_videos}
    return {"_target_": "a.ListedVideos", "name": name, "subset": subset, "num_videos": num_videos}


def stage(name, task, data, seed, parent=None, epochs=20, **values):
    """A stage of task `task` on R3D; `values` are the task's own."""
    training = {"epochs": epochs, "batch_size": 30, "schedule": {"every_epochs": 6}}
    recipe = Recipe(
        task={"_target_": f"a.{task}", **values},
        backbone={"_target_": "a.R3D"},
        data=data,
        seed=seed,
        revision=1,
        training=training if KINDS[name].trains else None,
    )
    return StageSpec(name, KINDS[name], recipe, parent)


def chain(segments, seed, source="kinetics100", target="ucf101", epochs=20):
    """Pretext, fine-tuning and test."""
    pretext = stage("pretext", "VSPP", videos(source), seed, epochs=epochs, segments=segments)
    finetune = stage("finetune", "Classification", videos(target, num_videos=9537), seed, pretext, 25)
    return [pretext, finetune, stage("test", "Classification", videos(target, "test", 3783), seed, finetune)]


def result(metrics=None, declared=DECLARED, device="cuda", references=None, **cost):
    """What a stage came to; it declares those of the metrics that it has."""
    return StageResult(
        metrics=metrics or {},
        protocol={"backbone_parameters": 1234567, "trained": "backbone and heads", "clips_per_video": 10},
        cost=replace(COST, **cost),
        provenance={"git_commit": "0123456789abcdef", "vssl": "0.1.0", "device": device, "host": "node1"},
        declared=[metric for metric in declared if metric.name in (metrics or {})],
        references=references or {},
    )


def finish(store, spec, metrics=None, lines=(), **parts):
    """Write the folder of a stage that is done, with the `parts` of its result."""
    with store.claim(spec):
        written = "".join(json.dumps(one) + "\n" for one in lines)
        write_atomically(store.folder(spec) / "metrics.jsonl", written)
        store.finish(spec, result(metrics, **parts))


def state(spec, done=None, status=None, detail="", lines=()):
    """How a stage stands that has no folder; `done`: its result."""
    stage = StoredStage(spec, Path("nowhere"))
    vars(stage).update(result=done, lines=list(lines))  # in place of reading them
    return State(stage, status or ("done" if done else "to do"), detail=detail)


def finish_chain(store, specs, top1, **cost):
    """Finish every stage of a chain; the test reaches `top1` (a fraction) on videos."""
    for spec in specs[:-1]:
        finish(store, spec, lines=curve(spec), **cost)
    finish(store, specs[-1], {"video_top1": top1, "clip_top1": top1 - 0.125, "chance": 0.01}, **cost)


def curve(spec):
    """Losses that fall, a line per epoch."""
    epochs = range(1, spec.recipe.epochs + 1)
    return [
        {"step": 10 * e, "epoch": float(e), "loss": 2 / e, "speed_loss": 1 / e, "lr": 0.1} for e in epochs
    ]


def predict(store, spec, confusion_NN, class_names, videos=10):
    """Write predictions of a test, of so many videos for each true class (row), shares of which were taken
    for each class (column)."""
    labels_V, taken_V = [], []
    for label, shares in enumerate(confusion_NN):
        for other, share in enumerate(shares):
            labels_V += [label] * round(videos * share)
            taken_V += [other] * round(videos * share)
    scores_VN = np.eye(len(class_names))[taken_V]
    file = io.BytesIO()
    np.savez(file, scores_VN=scores_VN, labels_V=np.array(labels_V), class_names=np.array(class_names))
    (store.folder(spec) / "predictions.npz").write_bytes(file.getvalue())


def config(outputs, sweep=None):
    """What a mode is given beside the points."""
    given = {"outputs": str(outputs), "export": {"out": None}}
    return OmegaConf.create({**given, **({"sweep": sweep} if sweep else {})})


def store_in(folder):
    """An empty store."""
    return StageStore(folder)


def point(label, seed, specs, column=""):
    """A point of a sweep."""
    return Point(label, seed, specs, column)


def segments_sweep(folder, source="kinetics100", target="ucf101"):
    """Three rows of a sweep: two seeds of the first are done, one of the second, none of the third."""
    store = store_in(folder)
    chains = {(z, seed): chain(z, seed, source, target) for z in (1, 2, 3) for seed in (0, 1)}
    finish_chain(store, chains[1, 0], 0.50)
    finish_chain(store, chains[1, 1], 0.54)
    finish_chain(store, chains[2, 0], 0.60, energy_joules=None)
    finish(store, chains[2, 1][0])
    with store.claim(chains[2, 1][1]):
        store.fail(chains[2, 1][1], "out of memory")
    for seed, right in enumerate((0.50, 0.54)):
        shares = [[right, 1 - right], [1 - right, right]]
        predict(store, chains[1, seed][2], shares, ["run", "<b>jump</b>"], videos=50)
    sweep = {
        "name": "segments",
        "title": "Segments of VSPP",
        "source": "a paper, Table 4",
        "metric": "video_top1",
        "columns": [{"label": "UCF101", "overrides": ["downstream=ucf101"]}],
        "overrides": ["source=kinetics100"],
        "x_label": "segments",
        "curves": {"stage": "pretext", "metrics": ["loss", "speed_loss"]},
        "rows": [
            {"label": "1 segment", "overrides": [], "published": {"UCF101": 57.5}, "series": "both", "x": 1},
            {
                "label": "2 <i>segments</i> | $x_2$",
                "overrides": [],
                "published": {"UCF101": 57.5},
                "series": "both",
                "x": 2,
            },
            {"label": "3 segments", "overrides": [], "published": {"UCF101": 59.5}, "series": "both", "x": 3},
        ],
    }
    names = [row["label"] for row in sweep["rows"]]
    points = [point(names[z - 1], seed, specs, "UCF101") for (z, seed), specs in chains.items()]
    return points, config(folder, sweep)
