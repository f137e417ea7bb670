"""Hydra plugins that see all points of a multirun at once.

The sweeper multiplies the rows of a sweep file with what the command line sweeps over; the launcher hands
all points to vssl as one forest, in which no stage stands twice. Hydra looks for plugins here by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
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

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Compose every point, then run the mode on all of them at once."""
        from vssl.commands import execute

        configs = [self._compose(list(overrides)) for overrides in job_overrides]
        execute(list(zip(configs, map(list, job_overrides), strict=True)))
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]

    def _compose(self, overrides: list[str]) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            del config["hydra"]
        return config


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
