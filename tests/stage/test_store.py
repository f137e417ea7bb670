"""The store: claims, results, what a kill leaves behind, and what its folders alone tell."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml

from vssl.errors import VsslError
from vssl.result import Cost, Metric, StageResult
from vssl.stage.kind import CLASSIFIER, PRETEXT
from vssl.stage.spec import Recipe, StageSpec
from vssl.stage.store import FORMAT, StageStore

HOLD = """
import sys, time
from pathlib import Path
from vssl.stage.kind import PRETEXT
from vssl.stage.spec import Recipe, StageSpec
from vssl.stage.store import StageStore
recipe = Recipe(task={"n": 1}, backbone={}, data={}, seed=0, revision=1)
with StageStore(Path(sys.argv[1])).claim(StageSpec("pretext", PRETEXT, recipe)) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""

RESULT = StageResult(
    metrics={"x": 0.5},
    protocol={"clips_per_video": 10},
    cost=Cost(seconds=3.0, gpus=1, clips=20),
    provenance={"device": "cpu"},
    declared=[Metric("x", "share of x", headline=True, percent=False)],
    references={"loss": {"chance": 1.0}},
    bad_videos={"names": ["a.mp4"]},
)


def recipe(n):
    return Recipe(task={"n": n}, backbone={}, data={}, seed=0, revision=1)


@pytest.fixture
def spec():
    return StageSpec("pretext", PRETEXT, recipe(1))


@pytest.fixture
def child(spec):
    return StageSpec("finetune", CLASSIFIER, recipe(0.1), spec)


def holder(outputs):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(outputs)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def test_no_result_before_finish(tmp_path, spec):
    store = StageStore(tmp_path)
    assert store.result(spec) is None
    with store.claim(spec) as mine:
        assert mine
        assert store.result(spec) is None
        store.finish(spec, RESULT)
    assert store.result(spec) == RESULT
    written = json.loads((store.folder(spec) / "result.json").read_text())
    assert (written["format"], written["stage"], written["key"]) == (FORMAT, "pretext", spec.key)


def test_the_first_metric_that_is_a_headline_is_what_tables_compare():
    assert RESULT.headline == RESULT.declared[0]
    assert replace(RESULT, declared=[Metric("y", "y"), *RESULT.declared]).headline.name == "x"
    assert replace(RESULT, declared=[]).headline is None


def test_recipe_is_written_with_the_claim(tmp_path, spec, child):
    store = StageStore(tmp_path)
    with store.claim(child):
        written = yaml.safe_load((store.folder(child) / "recipe.yaml").read_text())
    assert written == {
        **{"format": FORMAT, "stage": "finetune", "kind": "classifier", "key": child.key},
        **{"parent": f"pretext/{spec.key}", "task": {"n": 0.1}, "backbone": {}, "data": {}},
        **{"seed": 0, "revision": 1},
    }


def test_a_second_process_does_not_get_the_claim_and_a_dead_owner_loses_it(tmp_path, spec):
    store = StageStore(tmp_path)
    process = holder(tmp_path)
    try:
        assert store.is_claimed(spec)
        with store.claim(spec) as mine:
            assert not mine
        assert str(process.pid) in store.owner(spec)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not store.is_claimed(spec)
    with store.claim(spec) as mine:
        assert mine


def test_a_claim_survives_forked_children_no_longer_than_its_owner(tmp_path, spec):
    code = HOLD.replace("    print", "    import os\n    if os.fork() == 0: time.sleep(60)\n    print")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "True\n"
        process.kill()
        process.wait()
        with StageStore(tmp_path).claim(spec) as mine:
            assert mine
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_claim_removes_what_a_killed_writer_left(tmp_path, spec):
    store = StageStore(tmp_path)
    folder = store.folder(spec)
    folder.mkdir(parents=True)
    (folder / ".checkpoint.pt.4711").write_text("half")
    (folder / "checkpoint.pt").write_text("whole")
    with store.claim(spec):
        pass
    assert not (folder / ".checkpoint.pt.4711").exists()
    assert (folder / "checkpoint.pt").exists()


def test_a_failure_is_noted_until_the_next_claim(tmp_path, spec):
    store = StageStore(tmp_path)
    with store.claim(spec):
        store.fail(spec, "out of luck")
    note = json.loads((store.folder(spec) / "failed.json").read_text())
    assert note["reason"] == "out of luck"
    assert note["time"] <= time.time()
    with store.claim(spec):
        assert not (store.folder(spec) / "failed.json").exists()


@pytest.fixture
def store(tmp_path, spec, child):
    """Two stages, the first of them done, and the folder of one that never came to a recipe."""
    store = StageStore(tmp_path)
    for one in (spec, child):
        with store.claim(one):
            pass
    store.finish(spec, RESULT)
    store.fail(StageSpec("test", CLASSIFIER, recipe(2), child), "no GPU")
    return store


def test_a_stage_opens_by_the_beginning_of_its_key_with_all_before_it(store, spec, child):
    opened = store.open(child.key[:6])
    assert opened.spec.chain == [spec, child]
    assert [one.recipe for one in opened.spec.chain] == [spec.recipe, child.recipe]
    assert opened.folder == store.folder(child)
    assert opened.result is None
    with pytest.raises(VsslError, match=rf"^{opened.folder}: not finished; run it to its end first$"):
        _ = opened.finished
    assert store.open(spec.key).finished == RESULT


def test_all_stages_and_those_that_are_finished(store, spec, child):
    assert [one.spec for one in store.all()] == [child, spec]  # in the order of their names
    assert [one.spec for one in store.all("pretext")] == [spec]
    assert [one.spec for one in store.finished()] == [spec]
    assert [one.finished for one in store.finished("pretext")] == [RESULT]
    assert list(store.finished("finetune")) == list(store.all("test")) == []
    assert list(StageStore(store.root / "nowhere").all()) == []


def test_a_key_that_none_or_several_stages_have(store, spec):
    assert store.key(spec.key[:4]) == spec.key
    assert store.key("xy", others=["xyz", "xa"]) == "xyz"
    ambiguous = (
        r"^stage=xy: 2 stages begin like this; give the beginning of a key \(mode=status shows them\)$"
    )
    with pytest.raises(VsslError, match=ambiguous):
        store.key("xy", others=["xyz", "xya"])
    with pytest.raises(
        VsslError, match=rf"^stage=nothing: no such stage in {store.root}; give the beginning"
    ):
        store.open("nothing")
    with pytest.raises(VsslError, match=r"^stage=null: needs the beginning of a key; stage=KEY"):
        store.open(None)


def change(path, **values):
    """Change values of a yaml or json file by hand."""
    path.write_text(json.dumps({**yaml.safe_load(path.read_text()), **values}))


def test_a_recipe_that_was_changed_by_hand_is_no_stage_nor_what_rests_on_it(store, spec, child):
    change(store.folder(spec) / "recipe.yaml", seed=1)
    message = (
        rf"^\S+pretext/{spec.key}/recipe\.yaml: not the recipe of stage {spec.key}; .* delete that folder$"
    )
    for start in (spec.key, child.key):
        with pytest.raises(VsslError, match=message):
            store.open(start)
    with pytest.raises(VsslError, match=message):
        list(store.all())


def test_a_stage_whose_parent_is_gone(store, spec, child):
    (store.folder(spec) / "recipe.yaml").unlink()
    with pytest.raises(VsslError, match=rf"^\S+{spec.key}/recipe\.yaml: not there; copy that stage's folder"):
        store.open(child.key)


@pytest.mark.parametrize("content", ["a: [", "\x00", "- ]", "", "- 1", "format: 2", "\xff"])
def test_a_damaged_recipe_is_one_line(content, store, spec):
    (store.folder(spec) / "recipe.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(
        VsslError, match=r"recipe\.yaml: damaged; delete that folder and run again$"
    ) as caught:
        store.open(spec.key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_a_recipe_that_was_cut_short_is_one_line(lines, store, spec):
    """It is still YAML, though not all of it."""
    path = store.folder(spec) / "recipe.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(VsslError, match=r"recipe\.yaml: damaged; delete that folder and run again$"):
        list(store.all())


@pytest.mark.parametrize(
    "content", ["[]", "7", '{"format": 2}', '{"format": "two"}', '{"format": 2, "metrics": 1}']
)
def test_a_result_that_is_none_is_one_line(content, store, spec):
    (store.folder(spec) / "result.json").write_text(content)
    with pytest.raises(
        VsslError, match=r"result\.json: not a result; delete the file to run the stage again$"
    ):
        store.result(spec)


@pytest.mark.parametrize("content", ["", "\0\0", '{"pid"', "[]"])
def test_a_damaged_note_is_none(content, store, spec):
    (store.folder(spec) / "owner.json").write_text(content)
    assert store.note(spec, "owner.json") is None
    assert store.owner(spec) == "another process"


def test_a_damaged_result_is_one_line(store, spec):
    (store.folder(spec) / "result.json").write_text('{"format": 2, "met')
    with pytest.raises(
        VsslError, match=r"result\.json: not JSON .*; delete the file to run the stage"
    ) as caught:
        store.result(spec)
    assert "\n" not in str(caught.value)


AGES = {99: "a newer vssl \\(format 99, this one has 2\\)", 1: "an older vssl \\(format 1, this one has 2\\)"}


@pytest.mark.parametrize("found", AGES)
@pytest.mark.parametrize("name", ["recipe.yaml", "result.json"])
def test_a_folder_of_another_format_is_refused_in_one_line(found, name, store, spec):
    change(store.folder(spec) / name, format=found)
    message = rf"^\S+{name}: written by {AGES[found]}; choose another outputs=DIR, or read it with that vssl$"
    with pytest.raises(VsslError, match=message):
        _ = store.open(spec.key).result
    if name == "result.json":
        with pytest.raises(VsslError, match=message):
            store.result(spec)


def test_files_from_before_formats_were_counted_have_the_first_one(store, spec):
    for name in ("recipe.yaml", "result.json"):
        path = store.folder(spec) / name
        plain = yaml.safe_load(path.read_text())
        del plain["format"]
        path.write_text(json.dumps(plain))
    message = r"written by an older vssl \(format 1, this one has 2\)"
    with pytest.raises(VsslError, match=rf"result\.json: {message}"):
        store.result(spec)
    with pytest.raises(VsslError, match=rf"recipe\.yaml: {message}"):
        store.open(spec.key)


@pytest.mark.parametrize("found", AGES)
def test_outputs_of_another_format_are_refused_as_soon_as_they_are_opened(found, store, spec, child):
    for one in (spec, child):
        change(store.folder(one) / "recipe.yaml", format=found)
    with pytest.raises(
        VsslError, match=rf"recipe\.yaml: written by {AGES[found]}; choose another outputs=DIR"
    ):
        StageStore(store.root.parent)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line(tmp_path, spec, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.lockf", fail)
    store = StageStore(tmp_path)
    message = r"has no POSIX locks \(.+\), .*; say outputs=DIR on one that has"
    with pytest.raises(VsslError, match=message), store.claim(spec):
        pass
    assert not store.is_claimed(spec)
