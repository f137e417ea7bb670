"""The sheet of a stage: it shows what training sees, and training does not notice."""

import random

import numpy as np
import pytest
import torch

from conftest import RUNTIME, SMALL, composed
from vssl.pipeline import plan
from vssl.stage import preview as module
from vssl.stage import train as training
from vssl.stage.callback import Silent
from vssl.stage.construct import build_dataset, build_task
from vssl.stage.preview import leave_preview, preview
from vssl.stage.store import StageStore

PLAIN = [
    "pretext.augmentation.crop._target_=vssl.data.operations.crop.CenterCrop",
    "pretext.augmentation.flip.probability=0.0",
    "pretext.augmentation.pixel_max=1.0",
    "pretext.augmentation.mean=[0.4,0.5,0.6]",
    "pretext.augmentation.std=[0.2,0.3,0.4]",
    "backbone.input.resize=[64,64]",
]


@pytest.fixture
def stage(data):
    """Build (spec, dataset) of a stage from overrides."""

    def build(name, *overrides):
        chain = plan(composed(*SMALL, *data, *overrides))
        spec = next(spec for spec in chain if spec.name == name)
        return spec, build_dataset(spec, build_task(spec))

    return build


@pytest.fixture
def drawn(monkeypatch):
    """Collects (title, blocks) of all sheets, in place of drawing them."""
    sheets = []
    monkeypatch.setattr(module, "draw_sheet", lambda *sheet: sheets.append(sheet) or b"")
    return sheets


def test_the_sheet_shows_the_samples_of_epoch_0(stage, drawn):
    spec, dataset = stage("pretext", *PLAIN)
    preview(spec, dataset, samples=3)
    [(title, blocks)] = drawn
    assert title == f"pretext {spec.key[:8]}: VSPP on synthetic, seed 0, epoch 0"
    assert len(blocks) == 3
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
    spec, dataset = stage("pretext", "pretext.augmentation.flip.probability=1.0", *PLAIN[:1], *PLAIN[2:])
    preview(spec, dataset, samples=1)
    clip = drawn[0][1][0].clips[0]
    assert np.array_equal(clip.augmented_THWC, clip.decoded_THWC[:, 16:48, 16:48][:, :, ::-1])


def test_the_auxiliary_stage_names_student_and_teacher(stage, drawn):
    spec, dataset = stage("auxiliary")
    preview(spec, dataset, samples=1)
    [block] = drawn[0][1]
    assert [clip.name for clip in block.clips] == ["student clip", "teacher clip"]
    frames_KT = dataset.sample((0, 0)).plan.frames_KT
    assert [clip.numbers_T.tolist() for clip in block.clips] == frames_KT.tolist()
    assert "targets" not in block.caption


def test_few_samples_are_drawn_once(stage, drawn):
    spec, dataset = stage("pretext")
    preview(spec, dataset, samples=100)
    assert len(drawn[0][1]) == 16


def test_a_preview_is_left_once_and_only_by_pretraining(stage, tmp_path):
    spec, dataset = stage("pretext")
    leave_preview(spec, dataset, tmp_path)
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "preview.png").write_bytes(b"mine")
    leave_preview(spec, dataset, tmp_path)
    assert (tmp_path / "preview.png").read_bytes() == b"mine"
    (tmp_path / "finetune").mkdir()
    leave_preview(*stage("finetune"), tmp_path / "finetune")
    assert list((tmp_path / "finetune").iterdir()) == []


def test_nothing_ambient_is_drawn_from(stage):
    spec, dataset = stage("auxiliary")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    preview(spec, dataset, samples=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_training_is_the_same_bit_for_bit_without_a_preview(stage, tmp_path, monkeypatch):
    spec, _ = stage("auxiliary")
    weights = []
    for name in ("with", "without"):
        store = StageStore(tmp_path / name)
        store.folder(spec).mkdir(parents=True)
        training.train(spec, store, RUNTIME, Silent())
        weights.append(torch.load(store.folder(spec) / "weights.pt"))
        assert (store.folder(spec) / "preview.png").exists() == (name == "with")
        monkeypatch.setattr(training, "leave_preview", lambda *_: None)
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
