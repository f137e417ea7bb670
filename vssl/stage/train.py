"""The body of every stage that trains: auxiliary, pretext, fine-tuning."""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from vssl import distributed
from vssl.engine.bad_videos import BadVideos
from vssl.engine.checkpoint import CHECKPOINT, WEIGHTS, load_checkpoint, save
from vssl.engine.loader import training_batches
from vssl.engine.loop import Loop
from vssl.files import write_atomically
from vssl.result import StageResult
from vssl.stage.callback import StageCallback
from vssl.stage.choice import as_trained, choice_of
from vssl.stage.construct import Machine, Stage
from vssl.stage.context import Context
from vssl.stage.monitor import monitor_for
from vssl.stage.preview import preview
from vssl.stage.provenance import RUNS, mixed_code, note_run, provenance
from vssl.stage.spec import class_name
from vssl.stage.store import StageStore, StoredStage
from vssl.stage.weights import load_backbone, num_parameters, start_in_words, starting_weights
from vssl.types import Backbone, Objective

log = logging.getLogger("vssl")

PREVIEW = "preview.png"


def train(stage: Stage, context: Context, callback: StageCallback) -> StageResult:
    """Train from the parent's backbone, or from scratch, and write `weights.pt`; return the result.

    Continues from the folder's checkpoint if there is one, bit for bit, or from the end of a shorter training
    with the same recipe. With several processes, all of them call this and rank 0 writes the files.
    """
    stage.check(Machine(distributed.world_size(), context.runtime.torch_device().type))
    stage.source.prepare()
    if distributed.rank() == 0:
        _leave_preview(stage, context, callback)
        _continue_another(stage, context.store)
    runs = _note_run(stage, context.store) if distributed.rank() == 0 else []
    monitor = monitor_for(stage, context.monitoring, context.runtime)
    distributed.barrier()
    objective = _begin(stage, context.store)
    loop = _loop(stage, objective, context, callback, partial(monitor.look, objective) if monitor else None)
    bad_videos = BadVideos(
        loop.folder, stage.dataset.videos, loop.steps, loop.step, context.runtime.max_bad_share
    )
    loading = context.runtime.loading()
    with closing(training_batches(stage.dataset, loop.steps, loop.step, loading, loop.cost)) as batches:
        loop.run(bad_videos.watch(batches))
    if distributed.rank() == 0:
        weights = objective.backbone.state_dict()
        save(loop.folder / WEIGHTS, {name: value.cpu().contiguous() for name, value in weights.items()})
    samples = loop.steps.samples
    seen = {"steps": loop.steps.total, "videos": samples, "clips": samples * stage.clips_per_sample}
    return StageResult(
        metrics={},
        protocol={
            **_protocol(stage, objective.backbone),
            "step": _shared_out(stage),
            **(choice.facts() if (choice := choice_of(stage.spec, context.store)) else {}),
        },
        references={**stage.task.references(), **(monitor.references() if monitor else {})},
        bad_videos=bad_videos.summary(),
        cost=replace(loop.costs(), **seen),
        provenance={**provenance(context.runtime.device_in_words()), "runs": runs},
    )


def _note_run(stage: Stage, store: StageStore) -> list[dict[str, Any]]:
    """Note what trains the stage from here on; warn if that is other code than before."""
    folder = store.folder(stage.spec)
    runs = note_run(folder, continues=(folder / CHECKPOINT).exists())
    if remark := mixed_code(runs):
        log.warning("%s: %s; delete %s to train it anew", stage.spec, remark, folder)
    return runs


def _loop(stage: Stage, objective: Objective, context: Context, callback: StageCallback, look: Any) -> Loop:
    log.info("%s: %d samples per step: %s", stage.spec, stage.steps.training.batch_size, _shared_out(stage))
    return Loop(
        objective,
        stage.steps,
        stage.clips_per_sample,
        stage.dataset.augmentation.apply,
        context.store.folder(stage.spec),
        context.runtime,
        callback,
        look,
    )


def _shared_out(stage: Stage) -> str:
    """How a step is computed, in words."""
    return stage.steps.training.shared_out(distributed.world_size())


def _begin(stage: Stage, store: StageStore) -> Objective:
    """The objective, its backbone as the stage starts with it."""
    backbone = stage.backbone()
    objective: Objective = stage.task.objective(backbone)
    if start := starting_weights(stage.spec, store):
        # After the objective is made: what copies the backbone (a key encoder) copies its random weights.
        load_backbone(backbone, start)
    return objective


def _leave_preview(stage: Stage, context: Context, callback: StageCallback) -> None:
    """Warn of what should be known; show some samples of a training without labels, once."""
    for remark in stage.remarks():
        log.warning("%s: %s", stage.spec, remark)
    if not stage.spec.kind.labelled and not (context.store.folder(stage.spec) / PREVIEW).exists():
        callback.show(preview(stage, samples=4))


def _continue_another(stage: Stage, store: StageStore) -> None:
    """Begin at the end of a finished training that passed through the same states."""
    folder = store.folder(stage.spec)
    if (folder / CHECKPOINT).exists():
        return
    for other in (*_same(stage, store), *_shorter(stage, store)):
        if (other.folder / CHECKPOINT).exists() and other.result is not None:
            content = load_checkpoint(other.folder / CHECKPOINT)
            if content.get("share_was_read") and other.spec.recipe.epochs != stage.recipe.epochs:
                continue
            log.info("%s: continues %s, %d epochs", stage.spec, other.spec, other.spec.recipe.epochs)
            for name in ("bad_videos.json", "metrics.jsonl", RUNS):
                if (other.folder / name).exists():
                    write_atomically(folder / name, (other.folder / name).read_bytes())
            content["cost"]["inherited_seconds"] = content["cost"]["seconds"]
            save(folder / CHECKPOINT, content)  # what is looked for comes last
            return


def _same(stage: Stage, store: StageStore) -> Iterator[StoredStage]:
    """Trainings whose values, chosen from others or given, are those that were chosen for this one."""
    for other in store.finished(stage.spec.name) if stage.spec.recipe.choose else ():
        if other.spec.parent == stage.spec.parent and as_trained(other) == stage.recipe:
            yield other


def _shorter(stage: Stage, store: StageStore) -> Iterator[StoredStage]:
    """Trainings of fewer epochs, the longest first."""
    training = stage.steps.training
    if not training.schedule.depends_on_length:
        for epochs in range(training.epochs - 1, 0, -1):
            yield store.stage(stage.spec.shortened(epochs))


def _protocol(stage: Stage, backbone: Backbone) -> dict[str, Any]:
    """What a reader has to know beside a number that rests on this stage."""
    recipe = stage.recipe
    return {
        "backbone": class_name(recipe.backbone),
        "backbone_parameters": num_parameters(backbone),
        "task": class_name(recipe.task),
        "trained": "backbone and heads" if any(p.requires_grad for p in backbone.parameters()) else "head",
        "start": start_in_words(stage.spec),
        "data": dict(recipe.data),
        "samples_per_epoch": stage.num_samples,
        "videos_excluded": stage.dataset.excluded,
        "epochs": recipe.epochs,
        "effective_batch": stage.steps.training.batch_size,
        "seed": recipe.seed,
        "checkpoint_rule": "last epoch",
    }
