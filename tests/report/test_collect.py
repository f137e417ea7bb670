"""From a planted store to what is reported of it."""

import pytest

import fake_store
from fake_store import VIDEO_TOP1
from vssl.dispatch.states import states
from vssl.errors import VsslError
from vssl.pipeline import merge
from vssl.report.collect import UNKNOWN, all_finished, labels, of_points
from vssl.report.model import Column, Run, data_words
from vssl.result import Metric
from vssl.words import NONE


def collected(store, chain):
    """The run of a single point."""
    report = of_points([fake_store.point("a", 0, chain)], {}, states(chain, store, None))
    [run] = report.runs
    return run


def test_a_run_that_is_done(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=3)
    fake_store.finish_chain(store, chain, 0.75)
    run = collected(store, chain)
    assert run.metrics == {"video_top1": 0.75, "clip_top1": 0.625, "chance": 0.01}
    assert run.column == Column("", VIDEO_TOP1)
    assert (run.seed, data_words(run.test.spec.recipe), run.waits_for) == (3, "ucf101 test", None)
    assert [stage.spec for stage in run.stages] == chain
    assert [len(stage.stage.lines) for stage in run.stages] == [20, 25, 0]
    assert run.facts["backbone"] == "R3D, 1,234,567 parameters"
    assert run.facts["pretext"] == "VSPP on kinetics100 train, 1,000 videos, epochs 20, batch 30"
    assert run.facts["code"] == "vssl 0.1.0, commit 0123456789ab"


def test_a_run_that_is_not_done_says_what_its_recipes_say(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=0)
    with store.claim(chain[0]):
        pass
    store.fail(chain[1], "no space")
    run = collected(store, chain)
    assert (run.metrics, run.column.metric) == ({}, UNKNOWN)
    assert [stage.status for stage in run.stages] == ["stale", "failed", "to do"]
    assert run.facts["backbone"] == "R3D"


def test_each_metric_has_a_column_and_a_test_that_is_not_done_goes_where_its_task_is(tmp_path):
    store, recall = fake_store.store_in(tmp_path), Metric("recall_at_1", "recall at 1", headline=True)
    first, second, retrieval = (fake_store.chain(4, seed) for seed in (0, 1, 2))
    retrieval[-1] = fake_store.stage(
        "test", "Retrieval", fake_store.videos("ucf101", "test"), 2, retrieval[1]
    )
    fake_store.finish_chain(store, first, 0.75)
    fake_store.finish(store, retrieval[-1], {"recall_at_1": 0.25}, declared=[recall])
    points = [fake_store.point("a", n, chain, "UCF") for n, chain in enumerate((first, second, retrieval))]
    found = states(merge(point.chain for point in points), store, None)
    report = of_points(points, {}, found)
    assert [column.head for column in report.columns] == ["UCF video top-1", "UCF recall at 1"]
    assert [column.name for column in report.columns] == ["UCF video top-1", "UCF recall at 1"]
    [row] = report.rows
    assert [row.cell(column).seeds for column in report.columns] == ["1 of 2", "1"]
    [only] = of_points(points, {"metric": "clip_top1"}, found).columns
    assert (only.head, only.name) == ("UCF clip top-1", "UCF")


def test_a_column_may_show_a_metric_of_its_own(tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(4, seed=0)
    fake_store.finish_chain(store, chain, 0.75)
    points = [fake_store.point("a", 0, chain, column) for column in ("domain", "actions", "open")]
    columns = [
        {"label": "domain"},
        {"label": "actions", "metric": "clip_top1"},
        {"label": "open", "metric": "new_one"},
    ]
    report = of_points(points, {"metric": "video_top1", "columns": columns}, states(chain, store, None))
    assert [one.head for one in report.columns] == [
        "domain video top-1",
        "actions clip top-1",
        "open new one",
    ]
    assert [report.rows[0].cell(one).mean_sd for one in report.columns] == ["75.0", "62.5", NONE]


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
    stages = [fake_store.state(spec) for spec in fake_store.chain(4, 0, source, target)]
    assert Run(Column("", VIDEO_TOP1), stages, expected).other_data == words


def test_a_published_number_is_held_against_fine_tuned_networks_alone(tmp_path):
    store, rows = fake_store.store_in(tmp_path), {}
    for name, task in (("finetune", "Classification"), ("gallery", "NearestNeighbours")):
        pretext, _, test = fake_store.chain(4, 0)
        before = fake_store.stage(name, task, test.recipe.data, 0, pretext)
        chain = [pretext, before, fake_store.stage("test", task, test.recipe.data, 0, before)]
        for spec in chain:
            fake_store.finish(store, spec, {"video_top1": 0.5} if spec.name == "test" else None)
        sweep = {"rows": [{"label": "a", "published": {"UCF": 40.0}}]}
        report = of_points([fake_store.point("a", 0, chain, "UCF")], sweep, states(chain, store, None))
        cell = report.rows[0].cell(report.columns[0])
        rows[name] = (cell.published, cell.difference, report.rehearsal)
    assert rows == {
        "finetune": (40.0, 10.0, ""),
        "gallery": (40.0, None, "NearestNeighbours instead of finetune"),
    }


def test_all_finished_groups_seeds_and_tells_rows_apart(tmp_path):
    store = fake_store.store_in(tmp_path)
    for segments, seed in ((4, 1), (4, 0), (3, 0)):
        fake_store.finish_chain(store, fake_store.chain(segments, seed), 0.5)
    fake_store.finish_chain(store, fake_store.chain(4, 0, target="hmdb51"), 0.3)
    fake_store.finish(store, fake_store.chain(2, 0)[0])  # no test: no row
    report = all_finished(store)
    assert {column.label for column in report.columns} == {"ucf101", "hmdb51"}
    found = {row.label: [(run.column.label, run.seed) for run in row.runs] for row in report.rows}
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
