"""Linear CKA: against its definition by Gram matrices, and from stored features to a table of rows."""

import csv
import io

import numpy as np
import pytest

import fake_store
from vssl.dispatch.states import states
from vssl.pipeline import merge
from vssl.report import cka
from vssl.report.collect import of_points
from vssl.report.plots import draw
from vssl.stage.weights import write_arrays

RNG = np.random.default_rng(0)


def linear_cka(one_VD, other_VE):
    return cka.linear_cka(cka.Features.of((), one_VD), cka.Features.of((), other_VE))


def by_gram_matrices(one_VD, other_VE):
    """Kornblith et al., Eq. 3 and section 2.2: HSIC of K = XX' and L = YY', normalised by that of each."""
    centre_VV = np.eye(len(one_VD)) - 1 / len(one_VD)
    one_VV, other_VV = (centre_VV @ x @ x.T @ centre_VV for x in (one_VD, other_VE))
    return (one_VV * other_VV).sum() / np.sqrt((one_VV**2).sum() * (other_VV**2).sum())


def test_it_is_that_of_the_paper():
    one_VD, other_VE = RNG.normal(2, 1, (30, 8)), RNG.normal(-1, 3, (30, 5))
    other_VE[:, :3] += one_VD[:, :3]
    assert linear_cka(one_VD, other_VE) == pytest.approx(by_gram_matrices(one_VD, other_VE), rel=1e-5)


def test_a_rotation_a_scale_and_a_shift_change_nothing_and_noise_is_unlike():
    x_VD = RNG.normal(size=(500, 6))
    rotation_DD, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    assert linear_cka(x_VD, 3 * x_VD @ rotation_DD + 7) == pytest.approx(1, abs=1e-5)
    assert linear_cka(x_VD, RNG.normal(size=(500, 6))) < 0.05


def test_by_hand():
    """Centred, x = (1, -1, 0) and y = (2, -1, -1): x'x = 2, y'y = 6, y'x = 3, and 9 / (2 x 6) = 0.75."""
    x_VD, y_VD = np.array([[6.0], [4.0], [5.0]]), np.array([[2.0], [-1.0], [-1.0]])
    assert linear_cka(x_VD, y_VD) == pytest.approx(0.75)


def test_features_that_are_all_the_same_are_like_nothing():
    assert np.isnan(linear_cka(np.ones((4, 2)), RNG.normal(size=(4, 2))))


def chain(segments, seed):
    """Pretext, features of training and test videos, and their comparison."""
    pretext = fake_store.chain(segments, seed)[0]
    data = fake_store.videos("ucf101", "test", 40)
    gallery = fake_store.stage("gallery", "VideoFeatures", data, seed, pretext)
    queries = fake_store.stage("queries", "VideoFeatures", data, seed, gallery)
    return [pretext, gallery, queries, fake_store.stage("test", "Retrieval", data, seed, queries)]


def reported(tmp_path, features):
    """The report of points whose test videos have these features by (label, segments, seed), with names."""
    store, points = fake_store.store_in(tmp_path), []
    for (label, segments, seed), (names, values) in features.items():
        own = chain(segments, seed)
        for spec in own:
            fake_store.finish(store, spec)
        write_arrays(store.folder(own[2]) / "features.npz", {"features_VD": values, "names": names})
        points.append(fake_store.point(label, seed, own))
    return of_points(points, {}, states(merge(point.chain for point in points), store, None))


NAMES = [f"{n}.mp4" for n in range(40)]


def test_rows_are_compared_seed_by_seed_and_a_row_with_itself_over_seeds(tmp_path):
    values = {key: RNG.normal(size=(40, 4)) for key in [("a", 4, 0), ("a", 4, 1), ("b", 3, 0), ("b", 3, 1)]}
    report = reported(tmp_path, {key: (NAMES, value) for key, value in values.items()})
    [(column, found)] = cka.similarities(report).items()
    (a0, a1, b0, b1), expected = values.values(), by_gram_matrices
    assert found.labels == ["a", "b"]
    both = (expected(a0, b0) + expected(a1, b1)) / 2
    np.testing.assert_allclose(
        found.matrix_RR, [[expected(a0, a1), both], [both, expected(b0, b1)]], rtol=1e-5
    )
    rows = list(csv.reader(io.StringIO(cka.to_csv({column: found}))))
    assert [line[1:3] for line in rows] == [["row", "other row"], ["a", "a"], ["b", "a"], ["b", "b"]]
    assert float(rows[2][3]) == pytest.approx(both, rel=1e-5)
    written = [text.get_text() for axes in cka.draw({column: found}, "Blues").axes for text in axes.texts]
    assert written.count(f"{both:.2f}") == 2
    assert "cka" in [one.name for one in draw(report, {column: found})]


def test_only_features_of_the_same_videos_are_compared(tmp_path):
    values = RNG.normal(size=(40, 4))
    other = [*NAMES[:-1], "another.mp4"]
    report = reported(tmp_path, {("a", 4, 0): (NAMES, values), ("b", 3, 0): (other, values)})
    assert cka.similarities(report) == {}
    assert cka.to_csv({}) == "column,row,other row,linear CKA\n"


def test_without_features_there_is_nothing_to_compare(tmp_path):
    store, own = fake_store.store_in(tmp_path), fake_store.chain(4, 0)
    fake_store.finish_chain(store, own, 0.5)
    report = of_points([fake_store.point("a", 0, own)], {}, states(own, store, None))
    assert cka.similarities(report) == {}
