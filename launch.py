"""Compose a config, plan its stages, run them: `python launch.py [mode=plan] [group=choice] [key=value]`."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vssl import cli
from vssl.commands import execute


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Run one point. With -m the forest launcher takes all points at once and this is not called."""
    job = HydraConfig.get()
    words: Any = OmegaConf.to_container(job.overrides.task, resolve=False)  # as typed, ${...} and all
    point = (cfg, words)
    if job.mode is RunMode.MULTIRUN:  # another launcher was chosen; it records the error and goes on
        execute([point])
        return
    with cli.one_line_errors():
        execute([point])


if __name__ == "__main__":
    cli.run(main, Path(__file__).parent / "conf")
