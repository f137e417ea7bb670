"""Values of single videos, against the metrics that the protocols make of the same arrays."""

import numpy as np
import pytest
import torch

from vssl.errors import VsslError
from vssl.protocol.accuracy import topk_accuracy
from vssl.protocol.finetune import ClipTest, RandomClip
from vssl.protocol.neighbours import FeatureSet, NearestNeighbours, Retrieval
from vssl.report.predictions import classes, per_video

LABELS_V = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 0, 1])
DRAWN = torch.Generator().manual_seed(0)


def saved(folder, name, found, **others):
    np.savez(folder / name, **found.arrays, labels_V=LABELS_V, **others)
    return found.metrics


def held_against(folder, metrics, names):
    for name in names:
        values_V = per_video(folder, name)
        assert values_V.shape == LABELS_V.shape
        assert values_V.mean() == pytest.approx(metrics[name])
    assert 0 < metrics[names[0]] < 1


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_a_classifier(tmp_path, average):
    test = ClipTest(RandomClip(16, "loop"), average)
    logits_VKN = torch.randn(10, 3, 7, generator=DRAWN) + torch.eye(7)[LABELS_V][:, None]
    metrics = saved(tmp_path, "predictions.npz", test.evaluate(logits_VKN, LABELS_V))
    held_against(tmp_path, metrics, ["video_top1", "video_top5", "clip_top1", "clip_top5"])
    assert per_video(tmp_path, "mean_class_top1") is None
    assert per_video(tmp_path, "recall_at_1") is None
    classes_V, right_V = classes(tmp_path, "mean_class_top1"), per_video(tmp_path, "video_top1")
    means = [right_V[classes_V == label].mean() for label in set(classes_V.tolist())]
    assert np.mean(means) == pytest.approx(metrics["mean_class_top1"])
    assert classes(tmp_path, "video_top1") is None


def features(rows):
    return torch.randn(rows, 4, generator=DRAWN)


def test_neighbours(tmp_path):
    gallery = FeatureSet(features(30), torch.arange(30) % 7)
    queries = FeatureSet(features(10), LABELS_V)
    knn = NearestNeighbours(k=5, temperature=0.1).evaluate(queries, gallery, 7)
    held_against(tmp_path, saved(tmp_path, "predictions.npz", knn), ["video_top1", "video_top5"])
    (tmp_path / "predictions.npz").unlink()
    retrieval = Retrieval(ranks=[2, 5, 50]).evaluate(queries, gallery, 7)
    metrics = saved(tmp_path, "neighbours.npz", retrieval, gallery_labels_G=gallery.labels_V)
    held_against(tmp_path, metrics, ["recall_at_2", "recall_at_5"])
    assert per_video(tmp_path, "recall_at_50").mean() == metrics["recall_at_50"]
    assert per_video(tmp_path, "chance") is None


@pytest.mark.parametrize("k", [1, 2, 9])
def test_ties_and_what_is_no_number_count_against_the_label(tmp_path, k):
    scores_VN = torch.tensor([[1.0, 1, 0], [0, 2, 1], [float("nan")] * 3])
    labels_V = torch.tensor([0, 1, 2])
    np.savez(tmp_path / "predictions.npz", scores_VN=scores_VN, labels_V=labels_V)
    assert per_video(tmp_path, f"video_top{k}").tolist() == [float(k > 1), 1.0, 0.0]
    assert per_video(tmp_path, f"video_top{k}").mean() == pytest.approx(topk_accuracy(scores_VN, labels_V, k))


def test_a_test_without_arrays_has_no_values(tmp_path):
    assert per_video(tmp_path, "video_top1") is None


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(VsslError, match=r"predictions\.npz: damaged; delete the result\.json"):
        per_video(tmp_path, "video_top1")
