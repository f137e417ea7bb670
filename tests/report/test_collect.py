"""From a planted store to what is reported of it."""

import numpy as np
import pytest

import fake_store
from vssl.errors import VsslError
from vssl.stage.collect import Collector, all_finished, labels, other_data


def collected(store, chain, expected=()):
    return Collector(store, {}).run(chain, "", dict(expected))


def test_a_run_that_is_done(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=3)
    fake_store.finish_chain(store, chain, 0.75)
    run = collected(store, chain)
    assert run.metrics == {"video_top1": 0.75, "clip_top1": 0.625, "chance": 0.01}
    assert (run.seed, run.data, run.waits_for) == (3, "ucf101 test", None)
    assert [stage.key for stage in run.stages] == [spec.key for spec in chain]
    assert [len(stage.lines) for stage in run.stages] == [20, 25, 0]
    assert "segments: 4" in run.stages[0].recipe
    assert run.facts["backbone"] == "R3D, 1,234,567 parameters"
    assert run.facts["pretext"] == "VSPP on kinetics100 train, 1,000 videos, epochs 20, batch 30"
    assert run.facts["code"] == "vssl 0.1.0, commit 0123456789ab"


def test_a_run_that_is_not_done_says_what_its_recipes_say(tmp_path):
    chain = fake_store.chain(4, seed=0)
    run = Collector(fake_store.store_in(tmp_path), {chain[1].key: ("failed", "no space")}).run(chain, "", {})
    assert run.metrics is None
    assert [(stage.state, stage.detail) for stage in run.stages] == [
        ("to do", ""),
        ("failed", "no space"),
        ("to do", ""),
    ]
    assert run.facts["backbone"] == "R3D"
    assert run.stages[0].cost is None


def test_a_cpu_has_no_gpu_even_if_an_old_result_does_not_say_so(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=0)
    for device, gpus in (("cuda", None), ("cpu", 0)):
        fake_store.finish(store, chain[0], device=device, gpus="unknown", energy_joules="unknown")
        cost = collected(store, chain).stages[0].cost
        assert (cost.gpus, cost.energy_joules) == (gpus, None)


def test_confusion_is_a_share_of_each_true_class(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=0)
    fake_store.finish_chain(store, chain, 0.5)
    fake_store.predict(store, chain[2], [[0.7, 0.3, 0], [0, 0, 1], [0, 0, 0]], ["a", "b", "c"])
    run = collected(store, chain)
    np.testing.assert_allclose(run.confusion_NN, [[0.7, 0.3, 0], [0, 0, 1], [0, 0, 0]])
    assert run.class_names == ["a", "b", "c"]


def test_a_sheet_of_neighbours_is_part_of_the_run(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=0)
    fake_store.finish_chain(store, chain, 0.5)
    assert collected(store, chain).sheet is None
    (store.folder(chain[2]) / "retrieval.png").write_bytes(b"png")
    assert collected(store, chain).sheet == b"png"


PUBLISHED = {"source": "kinetics100", "downstream": "ucf101"}


@pytest.mark.parametrize(
    ("source", "target", "expected", "words"),
    [
        ("kinetics100", "ucf101", PUBLISHED, ""),
        ("kinetics400", "ucf101", PUBLISHED, "kinetics400 instead of kinetics100"),
        ("kinetics100", "hmdb51", PUBLISHED, "hmdb51 instead of ucf101"),
        ("kinetics100", "hmdb51", {}, ""),
        ("synthetic", "ucf101", {}, "synthetic videos"),
        ("synthetic", "synthetic", PUBLISHED, "synthetic videos"),
    ],
)
def test_which_videos_are_not_those_of_the_published_number(source, target, expected, words):
    assert other_data(fake_store.chain(4, 0, source, target), expected) == words


def test_all_finished_groups_seeds_and_tells_rows_apart(tmp_path):
    store = fake_store.store_in(tmp_path)
    for segments, seed in ((4, 1), (4, 0), (3, 0)):
        fake_store.finish_chain(store, fake_store.chain(segments, seed), 0.5)
    fake_store.finish_chain(store, fake_store.chain(4, 0, target="hmdb51"), 0.3)
    fake_store.finish(store, fake_store.chain(2, 0)[0])  # no test: no row
    report = all_finished(store)
    assert {column.label for column in report.columns} == {"ucf101", "hmdb51"}
    found = {row.label: [(run.column, run.seed) for run in row.runs] for row in report.rows}
    three, four, small = sorted(found)
    assert three.startswith("VSPP + Classification, R3D, segments=3")
    assert found[three] == [("ucf101", 0)]
    assert sorted([*found[four], *found[small]]) == [("hmdb51", 0), ("ucf101", 0), ("ucf101", 1)]


def test_labels_say_only_what_differs():
    chains = [fake_store.chain(z, seed) for z in (3, 4) for seed in (0, 1)]
    word = "VSPP + Classification, R3D"
    assert labels(chains) == [f"{word}, segments={z}" for z in (3, 3, 4, 4)]
    assert labels(chains[:2]) == [word, word]


def test_an_empty_store_and_a_changed_recipe_are_told(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, 0)
    with pytest.raises(VsslError, match="no stage 'test' is done"):
        all_finished(store)
    fake_store.finish_chain(store, chain, 0.5)
    path = store.folder(chain[0]) / "recipe.yaml"
    path.write_text(path.read_text().replace("segments: 4", "segments: 5"))
    with pytest.raises(VsslError, match="changed by hand"):
        all_finished(store)
    path.unlink()
    with pytest.raises(VsslError, match=r"recipe\.yaml: not there"):
        all_finished(store)
