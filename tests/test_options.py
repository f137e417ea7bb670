"""Every option of every choice: a value that cannot be is one line that names it as it is typed."""

import gc
import pickle
import re
from fnmatch import fnmatch
from functools import cache

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from conftest import ROOT, composed, planted_index
from vssl.cli import explain
from vssl.commands import execute
from vssl.commands.plan import plan
from vssl.compat.hydra_private import apply_values, parse_once
from vssl.data.index import index_path, write
from vssl.errors import VsslError
from vssl.options import check_options
from vssl.pipeline import Point, absolute_outputs, plain
from vssl.preflight import preflight
from vssl.stage.store import StageStore

ANY_TEXT = {
    "convert.folder": "a folder that need not exist",
    "outputs": "a folder that need not exist",
    "*.root": "a folder; a data set that is not there is planned as published",
    "*.index": "a folder that need not exist",
    "*.name": "what people call a data set",
    "*.download.licence": "what is said before a download",
    "*.download.stated": "what is said before a download",
    "*.download.files.*.into": "a folder that need not exist",
    "protocol.stage": "what people call the stage",
    "tracking.experiment": "what people call the experiment",
}
"""Options that take any text, and why. What is null by default is not tried with text."""

NO_TASK = [
    *("pretext.*_weight", "pretext.mask_*"),
    *(
        "auxiliary.pr*",
        "auxiliary.queue_*",
        "auxiliary.momentum",
        "auxiliary.*_temperature",
        "auxiliary.shuffle_bn",
    ),
]
"""Options that take anything with the choice `none`: there is no task that would take them."""

NOT_LOOKED_AT = {
    "only": "words of labels, which may be numbers, or a list of them",
    "auxiliary.teacher.input.*": "it sees the clips of the student, whatever its yaml says",
}
"""Options that mean nothing where they stand, and why."""

ANY_NUMBERS = {
    "*.mean": "a mean may lie anywhere",
}
"""Lists of numbers without a range, and why."""

ALONE = ["auxiliary=none", "pretext=none"]
GROUPS = {
    "auxiliary": [],
    "pretext": ["auxiliary=none"],
    "source": ["auxiliary=none"],
    "downstream": ALONE,
    "protocol": ALONE,
    "features": ALONE,
    "backbone": ALONE,
    "dispatch": ALONE,
    "tracking": ALONE,
    "runtime": ALONE,
}
"""The groups of the config, and what else is chosen for their options to be looked at alone."""
INSIDE = {
    "optimizer": "pretext.training.optimizer",
    "schedule": "pretext.training.schedule",
    "training": "pretext.training",
    "augmentation": "pretext.augmentation",
}
"""Groups whose choices other files put into their own nodes, and a place of each."""


def choices(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


WALKS = {
    "top": (ALONE, None),
    "monitor": (ALONE, "monitor"),
    "features of retrieval": (["protocol=retrieval", *ALONE], "features"),
    "experiment=quick": (["experiment=quick", "backbone=c3d", *ALONE], "quick"),
    **{
        f"{group}={name}": ([f"{group}={name}", *others], group)
        for group, others in GROUPS.items()
        for name in choices(group)
    },
    **{
        f"{group}@{place}={name}": ([f"{group}@{place}={name}", "backbone=r3d_10", "auxiliary=none"], place)
        for group, place in INSIDE.items()
        for name in choices(group)
    },
    **{
        f"experiment={name}, {pretext}": ([f"experiment={name}", f"pretext={pretext}", "backbone=r3d_10"], "")
        for name in ("as_paper", "as_released")
        for pretext in ("vspp", "rspnet")
    },
}
"""What is chosen, and the node whose options are tried: None for those of no group, "" for those that differ
from the standard experiment."""


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """What a walk looks at: its config, frozen, and the options in it, each with its value."""
    folder = tmp_path_factory.mktemp("outputs")
    parse_once()  # as in a sweep
    gc.freeze()  # all of this stays, and need not be looked through for garbage again and again

    @cache
    def made(walk):
        overrides, node = WALKS[walk]
        cfg = composed(*overrides, *planted(overrides[0], folder), f"outputs={folder}")
        return pickle.dumps(cfg), list(leaves(cfg, overrides, node))

    yield made
    gc.unfreeze()  # or a library that is frozen prints pages about leaks at the end


@pytest.mark.parametrize("walk", WALKS)
def test_a_value_that_cannot_be_is_one_line_that_names_the_option(walk, walked):
    frozen, options = walked(walk)
    tried = [(path, value) for path, now in options for value in wrong(path, now, WALKS[walk][0])]
    said = [(path, value, outcome(frozen, path, value)) for path, value in tried]
    wrongly = [f"{path}={value} -> {line}" for path, value, line in said if not is_right(line, path, frozen)]
    assert not wrongly, "\n".join(wrongly)
    assert tried


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretext.training.optimizer.lr=nan", ": not a number; give a number"),
        ("auxiliary.training.optimizer.lr=inf", ": not a number; give a number"),
        ("pretext.training.epochs=9223372036854775808", ": too large; choose a whole number below 2**63"),
        ("seed=9223372036854775808", ": too large; choose a whole number below 2**63"),
        ("init.weights=''", ": empty; give text or null"),
        ("tracking.experiment=''", ": empty; give text"),
        ("label=''", ": empty; give text or a number or null"),
    ],
)
def test_what_no_option_can_be(words, said, tmp_path):
    """What is not finite, what 64 bits do not hold, what a variable of the shell leaves that is not set."""
    option, _, value = words.partition("=")
    with pytest.raises(VsslError) as caught:
        execute([(composed(words, f"outputs={tmp_path}", "mode=plan"), [])])
    assert str(caught.value) == f"{option}={value.strip(chr(39))}{said}"


@pytest.mark.parametrize("walk", WALKS)
def test_an_option_that_does_not_exist_is_told_one_that_does(walk, walked):
    frozen, options = walked(walk)
    cfg = pickle.loads(frozen)
    for path, _ in options:
        name = path.rpartition(".")[2]
        override = OverridesParser.create().parse_overrides([f"{path}x=1"])
        with pytest.raises(HydraException) as refused:
            apply_values(override, cfg)
        assert explain(refused.value) == f"{path}x: no such option; did you mean {name!r}?"


def planted(choice, folder):
    """Overrides for a real data set, whose index is written here instead of by a check."""
    group, _, name = choice.partition("=")
    if group not in ("source", "downstream") or name in ("synthetic", "upright", "fading"):
        return []
    root = [f"{group}.root={folder}"]
    cfg = composed(choice, *root, f"outputs={folder}")
    index = planted_index(80)
    index.subsets[:, 40:] = 2
    write(index, index_path(plain(cfg.source if group == "source" else cfg.downstream.train)))
    return root


def leaves(cfg, overrides, node):
    """The options to be tried, each with its value."""
    if node:
        return below(OmegaConf.select(cfg, node), f"{node}.")
    if node is None:
        return [leaf for leaf in below(cfg) if leaf[0].partition(".")[0] not in GROUPS]
    standard = composed(*overrides[1:])
    return [(path, now) for path, now in below(cfg) if written(cfg, path) != written(standard, path)]


def below(node, prefix=""):
    """Options below a node; what refers to another one is one, whatever it refers to."""
    for name in node:
        inner = node._get_node(name)
        if isinstance(inner, DictConfig) and len(inner) and not inner._is_interpolation():
            yield from below(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", node[name]


def written(cfg, path):
    """An option as it stands in the config, references unresolved; None if there is none."""
    node, _, name = path.rpartition(".")
    above = OmegaConf.select(cfg, node) if node else cfg
    return OmegaConf.to_container(above).get(name) if isinstance(above, DictConfig) else None


def wrong(path, now, overrides):
    """Values that the option cannot have, by the value that it has."""
    if path.endswith("_target_"):
        return ["no.such.Class"]
    no_task = {f"{path.partition('.')[0]}=none", "auxiliary=longer_pretext"} & set(overrides)
    if (no_task and any_of(path, NO_TASK)) or any_of(path, NOT_LOOKED_AT):
        return []
    if isinstance(now, str):
        return [[1]] if any_of(path, ANY_TEXT) else [[1], "nonsense"]
    if isinstance(now, (int, float)) and not isinstance(now, bool):
        return ["abc", -1 if isinstance(now, int) else -1.0]
    if isinstance(now, ListConfig) and len(now) and not isinstance(now[0], str):
        return ["abc", [*now[1:], "abc"], *([] if any_of(path, ANY_NUMBERS) else [[-1] * len(now)])]
    return [[1]] if now is None else ["abc"]


def any_of(path, patterns):
    return any(fnmatch(path, pattern) for pattern in patterns)


def outcome(frozen, path, value):
    """What mode=plan says to a value."""
    cfg = pickle.loads(frozen)
    OmegaConf.update(cfg, path, value, force_add=True)
    try:
        if path == "mode":
            execute([(cfg, [])])
        check_options(cfg)
        outputs = absolute_outputs(cfg)
        preflight([Point("", cfg.seed, plan(cfg), "", cfg)], cfg, StageStore(outputs))
    except VsslError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def is_right(said, path, frozen):
    """Whether it is one line with the option and a remedy, and what it proposes is not refused in turn."""
    form = re.fullmatch(rf"{re.escape(path)}(=.*)?: .+; (.+)", said)
    if not form or "no such option" in said:
        return False
    proposed = re.fullmatch(r"did you mean '(.+)'\?|valid: ([^,]+).*", form[2])
    if not proposed:
        return True
    again = outcome(frozen, path, yaml.safe_load(proposed[1] or proposed[2]))
    return "no such" not in again
