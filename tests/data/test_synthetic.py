import errno
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from sys import executable

import av
import numpy as np
import pytest
import yaml

from vssl.data import synthetic
from vssl.data.synthetic import (
    MOTIONS,
    POOL,
    FadingVideos,
    Poses,
    SyntheticVideos,
    UprightVideos,
    draw_background,
    draw_poses,
    draw_sprite,
    paste,
)
from vssl.errors import OptionError, VsslError

CONF = Path(__file__).parents[2] / "conf" / "source" / "synthetic.yaml"


@pytest.fixture
def source(tmp_path):
    return SyntheticVideos(
        root=str(tmp_path / "data"),
        appearance="train",
        num_videos=16,
        seed=0,
        height=32,
        width=64,
        min_frames=8,
        max_frames=12,
        fps=25,
        noise=4.0,
        crf=18,
        decoder="decord",
    )


def files(source):
    return {path.name: path.read_bytes() for path in source.folder.iterdir()}


def test_what_is_read_back_is_what_was_drawn(source):
    source.prepare()
    for index in (0, 5, 15):
        video, drawn = source.videos[index], source.draw(index)
        assert video.num_frames == len(drawn)
        read = source.read(video, np.arange(video.num_frames))
        assert read.shape == drawn.shape == (video.num_frames, 32, 64, 3)
        # the grain of single pixels is lost, whole blocks are not
        difference = (read.astype(float) - drawn).reshape(-1, 4, 8, 8, 8, 3).mean(axis=(2, 4))
        assert np.abs(difference).mean() < 3


def test_labels_are_balanced_and_lengths_within_bounds(source):
    source.prepare()
    assert len(source.class_names) == len(MOTIONS) == 8
    assert [video.label for video in source.videos] == [*range(8), *range(8)]
    lengths = {video.num_frames for video in source.videos}
    assert min(lengths) >= 8
    assert max(lengths) <= 12
    assert len(lengths) > 2


def test_the_same_config_gives_the_same_bytes_anywhere(source, tmp_path):
    elsewhere = replace(source, root=str(tmp_path / "elsewhere"))
    source.prepare()
    elsewhere.prepare()
    assert source.folder.name == elsewhere.folder.name
    assert files(source) == files(elsewhere)
    assert len(files(source)) == 16


@pytest.mark.parametrize("change", [{"seed": 1}, {"appearance": "test"}, {"noise": 8.0}])
def test_another_config_gives_other_videos_in_another_folder(source, change):
    other = replace(source, **change)
    assert other.folder != source.folder
    assert other.draw(0).shape != source.draw(0).shape or (other.draw(0) != source.draw(0)).any()


def test_a_video_does_not_depend_on_how_many_there_are(source):
    assert (replace(source, num_videos=99).draw(3) == source.draw(3)).all()


def test_train_and_test_never_show_the_same_sprite_or_background():
    def pool(appearance):
        return {
            *(draw_sprite(appearance, number).tobytes() for number in range(POOL)),
            *(draw_background(appearance, number, 16, 16).tobytes() for number in range(POOL)),
        }

    assert len(pool("train")) == len(pool("test")) == 2 * POOL
    assert not pool("train") & pool("test")


def test_one_frame_of_any_class_has_the_same_distribution_of_poses():
    """Mean of every harmonic of place, angle, scale and shear, against what all classes together have."""

    def features(motion):
        rows = []
        for seed in range(600):
            poses = draw_poses(motion, 20, np.random.default_rng([seed, MOTIONS.index(motion)]))
            (row, column), angle = 2 * np.pi * poses.centre_T2[13], poses.angle_T[13]
            circles = [np.exp(1j * value) for value in (row, column, row + column, row - column, angle)]
            scales = [poses.log_scale_T[13], poses.log_scale_T[13] ** 2, poses.shear_T[13]]
            rows.append([*circles, *scales, poses.shear_T[13] ** 2])
        return np.array(rows)

    samples = {motion: features(motion) for motion in MOTIONS}
    together = np.concatenate(list(samples.values()))
    for sample in samples.values():
        deviation = np.abs(sample.mean(axis=0) - together.mean(axis=0))
        assert (deviation < 4 * together.std(axis=0) / np.sqrt(600)).all()


def test_the_label_is_the_motion_that_is_drawn(source, monkeypatch):
    drawn = []

    def recorded(motion, *args):
        drawn.append(motion)
        return draw_poses(motion, *args)

    monkeypatch.setattr(synthetic, "draw_poses", recorded)
    for index in range(16):
        source.draw(index)
    assert drawn == [*MOTIONS, *MOTIONS]


def pasted(centre, angle=0.0, log_scale=0.0, shear=0.0):
    """A picture whose upper half is red, on black [H,W,3]; its half side is 8 pixels."""
    picture = np.zeros((synthetic.TEXELS, synthetic.TEXELS, 4), np.float32)
    picture[..., 3] = 1
    picture[: synthetic.TEXELS // 2, :, 0] = 1
    picture[:, :, 1] = 0.5
    canvas = np.zeros((1, 48, 64, 3), np.float32)
    one = np.ones(1)
    poses = Poses(np.array([centre]), angle * one, log_scale * one, shear * one)
    paste(canvas, picture, 8.0, poses)
    return canvas[0]


def test_the_frame_is_a_torus():
    middle = pasted((0.5, 0.5))
    assert middle[16:32, 24:40, 1].min() > 0.4
    assert middle[..., 1].sum() == pytest.approx(0.5 * 16 * 16, rel=0.05)
    assert np.allclose(pasted((0.0, 1.0)), np.roll(middle, (24, 32), axis=(0, 1)), atol=1e-4)
    assert np.allclose(pasted((0.5 + 3 / 48, -7.5)), np.roll(middle, 3, axis=0), atol=1e-4)


def test_poses_turn_scale_and_shear_the_sprite():
    middle = pasted((0.5, 0.5))
    assert middle[18:22, 26:38, 0].min() > 0.9
    assert middle[26:30, 26:38, 0].max() < 0.1
    assert np.allclose(pasted((0.5, 0.5), angle=np.pi), middle[::-1, ::-1], atol=1e-4)
    double = pasted((0.5, 0.5), log_scale=np.log(2))
    assert double[..., 1].sum() == pytest.approx(4 * middle[..., 1].sum(), rel=0.05)
    sheared = pasted((0.5, 0.5), shear=0.5)[17:31, :, 1]
    middles = (sheared * np.arange(64)).sum(axis=1) / sheared.sum(axis=1)
    assert np.polyfit(np.arange(14), middles, 1)[0] == pytest.approx(0.5, abs=0.05)


def change(motion, seed):
    """Largest change over 16 frames of centre (in sides), angle, log-scale and shear."""
    poses = draw_poses(motion, 16, np.random.default_rng(seed))
    return {
        "centre": np.ptp(poses.centre_T2, axis=0).max(),
        "angle": np.ptp(poses.angle_T),
        "scale": np.ptp(poses.log_scale_T),
        "shear": np.ptp(poses.shear_T),
    }


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_motion_moves_its_own_quantity_visibly_and_no_other(motion):
    own, least = {"rotate": ("angle", 2.0), "zoom": ("scale", 0.1), "shear": ("shear", 0.2)}.get(
        motion, ("centre", 0.1)
    )
    for seed in range(50):
        changes = change(motion, seed)
        assert changes.pop(own) > least
        assert set(changes.values()) == {0.0}


def steps(motion, seed):
    """Step of the centre from frame to frame, [T-1,2]."""
    return np.diff(draw_poses(motion, 100, np.random.default_rng(seed)).centre_T2, axis=0)


def test_paths_have_the_shapes_that_they_are_named_for():
    for seed in range(20):
        straight = steps("translate", seed)
        assert np.allclose(straight, straight[0])
        circle = steps("orbit", seed)
        assert np.allclose(np.hypot(*circle.T), np.hypot(*circle[0]))
        turns = np.cross(np.pad(circle[:-1], ((0, 0), (0, 1))), np.pad(circle[1:], ((0, 0), (0, 1))))[:, 2]
        assert (turns > 0).all() or (turns < 0).all()
        assert np.linalg.matrix_rank(steps("oscillate", seed), tol=1e-9) == 1
        bounce = np.abs(steps("bounce", seed))
        assert (np.median(bounce, axis=0) + 1e-9 > bounce).all()
        assert (steps("bounce", seed) > 0).any(axis=0).all()
        assert (steps("bounce", seed) < 0).any(axis=0).all()
        zigzag = steps("zigzag", seed)
        assert np.linalg.matrix_rank(zigzag, tol=1e-9) == 2
        assert len(np.unique(zigzag.round(9), axis=0)) > 2
        assert np.hypot(*zigzag.sum(axis=0)) > 1


def test_natural_speed_varies_between_its_bounds():
    speeds = [np.hypot(*steps("translate", seed)[0]) / synthetic.SPEED for seed in range(200)]
    assert 0.75 <= min(speeds) < 0.8
    assert 1.35 < max(speeds) <= 1.4


def test_the_sprite_moves_by_parts_of_a_pixel(source):
    """Half of 'translate' at quarter speed would stand still if pixels were copied."""
    still = replace(source, noise=0.0, height=64, width=64)
    frames = still.draw(0).astype(float)
    assert np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)).min() > 0.1


def test_prepare_twice_writes_once(source):
    source.prepare()
    before = {path: path.stat().st_mtime_ns for path in source.folder.iterdir()}
    source.prepare()
    assert {path: path.stat().st_mtime_ns for path in source.folder.iterdir()} == before


def test_processes_that_prepare_at_once_all_end_well(source):
    code = f"from vssl.data.synthetic import SyntheticVideos; {source!r}.prepare()"
    processes = [Popen([executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert os.listdir(source.root) == [source.folder.name]
    assert len(files(source)) == 16


def test_the_loser_of_a_race_keeps_the_winners_videos(source, monkeypatch):
    """The other process finishes while this one still draws."""
    winner, draw = replace(source), SyntheticVideos.draw

    def late(self, index):
        if self is source and index == 0:
            winner.prepare()
        return draw(self, index)

    monkeypatch.setattr(SyntheticVideos, "draw", late)
    source.prepare()
    assert os.listdir(source.root) == [source.folder.name]
    assert len(source.videos) == 16


def test_a_full_disk_leaves_nothing_behind(source, monkeypatch):
    encode = synthetic.encode

    def full(path, *args):
        if path.name == "00007.mp4":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        encode(path, *args)

    monkeypatch.setattr(synthetic, "encode", full)
    with pytest.raises(VsslError, match=r"No space left on device.*free some space"):
        source.prepare()
    assert os.listdir(source.root) == []


def test_a_place_that_cannot_be_written_is_an_error(source):
    source.folder.parent.mkdir(parents=True, exist_ok=True)
    source.folder.write_text("no folder")
    with pytest.raises(VsslError, match=r"cannot write the synthetic videos"):
        source.prepare()
    assert os.listdir(source.root) == [source.folder.name]


def test_the_lengths_are_known_before_the_videos_are_written(source):
    known = source.videos
    assert not source.folder.exists()
    source.prepare()
    for video in known:
        with av.open(str(source.folder / video.name)) as file:
            assert sum(1 for _ in file.decode(video=0)) == video.num_frames


WRONG = {
    "appearance": ("both", "no such value; valid: test, train"),
    "num_videos": (0, "too small; choose 1 or more"),
    "seed": (-1, "too small; choose 0 or more"),
    "height": (31, "odd; choose an even number"),
    "width": (48, "too small; choose 64 or more"),
    "min_frames": (0, "too small; choose 1 or more"),
    "max_frames": (1, "too small; choose"),
    "fps": (0, "too small; choose 1 or more"),
    "noise": (-1.0, "too small; choose 0 or more"),
    "crf": (52, "out of range; choose a number from 0 to 51"),
    "decoder": ("pyva", "no such decoder; did you mean 'pyav'?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_settings_are_refused(source, name):
    value, said = WRONG[name]
    with pytest.raises(OptionError, match=f"^{name}={value}: {re.escape(said)}"):
        replace(source, **{name: value})


def test_an_optional_decoder_that_is_not_installed_says_what_to_install(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # what importing finds is an ImportError
    with pytest.raises(OptionError, match=r"^decoder=torchcodec: .*; pip install torchcodec"):
        replace(source, decoder="torchcodec").prepare()


def test_decoders_agree_to_the_bit(source):
    """So that a key need not say which one it was."""
    source.prepare()
    other = replace(source, decoder="pyav")
    assert other.folder == source.folder
    for video in source.videos:
        frames_T = np.arange(0, video.num_frames, 3)
        np.testing.assert_array_equal(other.read(video, frames_T), source.read(video, frames_T))


def test_upright_videos_are_the_same_below_a_lamp(source):
    upright = UprightVideos(**vars(source))
    plain, lit = source.draw(3).astype(float), upright.draw(3)
    assert (lit[:, 0] == plain[:, 0]).all()
    np.testing.assert_allclose(lit[:, -1], 0.3 * plain[:, -1], atol=1)
    assert upright.folder.name == source.folder.name.replace("synthetic", "upright")


def test_fading_videos_are_the_same_while_a_lamp_goes_out(source):
    fading = FadingVideos(**vars(source))
    plain, lit = source.draw(3).astype(float), fading.draw(3)
    assert (lit[0] == plain[0]).all()
    np.testing.assert_allclose(lit[-1], 0.3 * plain[-1], atol=1)
    assert fading.folder.name == source.folder.name.replace("synthetic", "fading")


def test_the_yaml_lists_every_field():
    config = yaml.safe_load(CONF.read_text())
    assert config.pop("_target_") == "vssl.data.synthetic.SyntheticVideos"
    config.pop("repeat", None)
    SyntheticVideos(**{**config, "decoder": "pyav"})
    assert set(config) == set(SyntheticVideos.__dataclass_fields__)
