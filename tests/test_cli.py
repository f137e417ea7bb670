"""The command line as people write it."""

import copy
import errno
import re
import signal
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from conftest import ROOT, composed
from vssl.cli import check_roots, explain, groups, one_line_errors
from vssl.commands import execute
from vssl.errors import VsslError
from vssl.overrides import as_hydra_wants_it, check_words


def test_flags_may_come_late_and_experiments_with_a_plus():
    words = ["mode=plan", "+experiment=quick", "-m", "+sweeps=quickstart"]
    assert as_hydra_wants_it(words) == ["-m", "mode=plan", "experiment=quick", "+sweeps=quickstart"]


def test_a_sweep_file_is_always_a_multirun():
    assert as_hydra_wants_it(["mode=report", "+sweeps=table4"]) == ["-m", "mode=report", "+sweeps=table4"]
    assert as_hydra_wants_it(["sweeps=table4", "mode=plan"]) == ["-m", "+sweeps=table4", "mode=plan"]
    assert as_hydra_wants_it(["+sweeps=table4", "-m"]) == ["-m", "+sweeps=table4"]
    assert as_hydra_wants_it(["--cfg", "job", "+sweeps=table4"]) == ["--cfg", "job", "+sweeps=table4"]


TEXTS = [
    *("~/videos", "/data/ü dir", "it's", "/a=b", "über", "VSPP (2)", "plain", "/a/b.pt", "日本", ""),
    *("2024_01_15", "007", "1e3", "true", "R&D", "a;b", "a#b", "<x>", "90%acc", "a,b", "[a]", "{a:1}", " a "),
    *('say "x"', "a\\", "a\\'b", "range(3)", "a\nb", "???", "!", "$HOME", "-1", "\udcff"),
]


@pytest.mark.parametrize("value", TEXTS)
@pytest.mark.parametrize("option", ["outputs", "source.root", "roots.ucf101", "init.weights", "label"])
def test_a_path_comes_through_as_it_was_written(option, value):
    [word] = as_hydra_wants_it([f"{option}={value}"])
    [override] = OverridesParser.create().parse_overrides([word])
    assert override.value() == value


def test_a_sweep_over_paths_is_one_of_paths():
    _, word = as_hydra_wants_it(["-m", "init.weights=1_0,R&D,/a/b.pt,null"])
    assert word == "init.weights='1_0','R&D',/a/b.pt,null"
    [override] = OverridesParser.create().parse_overrides([word])
    assert [str(value.text) if hasattr(value, "text") else value for value in override.value().list] == [
        *("1_0", "R&D", "/a/b.pt"),
        None,
    ]


def test_a_list_stays_a_list_when_hydra_cannot_read_one_of_its_words():
    [word] = as_hydra_wants_it(["only=[ctp (source=fading), R&D, 28]"])
    assert word == "only=['ctp (source=fading)','R&D',28]"
    assert OverridesParser.create().parse_override(word).value() == ["ctp (source=fading)", "R&D", 28]


def test_a_folder_named_like_a_number_is_that_folder(tmp_path):
    launch = [sys.executable, ROOT / "launch.py", "--cfg", "job", "outputs=2024_01_15", "label=1_0"]
    done = subprocess.run(launch, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "outputs: '2024_01_15'" in done.stdout
    assert "label: '1_0'" in done.stdout


def launched(*words):
    """`python launch.py WORDS`."""
    launch = [sys.executable, "launch.py", *words]
    return subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "word",
    ["seed=0,1", "seed=range(3)", "a=[1,2]", "a='b=c'", 'a="it\'s"', "a={b:1}", "a=${b}", "--config-dir=~/c"],
)
def test_what_is_hydras_grammar_stays(word):
    assert as_hydra_wants_it([word]) == [word]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EISDIR])
def test_a_folder_that_may_not_be_written_is_one_line(code, capsys):
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        raise OSError(code, "Not allowed", "/there")
    said = capsys.readouterr().err
    assert said == "vssl: /there: Not allowed; change that, or say outputs=DIR to write elsewhere\n"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_what_a_machine_lacks_is_one_line(code, capsys):
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        raise OSError(code, "Lacking")
    assert capsys.readouterr().err == "vssl: outputs: Lacking; mend that, the same command continues\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_after_the_last_word_another_signal_ends_it_at_once(signum):
    """Or Ctrl-C pressed twice finds Python at its end, which tells of errors that it ignores."""
    code = f"""
import os, signal
from vssl import stop
from vssl.cli import one_line_errors
stop.listen()
try:
    with one_line_errors():
        os.kill(os.getpid(), {int(signum)})
        print("not reached")
finally:
    os.kill(os.getpid(), {int(signum)})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    said = "interrupted" if signum == signal.SIGINT else "stopped by SIGTERM"
    assert (done.stdout, done.returncode) == ("", -signum)
    assert done.stderr == f"vssl: {said}; the same command continues from the last checkpoint\n"


def test_the_short_way_to_help_says_what_hydra_says():
    said = [
        subprocess.run(
            [sys.executable, "launch.py", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for words in (["--help"], ["-h"], ["--help", "seed=0"])
    ]
    assert said[0] == said[1] == said[2]
    pretexts = sorted(path.stem for path in (ROOT / "conf" / "pretext").glob("*.yaml"))
    assert f"pretext: {', '.join(pretexts)}" in said[0]


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
        (["mode=convert", "convert.weights=/gone"], "convert.weights=/gone: no such file; fetch it again"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["auxiliary=null"], "auxiliary=null: auxiliary has to have a choice; say auxiliary=none"),
        (["~auxiliary"], "~auxiliary: auxiliary has to have a choice; say auxiliary=none"),
        (["runtime=null"], "runtime=null: runtime has to have a choice; choose one: default"),
        (["pretext=3"], "pretext=3: no such choice; valid: "),
        (["pretext=../pretext/vcop"], "pretext=../pretext/vcop: no such choice; valid: "),
        (
            ["pretext=[vspp,vcop]"],
            "pretext=[vspp,vcop]: pretext has one choice at a time; -m pretext=vspp,vcop",
        ),
        (
            ["-m", "seed=0,1,2", "seed=0"],
            "seed=0,1,2: seed=0 comes after it and would replace it; leave one out",
        ),
        (["-m", "pretext=vspp,vcop", "pretext=vspp"], "pretext=vspp,vcop: pretext=vspp comes after it"),
        (["+sweeps=table3,table4"], "sweeps=table3,table4: one sweep file at a time;"),
        (["-m", "+sweeps=[table3]"], "sweeps=[table3]: one sweep file at a time;"),
        (["+sweeps=null"], "sweeps=null: one sweep file at a time;"),
        (["+pretext=vcop"], "+pretext=vcop: pretext has a choice; replace it, pretext=vcop without a +"),
        (["++source=ucf101"], "++source=ucf101: source has a choice; replace it, source=ucf101 without a +"),
        ([""], "an option is empty; is a variable of the shell?"),
        (["-m", "seed=0,1,"], "seed=0,1,: these are no values; write one between any two commas"),
        (["-m", "seed=,"], "seed=,: these are no values; write one between any two commas"),
        (["a b=3"], "a b=3: 'a b' is no name of an option; an option is key=value"),
        (["=3"], "=3: '' is no name of an option"),
        (["+hydra.run.dirr=x", "+hydra.rum=x"], "hydra.rum: no such option; did you mean 'run'?"),
        (["--confg=x"], "unrecognized arguments: --confg=x; --hydra-help lists the flags"),
        (["--cfg", "jb"], "argument --cfg/-c: invalid choice: 'jb' (choose from"),
    ],
)
def test_what_hydra_would_take_or_answer_with_a_riddle(words, message):
    with pytest.raises(VsslError) as caught:
        check_words(as_hydra_wants_it(words), groups(ROOT / "conf"))
    assert str(caught.value).startswith(message)


def test_a_folder_of_a_data_set_that_no_file_asks_for():
    with pytest.raises(
        VsslError, match=r"^roots\.ucf10: no file of conf/ has \$\{roots\.ucf10\}; did you mean 'ucf101'\?$"
    ):
        check_roots(["roots.ucf101=a", "+roots.ucf10=b"], ROOT / "conf")
    check_roots(["roots.ucf101=a", "++roots.hmdb51=b", "seed=0"], ROOT / "conf")


@pytest.mark.parametrize(
    "words", [["seed=0", "-m", "seed=0,1"], ["seed=0", "seed=1"], ["experiment=null", "~experiment"]]
)
def test_the_last_value_counts_as_long_as_no_sweep_is_lost(words):
    check_words(as_hydra_wants_it(words), groups(ROOT / "conf"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+sed=3"], "sed=3: no such option; did you mean 'seed'?"),
        (
            ["+protocl.training.epochs=3"],
            "protocl.training.epochs=3: no such option; did you mean 'protocol'?",
        ),
        (["+downstream.rot=x"], "downstream.rot=x: no such option; did you mean 'root'?"),
        (["+backbone.input.crp=3"], "backbone.input.crp=3: no such option; did you mean 'crop'?"),
        (["~seed"], "seed: every launch needs it; leave ~seed out"),
        (["~dispatch"], "dispatch: every launch needs it; leave ~dispatch out"),
    ],
)
@pytest.mark.parametrize("mode", ["plan", "run"])
def test_a_key_that_does_not_exist_is_refused_at_the_top_too(mode, words, message, tmp_path):
    assert typed(*words, f"mode={mode}", f"outputs={tmp_path}").startswith(message)


def nodes(node, path=""):
    """Paths of all nodes below one, with a dot at their end."""
    yield path
    for name in node:
        inner = node._get_node(name)
        if isinstance(inner, DictConfig) and len(inner) and not inner._is_interpolation():
            yield from nodes(inner, f"{path}{name}.")


@pytest.mark.parametrize("words", [[], ["pretext=rspnet", "dispatch=slurm", "protocol=retrieval"]])
def test_no_node_takes_an_option_that_does_not_exist(words, tmp_path):
    cfg = composed(*words, "mode=plan", f"outputs={tmp_path}")
    for path in nodes(cfg):
        tried = copy.deepcopy(cfg)
        OmegaConf.update(tried, f"{path}bogus", 1, force_add=True)
        with pytest.raises(VsslError, match=rf"^{re.escape(path)}bogus=1: "):
            execute([(tried, [])])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a b"], "vssl: a b: an option is key=value; --help lists the groups"),
        (
            ["seed=0,1"],
            "vssl: seed=0,1: several values; add -m to run each, or write a list in brackets: [1,2]",
        ),
        (
            ["source.root=${nothing}/a"],
            "vssl: source.root: refers to nothing, which there is not; set it, or",
        ),
        (["source.root=a${b"], "vssl: source.root: ${ begins a reference to another option, ${a.b}; end it"),
        (["outputs=/proc/x"], "vssl: outputs=/proc/x: No such file or directory; give another place"),
        ([f"outputs=/{'x' * 300}"], f"vssl: outputs=/{'x' * 300}: File name too long; give another place"),
    ],
)
def test_one_line_and_nothing_else(words, message):
    done = launched(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
