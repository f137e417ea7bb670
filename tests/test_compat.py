"""The private parts of other libraries that vssl uses. Where one fails, an upgrade has taken it away."""

import importlib
import inspect
import re
import signal
import subprocess
import sys
from importlib.metadata import version

import omegaconf.base
import pytest
from hydra import initialize_config_dir
from hydra._internal import defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError
from torch.utils.data import DataLoader

from conftest import ROOT
from vssl.compat import hydra_private, torch_private

LINES = [line.partition(" ;")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()]
TRIED = dict(line.split("==") for line in LINES if "==" in line)

USED = [  # library, module, name in it, what vssl loses without
    ("torch", "torch._C", "_error_if_any_worker_fails", "the news that a loader process has died"),
    (
        "torch",
        "torch.utils.data.dataloader",
        "_MultiProcessingDataLoaderIter._shutdown_workers",
        "the start of loader processes, and their end after an error",
    ),
    *[
        ("torch", f"torch._dynamo.backends.{module}", name, "compiled gradients while backward computes")
        for module, name in (("distributed", "DDPOptimizer.compile_fn"), ("registry", "lookup_backend"))
    ],
    ("torch", "torch._dynamo.utils", "is_compile_supported", "fast planning with networks of torchvision"),
    (
        "hydra-core",
        "hydra._internal.config_loader_impl",
        "ConfigLoaderImpl._apply_overrides_to_config",
        "fast planning of sweeps",
    ),
    (
        "hydra-core",
        "hydra._internal.config_repository",
        "CachingConfigRepository",
        "fast planning of sweeps",
    ),
    *[
        ("hydra-core", "hydra._internal.config_loader_impl", name, "fast sweeps and parts chosen by hand")
        for name in (
            "ConfigLoaderImpl.load_configuration",
            "ConfigLoaderImpl._parse_overrides_and_create_caching_repo",
            "ConfigLoaderImpl._compose_config_from_defaults_list",
        )
    ],
    *[
        ("hydra-core", "hydra._internal.defaults_list", name, "fast planning of sweeps")
        for name in ("create_defaults_list", "_create_interpolation_map")
    ],
    ("hydra-core", "hydra._internal.core_plugins.basic_sweeper", "BasicSweeper.split_arguments", "sweeps"),
    ("omegaconf", "omegaconf.base", "parse", "fast planning of sweeps"),
]


def gone(library, what, loss):
    pytest.fail(
        f"{library} {version(library)} has no {what} any more: vssl loses {loss}. Tried: {TRIED[library]}. "
        "Mend vssl/compat, or lower the bound in pyproject.toml"
    )


@pytest.mark.parametrize(("library", "module", "name", "loss"), USED, ids=[name for _, _, name, _ in USED])
def test_it_is_there(library, module, name, loss):
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        gone(library, f"{module}.{name}", loss)


def test_a_name_that_is_gone_is_said_with_the_version_that_was_tried():
    message = r"torch 2\.\d+.* has no torch\._C\.gone any more.* Tried: 2\.15\.0"
    with pytest.raises(pytest.fail.Exception, match=message):
        test_it_is_there("torch", "torch._C", "gone", "something")


@pytest.mark.parametrize("library", ["torch", "torchvision", "hydra-core", "omegaconf"])
def test_no_version_is_allowed_above_the_one_that_was_tried(library):
    major, minor, _ = TRIED[library].split(".")
    allowed = re.search(rf'"{library}>=[\d.]+,<([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert allowed[1] == f"{major}.{int(minor) + 1}"


def test_the_death_of_a_process_is_told_again_though_torch_tells_it_once(monkeypatch):
    deaths = iter([RuntimeError("killed")])

    def once():
        for death in deaths:
            raise death

    monkeypatch.setattr(torch_private, "_error_if_any_worker_fails", once)
    monkeypatch.setattr(torch_private, "_shut_down", lambda batches: None)
    with torch_private.watched(lambda: iter(())) as (_, raise_deaths):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="killed"):
                raise_deaths()


def test_workers_of_a_loader_are_found_and_end():
    before = signal.getsignal(signal.SIGCHLD)
    try:
        loader = DataLoader(range(4), num_workers=2)
        with torch_private.watched(lambda: iter(loader)) as (batches, raise_deaths):
            next(batches)
            raise_deaths()
            workers = getattr(batches, "_workers", None) or gone(
                "torch", "_workers of a DataLoader's iterator", "it"
            )
            assert [worker.is_alive() for worker in workers] == [True, True]
        assert not any(worker.is_alive() for worker in workers)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_torchvision_is_imported_without_the_compiler_and_finds_it_later():
    code = (
        "import sys, torch; from vssl.compat.torch_private import without_compiler\n"
        "with without_compiler():\n    from torchvision.models import video\n"
        "assert 'torch._dynamo' not in sys.modules and video.r3d_18\n"
        "supported = sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu')\n"
        "print(supported, bool(torch._dynamo.config))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.stdout != "True True\n":
        gone("torchvision", "import without the compiler", f"fast planning ({done.stderr.strip()[-200:]})")


def test_values_are_set_as_hydra_sets_them():
    assert list(inspect.signature(hydra_private.ConfigLoaderImpl._apply_overrides_to_config).parameters) == [
        "overrides",
        "cfg",
    ]
    config = OmegaConf.create({"a": {"b": 1}, "c": [1]})
    hydra_private.apply_values(
        OverridesParser.create().parse_overrides(["a.b=2", "+a.d={e: 3}", "~c"]), config
    )
    assert config == {"a": {"b": 2, "d": {"e": 3}}}


@pytest.mark.parametrize(
    "choices",
    [
        [],
        ["pretext=rspnet", "protocol=finetune_rspnet", "backbone=resnet3d_18", "downstream=hmdb51"],
        ["experiment=[as_paper,quick]", "pretext=vcop", "auxiliary=auxskd"],
        ["+augmentation@auxiliary.augmentation=crop", "experiment=as_paper", "protocol=knn"],
        ["schedule@protocol.training.schedule=cosine", "dispatch=slurm", "tracking=jsonl"],
    ],
)
def test_files_are_composed_as_hydra_composes_them(choices, monkeypatch):
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", hydra_private._interpolation_map)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        hydras = hydra_private._load(loader, "config", choices, RunMode.RUN)
        with open_dict(hydras):
            del hydras["hydra"]
        hydra_private.read_files_once(loader)
        hydra_private.collect_choices_where_needed()
        for _ in range(2):  # the second time from the parts of the first
            composed = hydra_private.compose_files(loader, "config", choices)
            assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(hydras)
            composed.seed, composed.pretext.training.epochs = 7, 1000
    with pytest.raises(ConfigAttributeError):
        composed.no_such_option = 1


def test_interpolations_are_parsed_once(monkeypatch):
    parsed, parse = [], omegaconf.base.parse
    monkeypatch.setattr(omegaconf.base, "parse", lambda *args: parsed.append(args) or parse(*args))
    hydra_private.parse_once()
    config = OmegaConf.create({"a": 1, "compat": "${a}"})
    assert [config.compat for _ in range(3)] == [1, 1, 1]
    if len(parsed) != 1:
        gone("omegaconf", "use of omegaconf.base.parse", "fast planning of sweeps")


def test_composing_needs_no_torch():
    """As `vssl.compat.hydra_private` is imported by every launch."""
    code = "import sys, vssl.compat.hydra_private; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
