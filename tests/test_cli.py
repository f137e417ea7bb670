"""The command line as people write it."""

import errno
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from conftest import ROOT, composed
from vssl.cli import as_hydra_wants_it, explain, one_line_errors
from vssl.commands import execute
from vssl.errors import VsslError


def test_flags_may_come_late_and_experiments_with_a_plus():
    words = ["mode=plan", "+experiment=quick", "-m", "+sweeps=quickstart"]
    assert as_hydra_wants_it(words) == ["-m", "mode=plan", "experiment=quick", "+sweeps=quickstart"]


def test_a_sweep_file_is_always_a_multirun():
    assert as_hydra_wants_it(["mode=report", "+sweeps=table4"]) == ["-m", "mode=report", "+sweeps=table4"]
    assert as_hydra_wants_it(["sweeps=table4", "mode=plan"]) == ["-m", "+sweeps=table4", "mode=plan"]
    assert as_hydra_wants_it(["+sweeps=table4", "-m"]) == ["-m", "+sweeps=table4"]
    assert as_hydra_wants_it(["--cfg", "job", "+sweeps=table4"]) == ["--cfg", "job", "+sweeps=table4"]


@pytest.mark.parametrize(
    "value", ["~/videos", "/data/ü dir", "it's", "/a=b", "über", "VSPP (2)", "plain", "/a/b.pt", "日本", ""]
)
def test_a_path_comes_through_as_it_was_written(value):
    [word] = as_hydra_wants_it([f"source.root={value}"])
    [override] = OverridesParser.create().parse_overrides([word])
    assert str(override.value()) == value


@pytest.mark.parametrize(
    "word",
    ["seed=0,1", "seed=range(3)", "a=[1,2]", "a='b=c'", 'a="it\'s"', "a={b:1}", "a=${b}", "--config-dir=~/c"],
)
def test_what_is_hydras_grammar_stays(word):
    assert as_hydra_wants_it([word]) == [word]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_one_line(code, capsys):
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        raise OSError(code, "Not allowed", "/there")
    said = capsys.readouterr().err
    assert said == "vssl: /there: Not allowed; change that, or say outputs=DIR to write elsewhere\n"


def test_the_short_way_to_help_says_what_hydra_says():
    said = [
        subprocess.run(
            [sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for words in (["--help"], ["-h"], ["--help", "seed=0"])
    ]
    assert said[0] == said[1] == said[2]
    assert "pretext: none, opn, rspnet, shuffle_learn, speednet, vcop, videopace, vspp" in said[0]


def test_a_word_without_a_value_is_told_what_to_be():
    error = HydraException("Error parsing override 'plan'\nmissing EQUAL at '<EOF>'\nSee https://hydra.cc")
    assert explain(error).startswith("plan: an option is key=value; say mode=plan for a mode")


def test_an_option_of_what_is_left_out_is_told_to_come_with_the_rest():
    with pytest.raises(HydraException) as caught:
        composed("pretext.augmentation.jitter.probability=0.5")  # which the toy does without
    node = "pretext.augmentation.jitter"
    said = f"{node}.probability: {node} is null; set all of it, {node}={{_target_:CLASS,probability:...}}"
    assert explain(caught.value) == said


def typed(*words):
    """The one line that the mode says, run in this process."""
    with pytest.raises(VsslError) as caught:
        execute([(composed(*words), list(words))])
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mode=check", "source=ucf101", "source.root=/gone"], "source.root=/gone: no such folder; give"),
        (["mode=check", "source=ucf101", "roots.ucf101=/gone"], "roots.ucf101=/gone: no such folder; give"),
        (["mode=prepare", "source=ucf101", "roots.ucf101=/gone"], "roots.ucf101=/gone: no such folder; give"),
        (["source.root=FILE"], "source.root=FILE: FILE is not a folder; give another place"),
        (
            ["mode=export", "stage=x", "outputs=FILE"],
            "outputs=FILE: FILE is not a folder; give another place",
        ),
        (
            ["mode=prepare", "source=folder", "source.root=ROOT", "prepare.out=FILE"],
            "prepare.out=FILE: FILE is",
        ),
        (["init.weights=FILE"], "init.weights=FILE: damaged, or not a file of tensors"),
        (["mode=convert"], "convert.weights=null: no file; give"),
        (["mode=convert", "convert.weights=/gone"], "convert.weights=/gone: No such file or directory; give"),
    ],
)
def test_what_is_not_there_is_said_of_the_option_as_it_was_typed(words, message, tmp_path):
    file, root = tmp_path / "file", tmp_path / "root"
    file.write_text("no video, no weights, no folder")
    root.mkdir()
    places = [f"prepare.out={tmp_path}/out", f"outputs={tmp_path}", "mode=plan"]
    words = [word.replace("FILE", str(file)).replace("ROOT", str(root)) for word in words]
    assert typed(*places, *words).startswith(message.replace("FILE", str(file)))


def test_a_choice_in_a_list_that_there_is_not():
    with pytest.raises(HydraException) as caught:
        composed("experiment=[quick,as_papr]")
    assert explain(caught.value) == "experiment=as_papr: no such choice; --help lists the choices"
