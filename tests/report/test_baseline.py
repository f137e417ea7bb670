"""Which row is compared with which."""

import pytest

import fake_store
from fake_store import VIDEO_TOP1
from vssl.errors import VsslError
from vssl.report.baseline import with_baselines
from vssl.report.model import Column, Row, Run

UCF, HMDB = Column("ucf101", VIDEO_TOP1), Column("hmdb51", VIDEO_TOP1)


def row(label, pretrained=True, epochs=25, columns=(UCF,), seeds=(0, 1), init=None):
    """A row that is fine-tuned and tested in each column, after a pretext or from scratch."""
    runs = []
    for column in columns:
        for seed in seeds:
            before = fake_store.stage("pretext", label, fake_store.videos("k"), seed) if pretrained else None
            data = fake_store.videos(column.label)
            spec = fake_store.stage("finetune", "Any", data, seed, before, epochs)
            if init:
                vars(spec.recipe)["init"] = init
            test = fake_store.stage("test", "Any", data, seed, spec)
            runs.append(Run(column, [fake_store.state(one) for one in test.chain]))
    return Row(label, runs)


def found(compared, **sweep):
    return {one.label: "; ".join(one.baselines) for one in with_baselines(compared, sweep)}


SCRATCH = row("scratch", pretrained=False)


def test_without_a_word_it_is_the_row_from_scratch():
    rows = [SCRATCH, row("VSPP"), row("VCOP", seeds=[1, 2])]
    assert found(rows) == {"scratch": "", "VSPP": "scratch", "VCOP": "scratch"}


def test_weights_from_elsewhere_are_pretraining():
    assert found([SCRATCH, row("file", pretrained=False, init="3f")])["file"] == "scratch"


@pytest.mark.parametrize(
    "other",
    [
        row("VSPP", epochs=50),
        row("VSPP", columns=[HMDB]),
        row("VSPP", columns=[UCF, HMDB]),
        row("other scratch", pretrained=False, epochs=50),
    ],
    ids=["another protocol", "other data", "more data", "from scratch itself"],
)
def test_rows_that_are_not_tested_alike_are_not_compared(other):
    assert found([SCRATCH, other])[other.label] == ""


def test_each_protocol_has_its_own_row_from_scratch():
    rows = [SCRATCH, row("long scratch", False, 50), row("VSPP", epochs=25), row("VSPP long", epochs=50)]
    assert found(rows)["VSPP"] == "scratch"
    assert found(rows)["VSPP long"] == "long scratch"


def test_two_rows_from_scratch_that_are_alike_are_none():
    assert found([SCRATCH, row("again", pretrained=False), row("VSPP")])["VSPP"] == ""


def entries(*labels, **own):
    return [{"label": label, **own.get(label, {})} for label in labels]


ROWS = [row("VSPP"), row("VCOP"), row("both")]


def test_the_file_names_it_for_all_rows_or_for_one():
    named = entries("VSPP", "VCOP", "both", both={"baseline": "VCOP"})
    assert found(ROWS, rows=named) == {"VSPP": "", "VCOP": "", "both": "VCOP"}
    assert found(ROWS, rows=named, baseline="VSPP") == {"VSPP": "", "VCOP": "VSPP", "both": "VCOP"}
    named[2]["baseline"] = ["VSPP", "VCOP"]
    assert found(ROWS, rows=named)["both"] == "VSPP; VCOP"
    none = entries("scratch", "VSPP", VSPP={"baseline": None})
    assert found([SCRATCH, ROWS[0]], rows=none) == {"scratch": "", "VSPP": ""}


def test_values_that_are_swept_besides_go_with_it():
    rows = [row(f"{label}, lr={lr}") for label in ("VSPP", "VSPP, long") for lr in (0.1, 0.3)]
    assert found(rows, rows=entries("VSPP", "VSPP, long"), baseline="VSPP") == {
        "VSPP, lr=0.1": "",
        "VSPP, lr=0.3": "",
        "VSPP, long, lr=0.1": "VSPP, lr=0.1",
        "VSPP, long, lr=0.3": "VSPP, lr=0.3",
    }


def test_a_label_of_no_row_is_an_error():
    with pytest.raises(VsslError, match="baseline: vspp: no row of the sweep file is called that"):
        found(ROWS, rows=entries("VSPP", "VCOP"), baseline="vspp")
