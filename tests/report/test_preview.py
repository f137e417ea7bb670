"""The sheet of a stage: it shows what training sees, and training does not notice."""

import random

import numpy as np
import pytest
import torch

from conftest import context_in
from vssl.report import sheet as module
from vssl.report.sheet import draw_preview
from vssl.stage.callback import Silent
from vssl.stage.preview import preview
from vssl.stage.run import run_stage

PLAIN = [
    "pretext.augmentation.crop._target_=vssl.data.operations.crop.CenterCrop",
    "pretext.augmentation.flip.probability=0.0",
    "pretext.augmentation.pixel_max=1.0",
    "pretext.augmentation.mean=[0.4,0.5,0.6]",
    "pretext.augmentation.std=[0.2,0.3,0.4]",
    "backbone.input.resize=[64,64]",
]


@pytest.fixture
def drawn(monkeypatch):
    """Draws a preview of some samples; returns title and blocks of the sheet."""
    sheets = []
    monkeypatch.setattr(module, "draw_sheet", lambda *sheet: sheets.append(sheet) or b"")

    def draw(stage, samples):
        draw_preview(preview(stage, samples))
        return sheets.pop()

    return draw


def test_the_sheet_shows_the_samples_of_epoch_0(stage, drawn):
    made = stage("pretext", *PLAIN)
    title, blocks = drawn(made, 3)
    assert title == f"pretext {made.spec.key[:8]}: VSPP on synthetic, seed 0, epoch 0"
    assert len(blocks) == 3
    dataset = made.dataset
    for index, block in zip((0, 7, 15), blocks, strict=True):
        video, (clip,) = dataset.videos[index], block.clips
        tensors = dataset[0, index]
        speed, segment = int(tensors["speed"]), int(tensors["segment"])
        assert block.caption == (
            f"{video.name}, {video.num_frames} frames, class {video.label}; "
            f"targets (from 0): speed={speed} segment={segment}"
        )
        assert clip.name == "clip 1 of 1"
        assert np.array_equal(clip.decoded_THWC, dataset.source.read(video, clip.numbers_T))
        sent_THWC = tensors["clips"][0].permute(1, 2, 3, 0).numpy()
        assert np.array_equal(clip.augmented_THWC, sent_THWC)  # a crop alone, once the range is undone
        assert np.array_equal(clip.augmented_THWC, clip.decoded_THWC[:, 16:48, 16:48])


def test_what_augmentation_does_is_shown(stage, drawn):
    _, blocks = drawn(stage("pretext", "pretext.augmentation.flip.probability=1.0", PLAIN[0], *PLAIN[2:]), 1)
    clip = blocks[0].clips[0]
    assert np.array_equal(clip.augmented_THWC, clip.decoded_THWC[:, 16:48, 16:48][:, :, ::-1])


def test_the_auxiliary_stage_names_student_and_teacher(stage, drawn):
    made = stage("auxiliary")
    _, [block] = drawn(made, 1)
    assert [clip.name for clip in block.clips] == ["student clip", "teacher clip"]
    frames_KT = made.dataset.sample((0, 0)).plan.frames_KT
    assert [clip.numbers_T.tolist() for clip in block.clips] == frames_KT.tolist()
    assert "targets" not in block.caption


def test_few_samples_are_drawn_once(stage, drawn):
    _, blocks = drawn(stage("pretext"), 100)
    assert len(blocks) == 16


def test_nothing_ambient_is_drawn_from(stage):
    made = stage("auxiliary")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    draw_preview(preview(made, samples=2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


class Drawing(Silent):
    """A callback that draws what it is shown, and keeps it."""

    def __init__(self):
        self.shown = []

    def show(self, what):
        self.shown.append(draw_preview(what))


def test_training_is_the_same_bit_for_bit_with_a_preview(stage, tmp_path):
    spec, weights = stage("auxiliary").spec, []
    drawing = Drawing()
    for name, callback in (("with", drawing), ("without", Silent())):
        context = context_in(tmp_path / name, make_callback=lambda spec, callback=callback: callback)
        context.store.folder(spec).mkdir(parents=True)
        run_stage(spec, context)
        weights.append(torch.load(context.store.folder(spec) / "weights.pt"))
    [png] = drawing.shown
    assert png.startswith(b"\x89PNG")
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
