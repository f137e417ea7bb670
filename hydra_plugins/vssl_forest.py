"""Hydra plugins that see all points of a multirun at once.

The sweeper multiplies the rows of a sweep file with what the command line sweeps over; the launcher hands
all points to vssl as one forest, in which no stage stands twice. Hydra looks for plugins here by name.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class ForestSweeper(BasicSweeper):
    """Hydra's basic sweeper, plus rows (`sweep.rows` of a sweep file), and it writes no file."""

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the product of all rows and all swept values as one batch."""
        assert self.hydra_context is not None
        assert self.launcher is not None
        assert self.config is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        [points] = self.split_arguments(overrides, None)
        rows = OmegaConf.select(self.config, "sweep.rows", default=[{}])
        batch = [[*point, *_row_overrides(row)] for row in rows for point in points]
        return [self.launcher.launch(batch, initial_job_idx=0)]


class ForestLauncher(Launcher):
    """Runs all points of a multirun as one forest of stages."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the points."""
        self.context, self.config = hydra_context, config
        self.chosen: dict[tuple[str, ...], DictConfig] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Compose every point, then run the mode on all of them at once."""
        from vssl.commands import execute

        configs = [self._compose(list(overrides)) for overrides in job_overrides]
        execute(list(zip(configs, map(list, job_overrides), strict=True)))
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]

    def _compose(self, overrides: list[str]) -> DictConfig:
        """The config of one point. Composing takes Hydra a tenth of a second, setting values next to nothing:
        points with the same choices of groups are composed once."""
        loader = self.context.config_loader
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        is_choice = [_is_choice(override, loader.repository) for override in parsed]  # type: ignore[attr-defined]
        choices = tuple(line for line, choice in zip(overrides, is_choice, strict=True) if choice)
        if choices not in self.chosen:
            self.chosen[choices] = loader.load_sweep_config(self.config, list(choices))
            with open_dict(self.chosen[choices]) as config:
                del config["hydra"]
        config = copy.deepcopy(self.chosen[choices])
        values = [override for override, choice in zip(parsed, is_choice, strict=True) if not choice]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config


def _is_choice(override: Override, repository: IConfigRepository) -> bool:
    """Whether an override chooses from a group, by Hydra's own rule."""
    return repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)


def _row_overrides(row: DictConfig | dict[str, Any]) -> list[str]:
    """A row is a label and overrides: {label: VSPP, overrides: [auxiliary=none]}."""
    if not row:
        return []
    return [f"label='{row['label']}'", *row["overrides"]]


for group, node in {
    "hydra/sweeper": {
        "_target_": "hydra_plugins.vssl_forest.ForestSweeper",
        "max_batch_size": None,
        "params": None,
    },
    "hydra/launcher": {"_target_": "hydra_plugins.vssl_forest.ForestLauncher"},
}.items():
    ConfigStore.instance().store(group=group, name="forest", node=node, provider="vssl")
