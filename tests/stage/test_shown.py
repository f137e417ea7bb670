"""What a training shows of its samples: what it sees, once, and without noticing."""

import random

import numpy as np
import torch

from conftest import SMALL, composed, context_in
from vssl.pipeline import plan
from vssl.stage.callback import Preview, Silent
from vssl.stage.preview import preview
from vssl.stage.run import run_stage


class Watching(Silent):
    """Keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def show(self, what):
        self.seen.append(what)


def run(spec, outputs, callback=None):
    """Run a stage; what it has shown."""
    callback = callback or Watching()
    context = context_in(outputs, make_callback=lambda spec: callback)
    context.store.folder(spec).mkdir(parents=True, exist_ok=True)
    run_stage(spec, context)
    return callback.seen


def assert_same_sample(one, two):
    assert (one.video, one.plan.targets) == (two.video, two.plan.targets)
    assert np.array_equal(one.plan.frames_KT, two.plan.frames_KT)
    assert np.array_equal(one.frames_KTHWC, two.frames_KTHWC)
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(value, two.tensors[name]) for name, value in one.tensors.items())


def test_it_is_samples_of_epoch_0_from_all_over_the_data(stage):
    made = stage("pretext")
    shown = preview(made, samples=3)
    assert shown.title == f"pretext {made.spec.key[:8]}: VSPP on synthetic, seed 0, epoch 0"
    assert [sample.video.name for sample in shown.samples] == ["00000.mp4", "00007.mp4", "00015.mp4"]
    for index, sample in zip((0, 7, 15), shown.samples, strict=True):
        assert_same_sample(sample, made.dataset.sample((0, index)))
        frames_T = sample.plan.frames_KT[0]
        assert np.array_equal(sample.frames_KTHWC[0], made.source.read(sample.video, frames_T))
        assert set(sample.plan.targets) == {"speed", "segment"}
    assert shown.augmentation is made.dataset.augmentation


def test_clips_of_the_auxiliary_stage_are_of_student_and_teacher_and_others_have_numbers(stage):
    shown = preview(stage("auxiliary"), samples=1)
    assert shown.clip_names == ("student clip", "teacher clip")
    assert len(shown.samples[0].plan.frames_KT) == 2
    assert preview(stage("pretext"), samples=1).clip_names == ()


def test_few_samples_are_shown_once(stage):
    assert len(preview(stage("pretext"), samples=100).samples) == 16


def test_pretraining_shows_four_samples_before_it_trains_and_not_again_where_a_sheet_is_there(
    stage, tmp_path
):
    spec = stage("auxiliary").spec
    [shown] = run(spec, tmp_path / "first")
    assert isinstance(shown, Preview)
    assert shown.clip_names == spec.clip_names
    assert [sample.video.name for sample in shown.samples] == [f"{at:05}.mp4" for at in (0, 5, 10, 15)]
    folder = context_in(tmp_path / "again").store.folder(spec)
    folder.mkdir(parents=True)
    (folder / "preview.png").write_bytes(b"mine")
    assert run(spec, tmp_path / "again") == []
    assert (folder / "preview.png").read_bytes() == b"mine"


def test_a_training_on_labels_shows_nothing(data, tmp_path):
    [finetune, _] = plan(composed(*SMALL, *data, "auxiliary=none", "pretext=none"))
    assert run(finetune, tmp_path) == []


def test_nothing_ambient_is_drawn_from(stage):
    made = stage("auxiliary")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    preview(made, samples=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


class Spending(Watching):
    """A callback that draws numbers while it looks, as one that draws pictures may."""

    def show(self, what):
        super().show(what)
        torch.rand(3)
        what.augmentation.apply({k: v[None].clone() for k, v in what.samples[0].tensors.items()})


def test_training_is_the_same_bit_for_bit_whoever_looks(stage, tmp_path):
    spec, weights = stage("auxiliary").spec, []
    for name, callback in (("with", Spending()), ("without", Watching())):
        folder = context_in(tmp_path / name).store.folder(spec)
        folder.mkdir(parents=True)
        if name == "without":
            (folder / "preview.png").write_bytes(b"")
        seen = run(spec, tmp_path / name, callback)
        assert len(seen) == (name == "with")
        weights.append(torch.load(folder / "weights.pt"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
