"""Tests of classifiers and features as stages: what they write, against a plain computation on it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import RUNTIME, context_in, described
from vssl.errors import VsslError
from vssl.report.logger import StageLogger
from vssl.stage.callback import NeighbourSheet, Silent
from vssl.stage.construct import Stage
from vssl.stage.evaluate import compare_features
from vssl.stage.run import run_stage
from vssl.stage.saved import load_saved
from vssl.stage.store import StageStore
from vssl.stage.weights import write_arrays
from vssl.tracking.metrics import Tracker


@pytest.fixture
def arrays(finished):
    """Read an npz file of the last, the last but one, ... stage of a protocol."""
    store, chains = finished

    def read(protocol, place, file="features.npz"):
        with np.load(store.folder(chains[protocol][place]) / file) as found:
            return dict(found)

    return read


def metrics(finished, protocol):
    store, chains = finished
    return store.result(chains[protocol][-1]).metrics


def cosines(arrays, protocol):
    gallery, queries = arrays(protocol, -3), arrays(protocol, -2)
    unit = [a["features_VD"] / np.linalg.norm(a["features_VD"], axis=1)[:, None] for a in (gallery, queries)]
    return unit[1] @ unit[0].T, gallery["labels_V"], queries["labels_V"]


def test_features_are_written_once_for_all_videos_in_order(finished, arrays):
    _, chains = finished
    assert chains["knn"][:-1] == chains["retrieval"][:-1]
    gallery, queries = arrays("knn", -3), arrays("knn", -2)
    assert gallery["features_VD"].shape == (16, 64)
    assert gallery["features_VD"].dtype == np.float32
    assert queries["labels_V"].tolist() == list(range(8))
    assert gallery["names"].tolist() == [f"{i:05d}.mp4" for i in range(16)]
    assert gallery["class_names"].tolist() == queries["class_names"].tolist()
    assert gallery["class_names"][6] == "zigzag"


def test_features_are_those_of_the_pretext_not_of_random_weights(finished, arrays):
    store, chains = finished
    gallery = Stage(chains["knn"][-3])
    backbone = load_saved(store.folder(chains["knn"][0]), store.root.parent)
    clips = torch.stack([gallery.dataset[0, index]["clips"] for index in range(3)]).float()
    with torch.inference_mode():
        expected = gallery.task.extract(backbone, clips).numpy()
    np.testing.assert_allclose(arrays("knn", -3)["features_VD"][:3], expected, rtol=1e-4, atol=1e-5)


def test_the_batch_size_is_of_no_account(finished, arrays):
    store, chains = finished
    gallery = Stage(chains["knn"][-3])
    assert gallery.recipe.batch_size == 6
    backbone = load_saved(store.folder(gallery.spec), store.root.parent)
    found = described(gallery.dataset, gallery.task, backbone, 3, RUNTIME)
    np.testing.assert_allclose(
        arrays("knn", -3)["features_VD"], found.features_VD.numpy(), rtol=1e-4, atol=1e-5
    )


def test_recall_is_that_of_a_plain_computation(finished, arrays):
    cosine_VG, gallery_labels, labels = cosines(arrays, "retrieval")
    order_VG = np.argsort(-cosine_VG, axis=1)
    found = metrics(finished, "retrieval")
    for k in (1, 5, 10, 20, 50):
        hits = [(gallery_labels[row[:k]] == label).any() for row, label in zip(order_VG, labels, strict=True)]
        assert found[f"recall_at_{k}"] == np.mean(hits)
    assert found["chance"] == pytest.approx(1 / 8)  # each class has two of 16 videos
    written = arrays("retrieval", -1, "neighbours.npz")
    assert np.array_equal(written["neighbours_VK"], order_VG)  # 16 videos are fewer than 50
    assert np.array_equal(written["labels_V"], labels)
    assert np.array_equal(written["gallery_labels_G"], gallery_labels)
    assert len(written["class_names"]) == 8


def test_votes_are_those_of_a_plain_computation(finished, arrays):
    cosine_VG, gallery_labels, labels = cosines(arrays, "knn")
    votes_VG = np.exp(cosine_VG / 0.07)  # 16 videos are fewer than k = 20
    scores_VN = np.stack([votes_VG[:, gallery_labels == n].sum(axis=1) for n in range(8)], axis=1)
    scores_VN /= votes_VG.sum(axis=1)[:, None]
    written = arrays("knn", -1, "predictions.npz")
    np.testing.assert_allclose(written["scores_VN"], scores_VN, rtol=1e-4)
    assert metrics(finished, "knn")["video_top1"] == np.mean(scores_VN.argmax(axis=1) == labels)
    assert metrics(finished, "knn").keys() == {"video_top1", "video_top5", "mean_class_top1", "chance"}


def test_predictions_of_classifiers(finished, arrays):
    for protocol in ("finetune", "linear"):
        written, found = arrays(protocol, -1, "predictions.npz"), metrics(finished, protocol)
        logits_VKN = written["logits_VKN"]
        odds = np.exp(logits_VKN - logits_VKN.max(axis=2, keepdims=True))
        scores_VN = (odds / odds.sum(axis=2, keepdims=True)).mean(axis=1)
        np.testing.assert_allclose(written["scores_VN"], scores_VN, rtol=1e-5)
        assert found["video_top1"] == np.mean(scores_VN.argmax(axis=1) == written["labels_V"])
        assert len(written["class_names"]) == scores_VN.shape[1] == 8
        assert set(found) == {
            *("clip_top1", "clip_top5", "video_top1", "video_top5", "mean_class_top1", "chance")
        }


def test_the_linear_stage_leaves_the_backbone_as_pretraining_did(finished):
    store, chains = finished
    pretext, linear, _ = chains["linear"]
    before, after = (torch.load(store.folder(spec) / "weights.pt") for spec in (pretext, linear))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert store.result(linear).protocol["trained"] == "head"
    assert store.result(chains["finetune"][1]).protocol["trained"] == "backbone and heads"


def test_what_the_protocol_says(finished):
    store, chains = finished
    protocol = store.result(chains["retrieval"][-1]).protocol
    assert protocol["start"] == str(chains["retrieval"][0])
    assert protocol["trained"] == "nothing"
    assert (protocol["clips_per_video"], protocol["feature"], protocol["feature_dim"]) == (2, "pooled", 64)
    assert (protocol["data"]["num_videos"], protocol["test_data"]["num_videos"]) == (16, 8)
    assert (protocol["test_videos"], protocol["similarity"], protocol["test_crop"]) == (8, "cosine", "centre")
    assert protocol["ranks"] == [1, 5, 10, 20, 50]
    cost = store.result(chains["retrieval"][-3]).cost
    assert (cost.videos, cost.clips) == (16, 32)
    knn = store.result(chains["knn"][-1])
    assert (knn.protocol["k"], knn.protocol["temperature"]) == (20, 0.07)
    assert (knn.cost.videos, knn.cost.clips) == (8, 0)


def test_what_the_protocol_of_a_classifier_says(finished):
    store, chains = finished
    for name in ("finetune", "linear"):
        *_, trained, test = chains[name]
        before, found = store.result(trained).protocol, store.result(test).protocol
        own = {
            **{"test_videos": 8, "clips_per_video": 2, "classes": 8, "average": "softmax"},
            **{"test_crop": "centre", "test_data": dict(test.recipe.data)},
        }
        assert found == {**before, **own}
        assert (before["effective_batch"], before["epochs"], before["seed"]) == (8, 2, 0)
        cost = store.result(test).cost
        assert (cost.videos, cost.clips, cost.steps) == (8, 16, 0)


HEADLINES = {
    "finetune": "video_top1",
    "linear": "video_top1",
    "knn": "video_top1",
    "retrieval": "recall_at_1",
}


@pytest.mark.parametrize("protocol", HEADLINES)
def test_results_declare_how_their_metrics_are_shown(protocol, finished):
    store, chains = finished
    result = store.result(chains[protocol][-1])
    assert result.headline.name == HEADLINES[protocol]
    names = [metric.name for metric in result.declared]
    assert len(set(names)) == len(names)
    assert set(names) <= set(result.metrics)
    assert all(metric.larger_is_better and metric.percent for metric in result.declared)
    assert [store.result(spec).metrics for spec in chains[protocol][:-1]] == [{}] * len(chains[protocol][:-1])


class Watching(Silent):
    """Keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def show(self, what):
        self.seen.append(what)


def shown(finished, protocol):
    """What the test of a protocol shows; it is run again, and writes the same."""
    (store, chains), watching = finished, Watching()
    compare_features(Stage(chains[protocol][-1]), context_in(store.root.parent), watching)
    return watching.seen


def test_the_sheet_shows_queries_and_their_nearest_neighbours_and_which_are_right(finished, arrays):
    [sheet] = shown(finished, "retrieval")
    assert isinstance(sheet, NeighbourSheet)
    test = finished[1]["retrieval"][-1]
    assert sheet.title == f"{test}: a query and its nearest training videos"
    gallery, queries = (Stage(spec).dataset for spec in test.chain[-3:-1])
    found = arrays("retrieval", -1, "neighbours.npz")
    names = found["class_names"]
    assert len(sheet.rows) == 8  # all queries: there are no more
    for query, (own, *near) in enumerate(sheet.rows):
        rows = found["neighbours_VK"][query, :5]
        assert own.right is None
        assert own.caption == names[queries.videos[query].label]
        assert [picture.caption for picture in near] == names[found["gallery_labels_G"][rows]].tolist()
        assert [picture.right for picture in near] == [
            label == found["labels_V"][query] for label in found["gallery_labels_G"][rows]
        ]
        for dataset, row, picture in [(queries, query, own), *zip([gallery] * 5, rows, near, strict=True)]:
            video = dataset.videos[row]
            middle_1HWC = dataset.source.read(video, np.array([video.num_frames // 2]))
            assert np.array_equal(picture.frame_HWC, middle_1HWC[0])


def test_votes_show_nothing(finished):
    assert shown(finished, "knn") == []


def test_features_of_a_video_without_a_class_cannot_be_judged(finished, arrays, tmp_path):
    _, chains = finished
    gallery_spec, queries_spec, test = chains["knn"][-3:]
    context = context_in(tmp_path)
    for spec, place in ((gallery_spec, -3), (queries_spec, -2)):
        found = arrays("knn", place)
        if spec is queries_spec:
            found["labels_V"][2] = -1
        context.store.folder(spec).mkdir(parents=True)
        write_arrays(context.store.folder(spec) / "features.npz", found)
    with pytest.raises(
        VsslError, match=r"^downstream\.test: 1 of 8 videos have no class, .*; give them a class"
    ):
        compare_features(Stage(test), context, Silent())


def test_features_that_are_not_finite_are_an_error_of_the_stage(finished, tmp_path):
    """As those of weights that have diverged are."""
    store, chains = finished
    pretext, gallery, *_ = chains["knn"]
    weights = torch.load(store.folder(pretext) / "weights.pt")
    weights["layers.0.0.weight"].fill_(float("nan"))
    context = context_in(tmp_path)
    for spec in (pretext, gallery):
        context.store.folder(spec).mkdir(parents=True)
    torch.save(weights, context.store.folder(pretext) / "weights.pt")
    with pytest.raises(VsslError, match=rf"^{gallery}: features are not finite numbers; look at the weights"):
        run_stage(gallery, context)


def test_a_test_video_that_cannot_be_read_stops_the_test(finished, tmp_path):
    """It is not replaced: all test videos count."""
    store, chains = finished
    *_, queries, _ = chains["knn"]
    read = Stage(queries).source
    folder = tmp_path / read.folder.name
    folder.mkdir()
    for video in read.videos:
        (folder / video.name).write_bytes((read.folder / video.name).read_bytes())
    (folder / read.videos[3].name).write_text("no video")
    moved = replace(queries, paths={**queries.paths, "root": str(tmp_path)})
    with pytest.raises(VsslError, match=r"00003\.mp4: cannot be decoded"):
        run_stage(moved, context_in(store.root.parent))
    (store.folder(moved) / "failed.json").unlink()


def test_everything_is_plain_json(finished):
    store, chains = finished
    for chain in chains.values():
        assert json.loads((store.folder(chain[-1]) / "result.json").read_text())["metrics"]


def test_a_test_killed_between_its_metrics_and_its_result_has_them_once(finished, tmp_path, monkeypatch):
    store, chains = finished
    shutil.copytree(store.root, tmp_path / "stages")
    spec, own = chains["knn"][-1], StageStore(tmp_path)
    (own.folder(spec) / "result.json").unlink()
    context = context_in(tmp_path, make_callback=lambda one: StageLogger(one, own, Tracker(), {}))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageStore, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(spec, context)
    assert len(own.stage(spec).lines) == 1
    run_stage(spec, context)
    [line] = own.stage(spec).lines
    assert {name: line[name] for name in own.result(spec).metrics} == own.result(spec).metrics
