"""The benchmarks still run; what they measure is for `make bench`."""

import importlib
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import benchmarks.__main__ as bench
from benchmarks import measuring, step
from benchmarks.measuring import Options, Table, in_turns, kept, markdown, write
from conftest import configs
from gpu import day

NAMES = [
    "loader",
    "augmentation",
    "step",
    "training",
    "launch",
    "scale",
    "overhead",
]
BEGUN = {
    "date": "2020-01-02",
    "gpu": "a GPU",
    "gpu_gib": "0.5 of 80",
    "processor": "a chip",
    "cores": 4,
    "load": 0.5,
    "git_commit": "0123456789",
    "python": "3.12.1",
    "versions": {"torch": "2.9"},
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Benchmarks set the environment of a process that they think is theirs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_its_smallest(name, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "FOLDER", tmp_path)
    *_, table = importlib.import_module(f"benchmarks.{name}").run(Options(smallest=True))
    assert table.rows
    assert markdown(table, BEGUN).count("\n|") == len(table.rows) + 2
    write(name, table, BEGUN)
    assert markdown(*kept(name)) == markdown(table, BEGUN)


def test_every_benchmark_is_tried_here_and_offered_there():
    folder = Path(__file__).parent / "benchmarks"
    offered = (folder / "__main__.py").read_text()
    for path in folder.glob("*.py"):
        if "\ndef run(options" in path.read_text():
            assert path.stem in NAMES
            assert f'"{path.stem}"' in offered


def test_what_is_stopped_leaves_a_table_that_has_more(monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, "FOLDER", tmp_path)

    def kept_after(names, stopped_after=None, **begun):
        monkeypatch.setattr(bench, "environment", lambda: BEGUN | begun)

        def run(options):
            for number in range(1, len(names) + 1) or [0]:
                yield Table("Steps", ["what", "ms"], [[name, 1.0] for name in names[:number]])
                if number == stopped_after:
                    raise KeyboardInterrupt

        monkeypatch.setattr("benchmarks.step.run", run)
        with suppress(KeyboardInterrupt):
            bench.measure("step", Options())
        return "".join(row[0] for row in kept("step")[0].rows)

    assert kept_after("abc", stopped_after=1) == "a"
    assert kept_after("def", stopped_after=2) == "de"
    assert kept_after("ghi", stopped_after=1) == "de"
    assert kept_after("ghi", stopped_after=3) == "ghi"
    assert kept_after("j") == "j"
    assert kept_after("kl") == "kl"
    with pytest.raises(SystemExit, match="step: nothing could be measured"):
        kept_after("")
    assert kept_after("o", stopped_after=1) == "kl"
    assert kept_after("mn", stopped_after=1, gpu="another GPU") == "m"


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("rehearses", [False, True])
def test_the_sweep_of_a_day_on_a_gpu_composes(tmp_path, smallest, rehearses):
    """All of its stages compute in bfloat16, unless it is a rehearsal on a CPU."""
    points = configs(*day.sweep(tmp_path / "videos", smallest, rehearses), "claim.flip=0")
    assert len(points) == (20 if rehearses else 100)  # five rows, four columns, one seed or five
    trained = {
        node.training.precision
        for cfg in points
        for node in (cfg.pretext, cfg.auxiliary, cfg.protocol)
        if node and "training" in node
    }
    assert trained == {"float32" if smallest or rehearses else "bfloat16"}
    assert {cfg.source.name for cfg in points} == {"folder"}


def test_what_a_machine_cannot_do_costs_its_own_line_alone(monkeypatch):
    """A GPU that is too small, no compiler: then a way or two are missing, and not the table."""
    monkeypatch.setattr(step, "ways", lambda: [step.PLAIN, step.Way("float32", channels_last=True)])
    monkeypatch.setattr(step, "SMALL", {"tiny": 4})
    measured = step.seconds_per_step

    def seconds_per_step(spec, runtime, *more):
        if not runtime.channels_last:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")
        return measured(spec, runtime, 1, 1)

    monkeypatch.setattr(step, "seconds_per_step", seconds_per_step)
    monkeypatch.setattr(step, "seconds_per_test", lambda *asked: [1.0])
    *_, table = step.run(Options())
    assert [row[:3] for row in table.rows] == [
        ["tiny", what, way]
        for what, way in [
            ("VSPP", "float32, channels_last"),
            ("auxSKD", "float32, channels_last"),
            ("test", "float32"),
            ("test", "float32, channels_last"),
        ]
    ]
    for what in ("VSPP", "auxSKD"):
        why = "not measured (CUDA out of memory. Tried to allocate 9 GiB)"
        assert f"tiny, {what}, float32: {why}" in table.remarks
    assert "| tiny" in markdown(table, BEGUN)


def test_a_table_without_a_line_is_printed():
    assert markdown(Table("Steps", ["what", "ms"], [], ["nothing ran"]), BEGUN).count("|\n") == 2


def test_candidates_take_turns_and_the_first_round_warms_up():
    calls = []
    ticks = iter(range(100))
    seconds = in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        runs=2,
        clock=lambda work: work() or next(ticks),
    )
    assert calls == ["a", "b"] * 3
    assert seconds == {"a": [2, 4], "b": [3, 5]}


def test_a_table_is_markdown():
    table = Table("Speed", ["way", "ms"], [["one", 1234.5], ["another", 0.01234]], ["fast"])
    assert markdown(table, BEGUN).splitlines() == [
        "### Speed",
        "",
        "| way     |     ms |",
        "| ------- | -----: |",
        "| one     |  1,234 |",
        "| another | 0.0123 |",
        "",
        "- fast",
        "- 2020-01-02, a GPU (0.5 of 80 GiB in use before), a chip, 4 cores, load 0.5 before; Python 3.12.1, "
        "torch 2.9; commit 01234567",
    ]
