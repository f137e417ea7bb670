"""Retrieval and kNN on planted features, worked by hand and against plain loops."""

import math

import pytest
import torch

from vssl.errors import VsslError
from vssl.protocol import neighbours
from vssl.protocol.neighbours import FeatureSet, NearestNeighbours, Retrieval, nearest


def at(*degrees):
    """Vectors in the plane in these directions, of different lengths."""
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    return torch.stack([radians.cos(), radians.sin()], dim=1) * torch.arange(1, len(degrees) + 1)[:, None]


GALLERY = FeatureSet(at(0, 10, 25, 90, 100), torch.tensor([0, 1, 1, 2, 0]))
QUERIES = FeatureSet(at(1, 92), torch.tensor([1, 0]))
# The first query's neighbours: rows 0 (1 degree away), 1 (9), 2 (24), 3 (89), 4 (99);
# the second's: 3 (2), 4 (8), 2 (67), 1 (82), 0 (92).


def test_the_nearest_come_first_whatever_their_length():
    cosine_VK, rows_VK = nearest(QUERIES.features_VD, GALLERY.features_VD, 5)
    assert rows_VK.tolist() == [[0, 1, 2, 3, 4], [3, 4, 2, 1, 0]]
    expected = [[math.cos(math.radians(d)) for d in row] for row in ([1, 9, 24, 89, 99], [2, 8, 67, 82, 92])]
    torch.testing.assert_close(cosine_VK, torch.tensor(expected))


def test_recall():
    metrics, arrays = Retrieval([1, 2, 50]).evaluate(QUERIES, GALLERY, 3)
    assert metrics["recall_at_1"] == 0  # classes 0 and 2, where 1 and 0 are asked for
    assert metrics["recall_at_2"] == 1  # rows 1 and 4
    assert metrics["recall_at_50"] == 1
    # one random row: 2 of 5 are of the class of the first query, 2 of 5 of the second's
    assert metrics["chance"] == pytest.approx(0.4)
    assert arrays["neighbours_VK"].tolist() == [[0, 1, 2, 3, 4], [3, 4, 2, 1, 0]]


def test_votes():
    temperature = 0.5
    metrics, arrays = NearestNeighbours(3, temperature).evaluate(QUERIES, GALLERY, 4)
    one, two = (
        [math.exp(math.cos(math.radians(degrees)) / temperature) for degrees in row]
        for row in ([1, 9, 24], [2, 8, 67])
    )
    expected = [
        [one[0] / sum(one), (one[1] + one[2]) / sum(one), 0, 0],
        [two[1] / sum(two), two[2] / sum(two), two[0] / sum(two), 0],
    ]
    torch.testing.assert_close(arrays["scores_VN"], torch.tensor(expected))
    assert metrics == pytest.approx(
        {"video_top1": 0.5, "video_top5": 1.0, "mean_class_top1": 0.5, "chance": 0.5}
    )


@pytest.mark.parametrize(
    ("protocol", "headline"), [(Retrieval([1, 2]), "recall_at_1"), (NearestNeighbours(3, 0.5), "video_top1")]
)
def test_all_metrics_are_declared_with_one_headline_and_the_facts_are_the_values(protocol, headline):
    metrics, _ = protocol.evaluate(QUERIES, GALLERY, 3)
    assert {metric.name for metric in protocol.metrics} == set(metrics)
    assert [metric.name for metric in protocol.metrics if metric.headline] == [headline]
    assert protocol.facts() == {**vars(protocol), "similarity": "cosine"}


def test_a_low_temperature_leaves_the_nearest_alone():
    warm, cold = (
        NearestNeighbours(3, t).evaluate(QUERIES, GALLERY, 3).arrays["scores_VN"] for t in (10.0, 1e-3)
    )
    assert warm.argmax(dim=1).tolist() == [1, 2]  # class 1 has two of three votes
    assert cold.argmax(dim=1).tolist() == [0, 2]


def test_classes_without_a_vote_are_no_hit():
    queries = FeatureSet(at(0), torch.tensor([7]))
    metrics, _ = NearestNeighbours(1, 0.07).evaluate(queries, GALLERY, 8)
    assert metrics["video_top5"] == 0


def test_chunks_make_no_difference(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(n, 8, generator=generator) for n in (37, 60))
    cosine, rows = nearest(queries, gallery, 9)
    monkeypatch.setattr(neighbours, "CHUNK", 5)
    cosine_of_chunks, rows_of_chunks = nearest(queries, gallery, 9)
    assert torch.equal(rows, rows_of_chunks)
    torch.testing.assert_close(cosine, cosine_of_chunks)
    one_by_one = [
        sorted(range(60), key=lambda row: -torch.cosine_similarity(query, gallery[row], dim=0))[:9]
        for query in queries
    ]
    assert rows.tolist() == one_by_one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retrieval([0, 1]), r"^ranks=\[0,1\]: no number of neighbours; give some from 1 on"),
        (lambda: Retrieval([]), r"^ranks=\[\]: no number of neighbours; give"),
        (lambda: NearestNeighbours(0, 0.07), "k=0"),
        (lambda: NearestNeighbours(20, 0.0), r"temperature=0\.0"),
    ],
)
def test_values_that_make_no_sense(make, message):
    with pytest.raises(VsslError, match=message):
        make()
