"""Retrieval and kNN as stages: what they write, against a plain computation on the features they wrote."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import RUNTIME, described
from vssl.stage.construct import build_dataset
from vssl.stage.features import build_features
from vssl.stage.saved import load_saved


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
    return store.result(chains[protocol][-1])["metrics"]


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
    gallery = chains["knn"][-3]
    dataset, features = build_dataset(gallery, build_features(gallery)), build_features(gallery)
    backbone = load_saved(store.folder(chains["knn"][0]), store.root.parent)
    clips = torch.stack([dataset[0, index]["clips"] for index in range(3)]).float()
    with torch.inference_mode():
        expected = features.extract(backbone, clips).numpy()
    np.testing.assert_allclose(arrays("knn", -3)["features_VD"][:3], expected, rtol=1e-4, atol=1e-5)


def test_the_batch_size_is_of_no_account(finished, arrays):
    store, chains = finished
    gallery = chains["knn"][-3]
    dataset, features = build_dataset(gallery, build_features(gallery)), build_features(gallery)
    backbone = load_saved(store.folder(gallery), store.root.parent)
    found = described(dataset, features, backbone, 3, RUNTIME)
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
    assert store.result(linear)["protocol"]["trained"] == "head"
    assert store.result(chains["finetune"][1])["protocol"]["trained"] == "backbone and heads"


def test_what_the_protocol_says(finished):
    store, chains = finished
    protocol = store.result(chains["retrieval"][-1])["protocol"]
    assert protocol["start"] == str(chains["retrieval"][0])
    assert protocol["trained"] == "nothing"
    assert (protocol["clips_per_video"], protocol["feature"], protocol["feature_dim"]) == (2, "pooled", 64)
    assert (protocol["data"]["num_videos"], protocol["test_data"]["num_videos"]) == (16, 8)
    cost = store.result(chains["retrieval"][-3])["cost"]
    assert (cost["videos"], cost["clips"]) == (16, 32)


def test_the_sheet_frames_right_neighbours_green(finished, arrays):
    store, chains = finished
    sheet = Image.open(io.BytesIO((store.folder(chains["retrieval"][-1]) / "retrieval.png").read_bytes()))
    neighbours = arrays("retrieval", -1, "neighbours.npz")
    right_VK = neighbours["gallery_labels_G"][neighbours["neighbours_VK"]] == neighbours["labels_V"][:, None]
    colours = [colour for _, colour in sheet.getcolors(1 << 24)]
    assert ((20, 150, 60) in colours) == right_VK[:, :5].any()
    assert ((210, 40, 40) in colours) == (~right_VK[:, :5]).any()


def test_everything_is_plain_json(finished):
    store, chains = finished
    for chain in chains.values():
        assert json.loads((store.folder(chain[-1]) / "result.json").read_text())["metrics"]
