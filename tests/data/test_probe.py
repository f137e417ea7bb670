import errno
import os

import av
import numpy as np
import pytest

from fake_videos import audio, cut, half, numbers, scratched, write
from vssl.data.probe import BadVideo, probe


def test_the_facts_of_a_plain_file(tmp_path):
    facts = probe(write(tmp_path / "plain.mp4", 60))
    assert (facts.frames, facts.packets, facts.hidden, facts.header_frames) == (60, 60, 0, 60)
    assert (facts.width, facts.height, facts.codec) == (128, 32, "h264")
    assert (facts.fps, facts.variable_rate) == (25.0, False)


def test_a_turned_file_has_the_sides_that_a_viewer_sees(tmp_path):
    facts = probe(write(tmp_path / "turned.mp4", 3, turns=1))
    assert (facts.width, facts.height) == (128, 32)


def test_the_frames_that_a_cut_hides_are_counted_apart(tmp_path):
    whole = write(tmp_path / "whole.mp4", 100, options={"g": "30", "bf": "2"})
    facts = probe(cut(whole, tmp_path / "cut.mp4", 47))
    assert facts.frames == 100 - 47
    assert facts.hidden > 0
    assert facts.packets == facts.frames + facts.hidden


@pytest.mark.parametrize(
    ("steps", "varies"), [([4, 4, 4, 4], False), ([4, 4, 8, 4], True), ([33, 34, 33, 33], False)]
)
def test_a_variable_rate_is_more_than_rounding(tmp_path, steps, varies):
    path = write(tmp_path / "v.mp4", 21, times=np.cumsum([0, *5 * steps]))
    assert probe(path).variable_rate == varies


def test_every_picture_is_shown_in_order(tmp_path):
    seen = []
    probe(write(tmp_path / "v.mp4", 30), see=seen.append)
    assert numbers(np.stack(seen)) == list(range(30))


@pytest.mark.parametrize(
    ("cause", "make"),
    [
        ("missing", lambda path: None),
        ("missing", lambda path: path.mkdir()),
        ("missing", os.mkfifo),
        ("missing", lambda path: path.symlink_to("gone")),
        ("damaged", lambda path: path.symlink_to(path)),
        ("empty", lambda path: path.touch()),
        ("not a video", lambda path: path.write_text("words")),
        ("no video stream", audio),
        ("truncated", half),
        ("damaged", scratched),
    ],
)
def test_a_bad_file_is_named_with_cause_and_remedy(tmp_path, cause, make):
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(BadVideo, match=r"bad.mp4: [^;]+; \w+") as error:
        probe(path)
    assert error.value.cause == cause


def test_a_file_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(
        BadVideo, match=r"v.mp4: cannot be read \(Permission denied\); check .* permissions"
    ) as error:
        probe(write(tmp_path / "v.mp4", 20))
    assert error.value.cause == "damaged"


def test_pictures_that_cannot_be_converted_are_damaged(tmp_path, monkeypatch):
    def refuse(frame, size):
        raise av.error.OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("vssl.data.probe.to_rgb", refuse)
    with pytest.raises(BadVideo, match=r"breaks off after 1 frames \(Operation not supported\)"):
        probe(write(tmp_path / "v.mp4", 20))
