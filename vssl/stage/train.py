"""The body of every stage that trains: auxiliary, pretext, fine-tuning."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from vssl import distributed
from vssl.data.dataset import ClipDataset
from vssl.engine.bad_videos import BadVideos
from vssl.engine.checkpoint import CHECKPOINT, WEIGHTS, load_checkpoint, save
from vssl.engine.loader import Steps, training_batches
from vssl.engine.loop import Callback, Loop
from vssl.engine.runtime import Runtime
from vssl.engine.training import Training
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.stage.build import build
from vssl.stage.monitor import Monitoring, monitor_for
from vssl.stage.parts import (
    build_backbone,
    build_dataset,
    build_task,
    check_labels,
    clips_per_video,
    labels,
    load_backbone,
    num_parameters,
    start_in_words,
    starting_weights,
)
from vssl.stage.preview import leave_preview
from vssl.stage.provenance import provenance
from vssl.stage.spec import StageSpec, class_name
from vssl.stage.store import StageStore
from vssl.types import Backbone, Objective, Task

log = logging.getLogger("vssl")


def train(
    spec: StageSpec,
    store: StageStore,
    runtime: Runtime,
    callback: Callback,
    monitoring: Monitoring | None = None,
) -> dict[str, Any]:
    """Train from the parent's backbone, or from scratch, and write `weights.pt`; return the result.

    Continues from the folder's checkpoint if there is one, bit for bit, or from the end of a shorter training
    with the same recipe. With several processes, all of them call this and rank 0 writes the files.
    """
    folder, task = store.folder(spec), build_task(spec)
    training: Training = build(spec.recipe["training"], f"{spec.name}.training")
    dataset = build_dataset(spec, task)
    _check(spec, training, dataset)
    if distributed.rank() == 0:
        _warn_of_excluded(spec, dataset, task.sampler.min_frames)
        leave_preview(spec, dataset, folder)
        _continue_shorter(spec, store, training)
    monitor = monitor_for(spec, monitoring, runtime)
    distributed.barrier()
    objective = _begin(spec, store, task)
    steps = Steps(len(dataset), training, spec.recipe["seed"])
    step = training.shared_out(distributed.world_size())
    log.info("%s: %d samples per step: %s", spec, training.batch_size, step)
    look = partial(monitor.look, objective) if monitor else None
    clips, show = clips_per_video(task, dataset), dataset.augmentation.apply
    loop = Loop(objective, steps, clips, show, folder, runtime, callback, look)
    bad_videos = BadVideos(folder, dataset.videos, steps, loop.step, runtime.max_bad_share)
    batches = training_batches(dataset, steps, loop.step, runtime.loading(), loop.cost)
    loop.run(bad_videos.watch(batches))
    if distributed.rank() == 0:
        weights = objective.backbone.state_dict()
        save(folder / WEIGHTS, {name: value.cpu().contiguous() for name, value in weights.items()})
    seen = {"steps": steps.total, "videos": steps.samples, "clips": steps.samples * clips}
    return {
        "metrics": {},
        "protocol": {**_protocol(spec, objective.backbone, dataset), "step": step},
        "references": {**task.references(), **(monitor.references() if monitor else {})},
        "bad_videos": bad_videos.summary(),
        "cost": {**loop.costs(), **seen},
        "provenance": provenance(str(loop.device)),
    }


def _check(spec: StageSpec, training: Training, dataset: ClipDataset) -> None:
    """Raise `VsslError` for what task, recipe and data cannot do together."""
    task = spec.recipe["task"]
    if task.get("shuffle_bn") and not training.drop_last:
        raise VsslError(f"{spec.name}.shuffle_bn=true needs {spec.name}.training.drop_last=true")
    if "num_classes" in task:
        check_labels(labels(dataset), task["num_classes"], spec)


def _begin(spec: StageSpec, store: StageStore, task: Task) -> Objective:
    """The objective, its backbone as the stage starts with it."""
    backbone = build_backbone(spec)
    objective = task.objective(backbone)
    if start := starting_weights(spec, store):
        # After the objective is made: what copies the backbone (a key encoder) copies its random weights.
        load_backbone(backbone, start)
    return objective


def _warn_of_excluded(spec: StageSpec, dataset: ClipDataset, frames: int) -> None:
    if dataset.excluded:
        what = f"{dataset.excluded} videos are left out: shorter than the {frames} frames that a sample needs"
        log.warning("%s: %s", spec, what)


def _continue_shorter(spec: StageSpec, store: StageStore, training: Training) -> None:
    """Begin at the end of a finished training of fewer epochs, if it passed through the same states."""
    folder = store.folder(spec)
    if training.schedule.depends_on_length or (folder / CHECKPOINT).exists():
        return
    for epochs in range(training.epochs - 1, 0, -1):
        shorter = spec.shortened(epochs)
        there = store.folder(shorter)
        if (there / CHECKPOINT).exists() and store.result(shorter) is not None:
            log.info("%s: continues %s, %d epochs", spec, shorter, epochs)
            for name in ("bad_videos.json", "metrics.jsonl"):
                if (there / name).exists():
                    write_atomically(folder / name, (there / name).read_bytes())
            content = load_checkpoint(there / CHECKPOINT)
            content["cost"]["inherited_seconds"] = content["cost"]["seconds"]
            save(folder / CHECKPOINT, content)  # what is looked for comes last
            return


def _protocol(spec: StageSpec, backbone: Backbone, dataset: ClipDataset) -> dict[str, Any]:
    """What a reader has to know beside a number that rests on this stage."""
    recipe = spec.recipe
    return {
        "backbone": class_name(recipe["backbone"]),
        "backbone_parameters": num_parameters(backbone),
        "task": class_name(recipe["task"]),
        "trained": "backbone and heads" if any(p.requires_grad for p in backbone.parameters()) else "head",
        "start": start_in_words(spec),
        "data": dict(recipe["data"]),
        "samples_per_epoch": len(dataset),
        "videos_excluded": dataset.excluded,
        "epochs": recipe["training"]["epochs"],
        "effective_batch": recipe["training"]["batch_size"],
        "seed": recipe["seed"],
        "checkpoint_rule": "last epoch",
    }
