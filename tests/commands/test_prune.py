"""mode=prune: nothing that a later run reads is ever removed, and stores merge by copying."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

import fake_store
from conftest import SMALL, composed, context_in
from vssl.commands import prune
from vssl.dispatch.local import LocalDispatcher
from vssl.dispatch.records import JobRecords, Record
from vssl.errors import OptionError, VsslError
from vssl.pipeline import Point, merge, plan
from vssl.stage.store import StageStore

RESULTS = ("result.json", "metrics.jsonl", "recipe.yaml", "predictions.npz", "log.txt")


def config(outputs, sweep=None, **values):
    cfg = {"outputs": str(outputs), "prune": {"apply": False, "others": False, **values}}
    return OmegaConf.create({**cfg, **({"sweep": {"name": sweep}} if sweep else {})})


def files(outputs):
    return {str(path.relative_to(outputs)) for path in outputs.rglob("*") if path.is_file()}


def points_of(chains):
    return [Point(name, 0, chain) for name, chain in chains.items()]


def run(forest, outputs):
    """What comes of each stage, by name and key."""
    outcomes = LocalDispatcher(1, 0, None).run(forest, context_in(outputs))
    return {f"{one.spec.name}/{one.spec.key}": one.status for one in outcomes}


@pytest.fixture
def copied(finished, tmp_path):
    """A store with one pretext judged in four ways, and the chains in it."""
    store, chains = finished
    shutil.copytree(store.root, tmp_path / "outputs" / "stages")
    return tmp_path / "outputs", chains


def test_without_a_word_nothing_is_removed(copied, capsys):
    outputs, chains = copied
    before = files(outputs)
    prune.execute(points_of(chains)[:1], config(outputs))
    assert files(outputs) == before
    said = capsys.readouterr().out
    [pretext] = outputs.glob("stages/pretext/*")
    size = (pretext / "checkpoint.pt").stat().st_size
    assert (
        f"can go: 1 file, {size / 1e6:,.1f} MB: checkpoints of finished stages from which no training" in said
    )
    assert said.splitlines()[-1] == "nothing was removed; prune.apply=true removes what can go"
    total = sum((outputs / path).stat().st_size for path in before)
    assert f"{'all':<18}{len(before):>9,}{total / 1e6:>9,.1f} MB" in said


def test_after_it_everything_is_reused_and_what_is_new_finds_its_parents(copied):
    outputs, chains = copied
    before = files(outputs)
    prune.execute(points_of(chains)[:1], config(outputs, apply=True))
    gone = before - files(outputs)
    assert {path.rpartition("/")[2] for path in gone} <= {"checkpoint.pt", "preview.png"}
    assert [path.split("/")[1] for path in gone if path.endswith("checkpoint.pt")] == ["pretext"]
    forest = merge(chains.values())
    assert set(run(forest, outputs).values()) == {"reused"}
    [test] = [spec for spec in chains["finetune"] if spec.name == "test"]
    (outputs / "stages" / "test" / test.key / "result.json").unlink()
    found = run(forest, outputs)  # it reads the head of the classifier, which is in its checkpoint
    assert found.pop(f"test/{test.key}") == "done"
    assert set(found.values()) == {"reused"}


def test_of_stages_that_no_sweep_needs_the_results_stay(copied, capsys):
    outputs, chains = copied
    points = points_of({name: chains[name] for name in ("finetune", "retrieval")})
    before = files(outputs)
    prune.execute(points, config(outputs, sweep="two", apply=True, others=True))
    gone = before - files(outputs)
    needed = {spec.key for point in points for spec in point.chain}
    weights = {path for path in gone if not path.endswith(("preview.png", "checkpoint.pt"))}
    [linear] = [spec for spec in chains["linear"] if spec.name == "linear"]
    assert weights == {f"stages/linear/{linear.key}/weights.pt"}
    assert f"stages/linear/{linear.key}/checkpoint.pt" in gone
    assert not [path for path in gone if path.endswith(RESULTS)]
    assert not [path for path in weights if path.split("/")[2] in needed]
    assert "needed: two (6 stages)" in capsys.readouterr().out
    assert set(run(merge(chains.values()), outputs).values()) == {"reused"}  # a result is what counts


def test_a_sweep_that_was_given_once_stays_needed(copied):
    outputs, chains = copied
    prune.execute(points_of({name: chains[name] for name in ("linear", "knn")}), config(outputs, sweep="a"))
    noted = json.loads((outputs / "needed.json").read_text())
    assert set(noted["a"]) == {spec.key for name in ("linear", "knn") for spec in chains[name]}
    points = points_of({name: chains[name] for name in ("finetune", "retrieval")})
    prune.execute(points, config(outputs, sweep="b", apply=True, others=True))
    assert len(list(outputs.glob("stages/*/*/weights.pt"))) == 3
    assert len(list(outputs.glob("stages/*/*/features.npz"))) == 2


def test_others_need_a_sweep(copied):
    outputs, chains = copied
    with pytest.raises(OptionError, match=r"^prune.others=true: a single point is given; give the sweep"):
        prune.execute(points_of(chains)[:1], config(outputs, others=True))


def family(tmp_path):
    """A pretext of 20 epochs that is done, and the same with 40, after it a classifier and a test."""
    store = fake_store.store_in(tmp_path)
    short, long = (fake_store.chain(1, 0, epochs=epochs) for epochs in (20, 40))
    other = fake_store.chain(2, 0)
    for spec in (short[0], other[0]):
        fake_store.finish(store, spec)
        for name in ("checkpoint.pt", "weights.pt", "preview.png"):
            (store.folder(spec) / name).write_bytes(b"x" * 1000)
    return store, short, long, other


def left(store, spec):
    names = ("checkpoint.pt", "weights.pt", "preview.png")
    return [name for name in names if (store.folder(spec) / name).exists()]


@pytest.mark.parametrize("longer", ["asked for", "in the store", "nowhere"])
def test_a_checkpoint_that_a_longer_training_continues_stays(tmp_path, longer):
    store, short, long, other = family(tmp_path)
    if longer == "in the store":
        with store.claim(long[0]):
            store.fail(long[0], "out of memory")
    asked = [Point("long", 0, long)] if longer == "asked for" else [Point("short", 0, short)]
    prune.execute(asked, config(tmp_path, apply=True))
    kept = [] if longer == "nowhere" else ["checkpoint.pt"]
    assert left(store, short[0]) == [*kept, "weights.pt"]
    assert left(store, other[0]) == ["weights.pt"]


def test_so_does_one_of_a_stage_that_no_sweep_needs(tmp_path):
    store, short, long, other = family(tmp_path)
    points = [Point("long", 0, long), Point("again", 1, long)]
    prune.execute(points, config(tmp_path, sweep="s", apply=True, others=True))
    assert left(store, short[0]) == ["checkpoint.pt", "weights.pt"]
    assert left(store, other[0]) == []


def test_weights_that_a_sweep_names_as_a_file_are_needed(tmp_path):
    store, short, _, other = family(tmp_path)
    file = str(store.folder(other[0]) / "weights.pt")
    named = [replace(spec, paths={"init": file}) for spec in short]
    points = [Point("one", 0, named), Point("two", 1, named)]
    prune.execute(points, config(tmp_path, sweep="s", apply=True, others=True))
    assert left(store, other[0]) == ["weights.pt"]


def test_what_is_not_done_keeps_all_it_has_and_the_weights_it_starts_from(tmp_path):
    store, short, _, other = family(tmp_path)
    with store.claim(other[1]):  # nobody works on it, and no sweep asks for it, but it has begun
        (store.folder(other[1]) / "checkpoint.pt").write_bytes(b"half")
    points = [Point("short", 0, short), Point("again", 1, short)]
    prune.execute(points, config(tmp_path, sweep="s", apply=True, others=True))
    assert left(store, other[0]) == ["weights.pt"]
    assert left(store, other[1]) == ["checkpoint.pt"]


def test_a_stage_that_runs_now_is_not_touched(tmp_path):
    """Its lock is another process's: one that has a result already, as a second run of it would find."""
    store, short, _, other = family(tmp_path)
    script = "import fcntl,sys,time; f=open(sys.argv[1],'a'); fcntl.lockf(f,fcntl.LOCK_EX); print(flush=True)"
    command = ["python3", "-c", f"{script}; time.sleep(60)", str(store.folder(other[0]) / "claim")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        points = [Point("short", 0, short), Point("again", 1, short)]
        prune.execute(points, config(tmp_path, sweep="s", apply=True, others=True))
    finally:
        process.kill()
        process.communicate()
    assert left(store, other[0]) == ["checkpoint.pt", "weights.pt", "preview.png"]


def test_while_jobs_wait_whose_stages_have_not_begun_nothing_is_removed(tmp_path, monkeypatch):
    store, short, _, _ = family(tmp_path)
    JobRecords(tmp_path).write("0123456789abcdef", Record("12_3"))

    class Queue:
        def jobs(self):
            return {"12_3": type("Job", (), {"alive": True})}

    monkeypatch.setattr(prune, "Slurm", Queue)
    with pytest.raises(VsslError, match=r"^mode=prune: Slurm has jobs whose stages have not begun \(1\)"):
        prune.execute([Point("short", 0, short)], config(tmp_path, apply=True))
    assert left(store, short[0]) == ["checkpoint.pt", "weights.pt", "preview.png"]


def test_two_stores_merge_by_copying(data, tmp_path):
    """With `cp -rn A/stages/. B/stages/`: what either had is reused, and what both had stays as it is."""
    small = [*SMALL, *data, "auxiliary=none", "pretext.training.epochs=1", "protocol.training.epochs=1"]
    small += ["protocol.test.sampler.num_clips=1"]
    shared = ["downstream.train.per_class=1"]
    chains = {"A": plan(composed(*small)), "B": plan(composed(*small, *shared))}
    assert chains["A"][0] == chains["B"][0]
    for name, chain in chains.items():
        assert set(run(chain, tmp_path / name).values()) == {"done"}
    kept = (tmp_path / "B/stages/pretext" / chains["B"][0].key / "result.json").read_bytes()
    subprocess.run("cp -rn A/stages/. B/stages/", shell=True, cwd=tmp_path, check=True)
    assert set(run(merge(chains.values()), tmp_path / "B").values()) == {"reused"}
    assert (tmp_path / "B/stages/pretext" / chains["B"][0].key / "result.json").read_bytes() == kept
    assert len(list(StageStore(tmp_path / "B").finished("test"))) == 2
