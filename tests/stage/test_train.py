"""A training: bad videos, continuing a shorter one, and what its result says."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import RUNTIME, SMALL, composed, context_in
from vssl.engine.checkpoint import load
from vssl.errors import OptionError, VsslError
from vssl.pipeline import plan
from vssl.stage.construct import Stage
from vssl.stage.run import run_stage
from vssl.types import Objective

RUNTIME = replace(RUNTIME, max_bad_share=0.2)


@pytest.fixture
def damaged(tmp_path, data):
    """The pretext stage of a small pipeline, over videos of which two are no videos any more."""
    overrides = (*SMALL, *data, "auxiliary=none")
    [pretext, *_] = plan(composed(*overrides))
    source = Stage(pretext).source
    source.prepare()
    shutil.copytree(source.folder, tmp_path / source.folder.name)
    names = [source.videos[at].name for at in (2, 9)]
    for name in names:
        (tmp_path / source.folder.name / name).write_text("no video")
    return replace(pretext, paths={**pretext.paths, "root": str(tmp_path)}), names


def run(spec, outputs, runtime=RUNTIME):
    context = context_in(outputs, runtime)
    folder = context.store.folder(spec)
    folder.mkdir(parents=True)
    return run_stage(spec, context), folder


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_bad_videos_are_replaced_named_and_counted_whatever_the_workers(damaged, tmp_path):
    spec, names = damaged
    weights = []
    for workers in (0, 1, 3):
        result, folder = run(spec, tmp_path / str(workers), replace(RUNTIME, workers=workers))
        assert result.bad_videos == {"per_epoch": {"1": 2, "2": 2}, "names": names}
        log = Path(folder / "log.txt").read_text()
        assert all(f"{name}: cannot be decoded" in log for name in names)
        weights.append(load(folder / "weights.pt"))
    for name, values in weights[0].items():
        assert torch.equal(values, weights[1][name])
        assert torch.equal(values, weights[2][name])


def test_a_longer_training_goes_on_where_a_shorter_one_ended(data, tmp_path):
    """Same recipe but for the epochs, and a schedule that does not look at their number: same bits."""

    def pretext(epochs):
        return plan(composed(*SMALL, *data, "auxiliary=none", f"pretext.training.epochs={epochs}"))[0]

    run(pretext(1), tmp_path / "continued")
    result, continued = run(pretext(3), tmp_path / "continued")
    _, alone = run(pretext(3), tmp_path / "alone")
    assert f"continues {pretext(1)}, 1 epochs" in (continued / "log.txt").read_text()
    one, two = (load(folder / "checkpoint.pt") for folder in (continued, alone))
    assert one["step"] == two["step"] == 6
    assert result.cost.seconds > result.cost.inherited_seconds > 0
    assert result.cost.own.seconds == result.cost.seconds - result.cost.inherited_seconds
    assert all(torch.equal(value, two["objective"][name]) for name, value in one["objective"].items())


def test_not_where_the_schedule_depends_on_the_length(data, tmp_path):
    def pretext(epochs):
        spec = plan(composed(*SMALL, *data, "auxiliary=none", f"pretext.training.epochs={epochs}"))[0]
        schedule = {**spec.recipe.training["schedule"], "_target_": "vssl.engine.schedules.Cosine"}
        del schedule["every_epochs"], schedule["factor"]
        training = {**spec.recipe.training, "schedule": {**schedule, "final_factor": 0.1}}
        return replace(spec, recipe=replace(spec.recipe, training=training))

    run(pretext(1), tmp_path)
    _, folder = run(pretext(2), tmp_path)
    assert "continues" not in (folder / "log.txt").read_text()


def test_not_where_the_task_looks_at_how_far_the_training_is(data, tmp_path, monkeypatch):
    """Nobody has to say that it does: reading the share is noted, in a training that was resumed too."""

    def pretext(epochs):
        return plan(composed(*SMALL, *data, "auxiliary=none", f"pretext.training.epochs={epochs}"))[0]

    run(pretext(1), tmp_path)
    read = []
    monkeypatch.setattr(Objective, "after_step", lambda self, progress: read.append(progress.share))
    _, two = run(pretext(2), tmp_path)
    assert f"continues {pretext(1)}" in (two / "log.txt").read_text()  # which did not look
    assert read == [0.75, 1.0]
    monkeypatch.undo()
    (two / "result.json").unlink()
    run_stage(pretext(2), context_in(tmp_path))  # resumed at its end
    _, three = run(pretext(3), tmp_path)
    assert f"continues {pretext(1)}" in (three / "log.txt").read_text()
    assert load(three / "checkpoint.pt")["share_was_read"] is False


def test_too_many_bad_videos_fail_the_stage_with_their_names(damaged, tmp_path):
    spec, names = damaged
    with pytest.raises(VsslError, match=rf"2 of the 16 samples of epoch 1 .*: {names[0]}, {names[1]}; "):
        run(spec, tmp_path, replace(RUNTIME, max_bad_share=0.1))


def test_clips_of_videos_that_are_left_out_are_not_counted(data, tmp_path):
    """A VCOP tuple is three clips: short videos have none."""
    vcop = ["auxiliary=none", "pretext=vcop"]
    spec = plan(composed(*SMALL, *data, *vcop))[0]
    result, _ = run(spec, tmp_path)
    left_out = result.protocol["videos_excluded"]
    seen = (spec.recipe.data["num_videos"] - left_out) * spec.recipe.epochs
    assert left_out > 0
    assert (result.cost.videos, result.cost.clips) == (seen, 3 * seen)
    warned = (
        f"left out: {left_out} of 16 videos of synthetic, shorter than the 64 frames that VCOPSampler needs"
    )
    assert [line.partition(": ")[2] for line in log_lines(spec, tmp_path) if "WARNING" in line] == [warned]


def log_lines(spec, outputs):
    return (context_in(outputs).store.folder(spec) / "log.txt").read_text().splitlines()


def test_what_a_reader_has_to_know_of_a_training(data, tmp_path):
    pretext, finetune, _ = plan(composed(*SMALL, *data, "auxiliary=none"))
    first, _ = run(pretext, tmp_path)
    second, _ = run(finetune, tmp_path)
    assert first.metrics == second.metrics == {}
    assert not [*first.declared, *second.declared]
    common = {
        "epochs": 2,
        "effective_batch": 8,
        "seed": 0,
        "backbone": "Tiny",
        "checkpoint_rule": "last epoch",
    }
    for result, spec, task, start in (
        (first, pretext, "VSPP", "random"),
        (second, finetune, "Classification", str(pretext)),
    ):
        own = {"task": task, "start": start, "data": dict(spec.recipe.data), "samples_per_epoch": 16}
        assert result.protocol == {
            **common,
            **own,
            "backbone_parameters": 27 * (3 * 8 + 8 * 16 + 16 * 32 + 32 * 64) + 2 * (8 + 16 + 32 + 64),
            "trained": "backbone and heads",
            "videos_excluded": 0,
            "step": "1 processes x 1 micro-batches of 8",
        }
        assert (result.cost.steps, result.cost.videos, result.cost.clips) == (4, 32, 32)
        assert result.provenance["device"] == "cpu"
    assert first.references["segment_accuracy"]["chance"] == 0.25


def test_what_cannot_run_on_this_machine_is_refused_before_a_video_is_written(tmp_path):
    precision = "pretext.training.precision=bfloat16"
    [pretext, *_] = plan(composed(*SMALL, f"outputs={tmp_path}", "auxiliary=none", precision))
    with pytest.raises(OptionError, match=r"^pretext\.training\.precision=bfloat16: is for GPUs"):
        run(pretext, tmp_path)
    assert not (tmp_path / "data").exists()
