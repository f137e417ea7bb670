"""How far a forest is: stages, clips, and the time that is left."""

import json
import time

import pytest

import fake_store
from vssl.report.course import Course, Far
from vssl.stage.store import StageStore

PRETEXT, FINETUNE, TEST = CHAIN = fake_store.chain(1, 0)
CLIPS = {PRETEXT: 1000, FINETUNE: 500, TEST: 500}


@pytest.fixture
def store(tmp_path):
    return StageStore(tmp_path)


def note(store, spec, done, total, rate, age=0.0):
    folder = store.folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    progress = {"step": 1, "done": done, "total": total, "rate": rate, "time": time.time() - age}
    (folder / "progress.json").write_text(json.dumps(progress))


def finish(store, spec, clips, seconds):
    fake_store.finish(store, spec, {"video_top1": 0.5}, clips=clips, seconds=seconds)


def test_before_anything_has_run_no_time_is_known(store):
    far = Course(CHAIN, store, CLIPS).far()
    assert far == Far(done=0, total=3, reused=0, share=0.0, seconds=None)
    assert far.words == "0 of 3 stages done, 0% of the clips, ETA ?"


def test_the_time_is_that_of_the_clips_that_are_left_at_the_speed_of_their_kind(store):
    finish(store, PRETEXT, clips=1000, seconds=10)  # 100 clips/s
    course = Course(CHAIN, store, CLIPS)
    note(store, FINETUNE, done=250, total=500, rate=50.0)
    far = course.far()
    assert (far.done, far.reused, far.share) == (1, 1, (1000 + 250) / 2000)
    mean = 2 / (1 / 100 + 1 / 50)  # of the test nothing is known but how fast the others are
    assert far.seconds == pytest.approx(250 / 50 + 500 / mean)
    assert far.words == "1 of 3 stages done (1 reused), 62% of the clips, ETA 0:12"  # 12.5, to the even one


def test_of_several_at_once_the_time_is_shared_but_for_the_longest(store):
    other = fake_store.chain(2, 0)
    forest = [*CHAIN[:1], *other[:1]]
    clips = {PRETEXT: 1000, other[0]: 1000}
    note(store, PRETEXT, done=500, total=1000, rate=10.0)
    note(store, other[0], done=900, total=1000, rate=10.0)
    assert Course(forest, store, clips).far().seconds == pytest.approx(50)  # not (50 + 10) / 2
    note(store, other[0], done=900, total=1000, rate=10.0, age=3600)  # nobody works on it any more
    assert Course(forest, store, clips).far().seconds == pytest.approx(60)


def test_what_nobody_counted_is_taken_from_stages_of_the_kind(store):
    other = fake_store.chain(2, 1)
    forest = [*CHAIN[:1], *other[:1]]
    assert Course(forest, store).far().share is None
    finish(store, PRETEXT, clips=3000, seconds=30)
    far = Course(forest, store).far()
    assert (far.share, far.seconds) == (0.5, pytest.approx(30))


def test_a_forest_that_is_done_has_no_time_left(store):
    for spec in CHAIN:
        finish(store, spec, clips=10, seconds=1)
    assert Course(CHAIN, store).far().words == "3 of 3 stages done, 100% of the clips"


def test_stages_that_end_later_are_not_reused(store):
    course = Course(CHAIN, store, CLIPS)
    finish(store, PRETEXT, clips=1000, seconds=10)
    assert (course.far().done, course.far().reused) == (1, 0)
