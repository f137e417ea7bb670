"""Every config group: complete, without defaults in code, and with errors that help."""

import inspect
import subprocess
import sys
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.utils import get_class
from omegaconf import OmegaConf

from conftest import ROOT, composed, environment, planted_index
from hydra_plugins.vssl_rules import chosen_by_hand
from vssl.compat.hydra_private import compose_files, put, read_files_once
from vssl.data.index import assumed, index_path, write
from vssl.errors import OptionError
from vssl.pipeline import monitored, plain, plan
from vssl.stage.build import build
from vssl.stage.construct import Machine, Stage

GROUPS = [
    "backbone",
    "pretext",
    "auxiliary",
    "source",
    "downstream",
    "protocol",
    "features",
    "tracking",
    "runtime",
    "dispatch",
]
CHOICES = [
    f"{group}={path.stem}" for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]


def targets(node):
    """All nodes with a _target_."""
    if isinstance(node, dict):
        if node.get("_target_"):
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_yaml_lists_every_argument_and_every_value_has_its_type(choice, tmp_path):
    cfg = composed(choice, f"outputs={Path('outputs').absolute()}", *planted(choice, tmp_path))
    for spec in plan(cfg):
        Stage(spec).check(Machine())
        for node in targets(spec.recipe.to_plain()):
            assert_no_defaults(get_class(node["_target_"]))
    cfg.monitor.every_epochs = 1
    nodes = {group: plain(cfg[group]) for group in ("tracking", "dispatch", "runtime")}
    nodes["monitor"] = monitored(cfg)
    for group, node in nodes.items():
        build(node, group)
        assert_no_defaults(get_class(node["_target_"]))


@pytest.mark.parametrize("node", ["pretext.training", "auxiliary.training", "protocol.training"])
@pytest.mark.parametrize(
    "choice", [f"optimizer={path.stem}" for path in sorted((ROOT / "conf" / "optimizer").glob("*.yaml"))]
)
def test_every_training_takes_every_optimizer(node, choice):
    group, _, name = choice.partition("=")
    cfg = composed(
        f"{group}@{node}.{group}={name}", f"{node}.{group}.lr=0.125", f"{node}.{group}.clip_norm=40"
    )
    built = [build(spec.recipe.training, node) for spec in plan(cfg) if spec.recipe.training]
    [chosen] = [training.optimizer for training in built if training.optimizer.lr == 0.125]
    assert (type(chosen).__name__.lower(), chosen.clip_norm) == (name, 40)
    assert_no_defaults(type(chosen))


@pytest.mark.parametrize("name", ["step_decay", "multi_step", "cosine"])
def test_a_training_takes_every_schedule_and_a_warm_up(name):
    override = f"schedule@pretext.training.schedule={name}"
    cfg = composed("backbone=r3d_18", override, "pretext.training.schedule.warmup_epochs=2.5")
    [pretext] = [spec for spec in plan(cfg) if spec.name == "pretext"]
    schedule = build(pretext.recipe.training, "pretext.training").schedule
    assert schedule.warmup_epochs == 2.5
    assert_no_defaults(type(schedule))


PARTS = {
    group: {path.stem: OmegaConf.load(path) for path in sorted((ROOT / "conf" / group).glob("*.yaml"))}
    for group in ("optimizer", "schedule")
}
TRAININGS = ["auxiliary.training", "pretext.training", "protocol.training"]
PRETEXTS = ["vspp", "vcop", "videopace", "rspnet", "speednet", "shuffle_learn", "opn", "none"]
PROTOCOLS = ["finetune", "finetune_vcop", "finetune_rspnet", "linear"]


@pytest.mark.parametrize(
    ("experiment", "others"),
    [
        *product(["standard", "as_paper"], ["backbone=tiny", "backbone=resnet3d_18 downstream=hmdb51"]),
        ("as_released", "backbone=resnet3d_18 downstream=hmdb51"),
        ("quick", "backbone=tiny"),
        ("[as_paper,quick]", "backbone=resnet3d_18 downstream=hmdb51"),
    ],
)
def test_every_recipe_takes_every_optimizer_and_schedule_by_hand(experiment, others):
    """With the values of their own files where they are of another class than the recipe's, else with its.

    All pretexts with each optimiser and each schedule; all pairs of these in turn.
    """
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        read_files_once(loader)
        for number, pretext in enumerate(PRETEXTS):
            protocol = PROTOCOLS[number % len(PROTOCOLS)]
            words = [f"pretext={pretext}", f"protocol={protocol}", *others.split()]
            words += [f"experiment={experiment}"] if experiment != "standard" else []
            recipe = compose_files(loader, "config", words)
            for turn, optimizer in enumerate(PARTS["optimizer"]):
                schedule = list(PARTS["schedule"])[(turn + number) % len(PARTS["schedule"])]
                check_chosen(loader, words, recipe, {"optimizer": optimizer, "schedule": schedule})


def check_chosen(loader, words, recipe, chosen):
    by_hand = [f"{group}@{node}.{group}={name}" for group, name in chosen.items() for node in TRAININGS]
    cfg = compose_files(loader, "config", [*words, *by_hand])
    put(chosen_by_hand(loader, "config", OverridesParser.create().parse_overrides([*words, *by_hand])), cfg)
    for node in TRAININGS:
        training, stated = OmegaConf.select(cfg, node), OmegaConf.select(recipe, node)
        for group, name in chosen.items():
            file = PARTS[group][name]
            wanted = stated[group] if stated[group]._target_ == file._target_ else file
            assert training[group] == wanted, f"{node}.{group}={name}"
        build(plain(training), node)


def test_what_is_typed_stays_with_a_part_chosen_by_hand():
    by_hand = "schedule@pretext.training.schedule=cosine"
    cfg = composed(by_hand, "pretext=rspnet", "pretext.training.schedule.final_factor=0.5", "seed=3")
    assert cfg.pretext.training.schedule.final_factor == 0.5
    assert (cfg.seed, cfg.pretext.training.epochs) == (3, 12)  # the rest is as the toy has it
    typed = "pretext.training.schedule.every_epochs=5"
    with pytest.raises(ConfigCompositionException, match="every_epochs"):
        composed(by_hand, typed)
    with pytest.raises(MissingConfigException):
        composed("schedule@pretext.training.schedule=cosines")


def test_a_part_that_is_chosen_by_hand_is_shown_and_run_alike_in_a_sweep(tmp_path):
    by_hand = "schedule@pretext.training.schedule"
    words = [f"outputs={tmp_path}", "mode=plan", f"{by_hand}=cosine,multi_step", "auxiliary=none"]
    done = launched("-m", *words, "optimizer@protocol.training.optimizer=adamw")
    for name in ("cosine", "multi_step"):
        single = composed(
            f"{by_hand}={name}", "auxiliary=none", "optimizer@protocol.training.optimizer=adamw"
        )
        assert all(spec.key in done for spec in plan(single))
    shown = launched("--cfg", "job", "--package", "pretext.training.schedule", f"{by_hand}=cosine")
    assert OmegaConf.create(shown) == PARTS["schedule"]["cosine"]


def launched(*words):
    return subprocess.run(
        [sys.executable, "launch.py", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def planted(choice, folder):
    """Overrides for a real data set, whose index is written here instead of by a check."""
    group, _, name = choice.partition("=")
    if group not in ("source", "downstream") or name in ("synthetic", "upright", "fading"):
        return []
    overrides = [f"{group}.root={folder}", f"outputs={folder}"]
    cfg = composed(choice, *overrides)
    node = cfg.source if group == "source" else cfg.downstream.train
    index = planted_index(80)
    index.subsets[:, 40:] = 2
    write(index, index_path(OmegaConf.to_container(node, resolve=True)))
    return overrides


MINE = {
    "source": "defaults: [folder, _self_]\nname: mine\nlayout: hmdb51\n",
    "downstream": "defaults: [folder, _self_, override /source@train: mine, override /source@test: mine]\n",
}


def test_two_files_make_a_data_set(tmp_path):
    for group, text in MINE.items():
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    found = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    cfg = composed(found, "source=mine", "source.root=/a", "downstream=mine", "downstream.root=/b")
    assert (cfg.source.name, cfg.source.root, cfg.source.layout) == ("mine", "/a", "hmdb51")
    for part in ("train", "test"):
        node = cfg.downstream[part]
        assert (node.name, node.root, node.layout, node.subset) == ("mine", "/b", "hmdb51", part)


WRONG = {
    "decoder=nonsense": "decoder=nonsense: no such decoder; valid: decord, from_start, pyav, torchcodec",
    "source.layout=foldr": "layout=foldr: no such layout; did you mean 'folder'",
    "source.split=0": "split=0: too small; choose 1 or more",
    "source.split=one": "split=one: not a whole number; give a whole number",
    "source.validation=1": "validation=1: not a share below 1; choose",
    "source.validation=a": "validation=a: not a number; give a number",
    "source.subset=both": "subset=both: no such value; valid: test, train, val",
    "source.subset=val": "subset=val: is the share that validation=0.1, say, holds out .*; give",
    "source.group='('": "group=\\(: not a regular expression .*; give",
    "source.group=g": "group=g: names no group; give",
}


@pytest.mark.parametrize("override", WRONG)
def test_values_of_a_real_source_that_mean_nothing_are_refused(override, tmp_path):
    cfg = composed("source=ucf101", f"source.root={tmp_path}", override)
    with pytest.raises(OptionError, match=f"^{WRONG[override]}"):
        assumed(plain(cfg.source))


def test_a_nonsensical_decoder_of_synthetic_videos_is_refused():
    node = plain(composed("decoder=nonsense").source)
    del node["repeat"]
    with pytest.raises(OptionError, match=r"^source\.decoder=nonsense: no such decoder"):
        build(node, "source")


LIMITS = {
    "check.max_bad=2": "check.max_bad=2: not a share; choose",
    "check.min_frames=0": "check.min_frames=0: too small; choose 1 or more",
    "check.timeout_s=0": "check.timeout_s=0: too small; choose a number above 0",
    "check.timeout_s=long": "check.timeout_s=long: not a number; give a number",
    "prepare.timeout_s=0": "prepare.timeout_s=0: too small; choose a number above 0",
    "prepare.crf=60": "prepare.crf=60: out of range; choose a number from 0 to 51",
    "prepare.gop=0": "prepare.gop=0: too small; choose 1 or more",
    "prepare.size=[0,1]": "prepare.size=\\[0,1\\]: no size; give",
    "prepare.size=[128]": "prepare.size=\\[128\\]: no size; give",
    "prepare.size=-1": "prepare.size=-1: no size; give",
}


@pytest.mark.parametrize("override", LIMITS)
def test_options_of_check_and_prepare_have_a_range(override, tmp_path):
    (tmp_path / "in").mkdir()
    folders = [f"source.root={tmp_path / 'in'}", f"prepare.out={tmp_path / 'out'}"]
    cfg = composed("source=folder", *folders, override)
    with pytest.raises(OptionError, match=f"^{LIMITS[override]}"):
        import_module(f"vssl.commands.{override.partition('.')[0]}").execute(cfg)


def assert_no_defaults(cls):
    parameters = inspect.signature(cls).parameters.values()
    defaults = [p.name for p in parameters if p.default is not inspect.Parameter.empty]
    assert not defaults, f"{cls.__name__} has defaults in code for {defaults}; they belong into its yaml"


@pytest.mark.parametrize("name", ["as_paper", "as_released", "quick"])
@pytest.mark.parametrize("pretext", ["vcop", "none"])
def test_profiles_compose_with_every_choice(name, pretext):
    assert plan(composed(f"experiment={name}", f"pretext={pretext}", "auxiliary=none"))


def test_the_quick_experiment_brings_any_pipeline_down_to_the_toy():
    cfg = composed("experiment=quick", "pretext=vcop")
    assert cfg.backbone._target_.endswith("Tiny")
    assert cfg.pretext.training.epochs < 100
