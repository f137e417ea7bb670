"""Private parts of Hydra and OmegaConf, each with what it is needed for. Needs no torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import omegaconf.base
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig


def product(overrides: list[Override]) -> list[list[str]]:
    """The product of all swept values, each point as overrides; Hydra's basic sweeper alone can make it."""
    [points] = BasicSweeper.split_arguments(overrides, None)
    return points


class _ReadOnce(CachingConfigRepository):
    def __deepcopy__(self, memo: dict[int, Any]) -> _ReadOnce:
        return self


def read_files_once(loader: Any) -> None:
    """Keep the files of a launch in memory. Hydra copies its repository for every composition, and so reads
    all files again."""
    loader.repository = _ReadOnce(loader.repository)


def parse_once() -> None:
    """Keep parsed interpolations, which OmegaConf only reads. It parses each ${...} whenever it resolves it:
    half the time of planning many points, which all have the same ones."""
    omegaconf.base.parse = lru_cache(maxsize=4096)(omegaconf.base.parse)  # type: ignore[attr-defined]


def is_choice(override: Override, loader: Any) -> bool:
    """Whether an override chooses from a group, by Hydra's own rule."""
    return loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)


def apply_values(overrides: list[Override], config: DictConfig) -> None:
    """Set the values of overrides in a composed config. To compose it anew takes a hundred times as long."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)
