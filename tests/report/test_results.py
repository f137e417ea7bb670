"""`vssl.results`: what stands in the store, as a table."""

import subprocess
import sys

import numpy as np
import pytest

import fake_store
import vssl
from vssl.errors import VsslError
from vssl.result import Metric


@pytest.fixture
def outputs(tmp_path):
    """Two seeds of one chain with predictions, one of another, and one test by neighbours."""
    store = fake_store.store_in(tmp_path)
    for segments, seed, top1 in ((4, 0, 0.5), (4, 1, 0.75), (3, 0, 0.25)):
        chain = fake_store.chain(segments, seed)
        fake_store.finish_chain(store, chain, top1)
        if segments == 4:
            matrix_NN = [[top1, 1 - top1], [1 - top1, top1]]
            fake_store.predict(store, chain[-1], matrix_NN, ["run", "jump"], videos=4)
    spec = fake_store.stage("test", "Retrieval", fake_store.videos("ucf101", "test"), 0, chain[1])
    fake_store.finish(store, spec, {"recall_at_1": 0.5}, declared=[Metric("recall_at_1", "recall at 1")])
    found = {"neighbours_VK": [[2, 0], [1, 2]], "labels_V": [0, 1], "gallery_labels_G": [0, 0, 0]}
    np.savez(store.folder(spec) / "neighbours.npz", **found, class_names=["run", "jump"])
    return tmp_path


def test_a_line_for_each_test(outputs):
    table = vssl.results(outputs)
    assert len(table) == 4
    one = table[(table["pretext.task.segments"] == 4) & (table.seed == 1)].squeeze()
    assert (one.data, one.video_top1, one["test.data.name"]) == ("ucf101", 0.75, "ucf101")
    assert one.label.startswith("VSPP + Classification, R3D, segments=4")
    assert one["pretext.training.epochs"] == 20
    assert one["protocol.clips_per_video"] == 10
    assert (one.gpu_hours, one.clips, one.energy_joules) == (6.0, 3000, 3 * 3.6e6)  # three stages
    assert np.isnan(one.recall_at_1)
    means = table.groupby("label").video_top1.mean()
    assert sorted(means.dropna()) == [0.25, 0.625]


def test_a_line_for_each_video_whose_means_are_the_metrics(outputs):
    videos = vssl.results(outputs, videos=True)
    assert len(videos) == 8 + 8 + 2  # a test without arrays has no lines
    tests = vssl.results(str(outputs)).set_index("test")
    for metric in ("video_top1", "recall_at_1"):
        means = videos.groupby("test")[metric].mean().dropna()
        assert means.to_dict() == tests[metric].loc[means.index].to_dict()
    classified = videos.dropna(subset="video_top1")
    assert ((classified["class"] == classified.predicted) == classified.video_top1).all()
    assert classified.video.tolist() == [*range(8)] * 2
    retrieved = videos.dropna(subset="recall_at_1")
    assert retrieved[["class", "predicted"]].values.tolist() == [["run", "run"], ["jump", "run"]]


def test_without_any_test_it_says_so(tmp_path):
    with pytest.raises(VsslError, match="no stage 'test' is done here"):
        vssl.results(tmp_path)


def test_importing_vssl_imports_nothing_heavy():
    code = "import sys, vssl; print({'torch', 'pandas', 'numpy', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
