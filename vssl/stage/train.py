"""The body of every stage that trains: auxiliary, pretext, fine-tuning."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vssl.engine.bad_videos import BadVideos
from vssl.engine.checkpoint import save
from vssl.engine.loader import Steps, training_batches
from vssl.engine.loop import Loop, Observer, Runtime
from vssl.stage.build import build
from vssl.stage.parts import build_backbone, build_dataset, build_task, load_backbone, num_parameters
from vssl.stage.preview import leave_preview
from vssl.stage.provenance import provenance
from vssl.stage.spec import StageSpec, class_name
from vssl.stage.store import StageStore
from vssl.types import Backbone

log = logging.getLogger("vssl")


def train(spec: StageSpec, store: StageStore, runtime: Runtime, observer: Observer) -> dict[str, Any]:
    """Train from the parent's backbone, or from scratch, and write `weights.pt`; return the result.

    Continues from the folder's checkpoint if there is one, bit for bit.
    """
    folder, recipe = store.folder(spec), spec.recipe
    task = build_task(spec)
    training = build(recipe["training"], f"{spec.name}.training")
    dataset = build_dataset(spec, task)
    if dataset.excluded:
        log.warning(
            "%s: %d videos are left out: shorter than the %d frames that a sample needs",
            spec,
            dataset.excluded,
            task.sampler.min_frames,
        )
    leave_preview(spec, dataset, folder)
    backbone = build_backbone(spec)
    objective = task.objective(backbone)
    start = _starting_weights(spec, store)
    if start:
        # After the objective is made: what copies the backbone (a key encoder) copies its random weights.
        load_backbone(backbone, start)
    steps = Steps(len(dataset), training, recipe["seed"])
    loop = Loop(objective, steps, dataset.augmentation.apply, folder, runtime, observer)
    bad_videos = BadVideos(folder, dataset.videos, steps, loop.step, runtime.max_bad_share)
    batches = training_batches(dataset, steps, loop.step, runtime.loading())
    loop.run(bad_videos.watch(batches))
    save(folder / "weights.pt", {k: v.cpu() for k, v in objective.backbone.state_dict().items()})
    videos = training.batch_size * steps.total if training.drop_last else len(dataset) * training.epochs
    return {
        "metrics": {},
        "protocol": _protocol(spec, backbone, dataset.excluded, len(dataset)),
        "bad_videos": bad_videos.summary(),
        "cost": {"seconds": loop.seconds, "steps": steps.total, "videos": videos},
        "provenance": provenance(str(loop.device)),
    }


def _starting_weights(spec: StageSpec, store: StageStore) -> Path | None:
    if spec.parent:
        return store.folder(spec.parent) / "weights.pt"
    return Path(spec.paths["init"]) if "init" in spec.paths else None


def _protocol(spec: StageSpec, backbone: Backbone, excluded: int, samples: int) -> dict[str, Any]:
    """What a reader has to know beside a number that rests on this stage."""
    recipe = spec.recipe
    return {
        "backbone": class_name(recipe["backbone"]),
        "backbone_parameters": num_parameters(backbone),
        "task": class_name(recipe["task"]),
        "trained": "backbone and heads",
        "start": str(spec.parent or ("file" if recipe["init"] else "random")),
        "data": dict(recipe["data"]),
        "samples_per_epoch": samples,
        "videos_excluded": excluded,
        "epochs": recipe["training"]["epochs"],
        "effective_batch": recipe["training"]["batch_size"],
        "seed": recipe["seed"],
        "checkpoint_rule": "last epoch",
    }
