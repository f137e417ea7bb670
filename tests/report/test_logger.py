"""The record that is kept of a stage."""

import json

import numpy as np
import pytest
from PIL import Image

import fake_store
from vssl.report.logger import StageLogger
from vssl.stage.callback import NeighbourSheet, Picture
from vssl.tracking.metrics import Tracker

TAGS = {"git_commit": "abc", "host": "here"}


class Mirror(Tracker):
    """A tracker that keeps what it is told."""

    def __init__(self):
        self.told = []

    def mirror(self, stage, status):
        self.told.append((status, stage))


@pytest.fixture
def logger(tmp_path):
    store = fake_store.store_in(tmp_path)
    spec = fake_store.chain(1, 0)[0]
    store.folder(spec).mkdir(parents=True)
    return StageLogger(spec, store, Mirror(), TAGS)


def test_a_finished_stage_has_metrics_progress_curves_and_its_result_in_the_tracker(logger):
    logger.begin(0, 0.0, 20)
    for step in (1, 2):
        logger.advance(10, loss=1.0)
        logger.log({"loss": 1 / step}, step)
    logger.store.finish(
        logger.spec, fake_store.result({"video_top1": 0.5}, references={"loss": {"chance": 2}})
    )
    logger.close("finished")
    assert [line["loss"] for line in logger.store.stage(logger.spec).lines] == [1.0, 0.5]
    assert json.loads((logger.folder / "progress.json").read_text())["total"] == 20
    assert Image.open(logger.folder / "curves.png").format == "PNG"
    (begun, first), (ended, last) = logger.tracker.told
    assert (begun, dict(first.metrics)) == ("running", {})
    assert (ended, dict(last.metrics)) == ("finished", {"video_top1": 0.5})
    assert first.tags == {**TAGS, "what": logger.spec.recipe.words}


def test_a_stage_that_is_left_for_later_tells_how_far_it_came_and_draws_nothing(logger):
    logger.begin(0, 0.0, 20)
    logger.advance(5)
    logger.log({"loss": 1.0}, 3)
    logger.close("interrupted")
    progress = json.loads((logger.folder / "progress.json").read_text())
    assert (progress["step"], progress["done"]) == (3, 5)
    assert not (logger.folder / "curves.png").exists()
    assert [status for status, _ in logger.tracker.told] == ["running", "killed"]


def test_a_failure_reaches_the_tracker_without_a_result(logger):
    logger.close("failed")
    [(status, stage)] = logger.tracker.told
    assert (status, dict(stage.metrics)) == ("failed", {})


def test_right_neighbours_are_framed_green_and_wrong_ones_red(logger):
    frame = np.full((8, 10, 3), 255, np.uint8)
    row = [Picture(frame, "jump", None), Picture(frame, "jump", True), Picture(frame, "run", False)]
    logger.show(NeighbourSheet("a title", [row]))
    sheet = Image.open(logger.folder / "retrieval.png")
    colours = {colour for _, colour in sheet.getcolors(1 << 24)}
    assert {(20, 150, 60), (210, 40, 40)} <= colours


def test_the_tracker_knows_where_a_finished_stage_ran_and_its_recipe(tmp_path):
    store, spec = fake_store.store_in(tmp_path), fake_store.chain(3, 0)[0]
    fake_store.finish(store, spec)
    stage = store.stage(spec).tracked(TAGS)
    assert stage.tags["git_commit"] == "0123456789abcdef"
    assert (stage.params["task.segments"], stage.params["parent"]) == (3, None)
