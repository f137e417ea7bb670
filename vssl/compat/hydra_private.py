"""Private parts of Hydra and OmegaConf, each with what it is needed for. Needs no torch."""

import pickle
from collections.abc import Mapping, Sequence
from copy import copy
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, NoReturn

import omegaconf.base
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, flag_override

from vssl.errors import VsslError

_load, _interpolation_map = ConfigLoaderImpl.load_configuration, defaults_list._create_interpolation_map


def product(overrides: list[Override]) -> list[list[str]]:
    """The product of all swept values, each point as overrides; Hydra's basic sweeper alone can make it."""
    [points] = BasicSweeper.split_arguments(overrides, None)
    return points


class _ReadOnce(CachingConfigRepository):
    def __deepcopy__(self, memo: dict[int, Any]) -> "_ReadOnce":
        return self


def read_files_once(loader: Any) -> None:
    """Keep the files of a launch in memory. Hydra copies its repository for every composition, and so reads
    all files again: twice before the first stage."""
    if not isinstance(loader.repository, _ReadOnce):
        loader.repository = _ReadOnce(loader.repository)


def parse_once() -> None:
    """Keep parsed interpolations and overrides. OmegaConf parses each ${...} whenever it resolves it, and
    Hydra each override of each point: half the time of planning many points, which all have the same ones."""
    omegaconf.base.parse = lru_cache(maxsize=4096)(omegaconf.base.parse)  # type: ignore[attr-defined]
    rule = lru_cache(maxsize=4096)(partial(OverridesParser.parse_rule, OverridesParser.create()))
    OverridesParser.parse_rule = lambda _, *text: copy(rule(*text))  # type: ignore[method-assign]


def collect_choices_where_needed() -> None:
    """Make the map of all choices only for files whose defaults refer to one, and without those of the form
    ${defaults.1.group}, which Hydra 1.1 gave up. Hydra makes it for every file: a quarter of the time of a
    composition."""
    nothing = OmegaConf.create()

    def collect(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
        is_needed = any(one.is_interpolation() for one in defaults)
        return _interpolation_map(overrides, [], self_added) if is_needed else nothing

    defaults_list._create_interpolation_map = collect  # type: ignore[assignment]


def is_choice(override: Override, loader: Any) -> bool:
    """Whether an override chooses from a group, by Hydra's own rule."""
    return loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)


def compose_files(loader: Any, name: str, choices: Sequence[str]) -> DictConfig:
    """Compose a file with what its defaults list and these choices name, without Hydra's own files, which
    take half of the time. What the loader has composed before is copied."""
    known = vars(loader).setdefault("known", {})
    if (key := (name, *choices)) not in known:
        parsed, repository = loader._parse_overrides_and_create_caching_repo(name, list(choices))
        listed: Any = defaults_list.create_defaults_list(repository, name, parsed, True, False)
        files = [file for file in listed.defaults if not file.config_path.startswith("hydra/")]
        config = OmegaConf.create()
        # What is laid over the whole config stays apart: a null in it takes away what is there.
        groups = groupby(files, key=lambda file: file.package.partition(".")[0] or file.config_path)
        with flag_override(config, "no_deepcopy_set_nodes", True):
            config.merge_with(*(_compose_part(loader, list(group), repository) for _, group in groups))
        config.pop("hydra", None)
        OmegaConf.set_struct(config, True)
        known[key] = pickle.dumps(config)  # a third of the time of copy.deepcopy
        return config
    composed: DictConfig = pickle.loads(known[key])
    return composed


def _compose_part(loader: Any, files: list[Any], repository: Any) -> DictConfig:
    """Compose files of one node at the top."""
    if (key := str(files)) not in loader.known:
        loader.known[key] = pickle.dumps(loader._compose_config_from_defaults_list(files, repository))
    composed: DictConfig = pickle.loads(loader.known[key])
    return composed


def compose_with(replaced: Any) -> None:
    """Let each composition put the nodes of `replaced(loader, name, overrides)`, by path, where they belong:
    after the files, before the values of the command line. Hydra has no hook there."""

    def load(self: Any, config_name: str, overrides: list[str], *how: Any, **more: Any) -> DictConfig:
        read_files_once(self)
        parsed = OverridesParser.create().parse_overrides(overrides)
        nodes = replaced(self, config_name, parsed)
        inside = tuple(f"{path}." for path in nodes)
        late = [one for one in parsed if one.key_or_group.startswith(inside) and not one.is_sweep_override()]
        early = [str(one.input_line) for one in parsed if one not in late]
        config = _load(self, config_name, early, *how, **more)
        put(nodes, config)
        apply_values(late, config)
        config.hydra.overrides.task = [one.input_line for one in parsed if not one.is_hydra_override()]
        return config

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign, assignment]


def put(nodes: Mapping[str, DictConfig], config: DictConfig) -> None:
    """Put nodes in the place of those that stand at their paths."""
    for path, node in nodes.items():
        OmegaConf.update(config, path, node, merge=False)


def apply_values(overrides: list[Override], config: DictConfig) -> None:
    """Set the values of overrides in a composed config. To compose it anew takes a hundred times as long."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def refuse_flags(words: Sequence[str]) -> None:
    """Raise `VsslError` for flags that Hydra refuses, with its usage of two dozen lines."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parser.parse_args([word for word in words if word not in ("--version", "--shell-completion", "-sc")])


def _refuse(message: str) -> NoReturn:
    raise VsslError(f"{message}; --hydra-help lists the flags")
