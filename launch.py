"""Compose a config, plan its stages, run them: `python launch.py [mode=plan] [group=choice] [key=value]`."""

from __future__ import annotations

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vssl import cli
from vssl.commands import execute


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Run one point; with -m the forest launcher takes all points at once instead."""
    execute([(cfg, list(HydraConfig.get().overrides.task))])


if __name__ == "__main__":
    cli.run(main)
