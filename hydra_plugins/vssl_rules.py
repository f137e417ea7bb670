"""Recipes: experiment files that say with `rules` which values hold with which choices.

    rules:
      - when: {pretext: vspp, backbone: [r3d_10, r2plus1d_10], auxiliary: not none}   # choices of groups
        set: {pretext: {training: {epochs: 20}}}                                      # values that hold then

A node with a `_target_` takes the place of the one that is there. Rules are laid over the config in their
order, and the command line's values over them. Hydra asks this config source before it opens such a file
itself, and so composes and prints the values as any others.

The values of a recipe are for the classes that it has. Where the command line chooses another class for a
part (`schedule@pretext.training.schedule=cosine`), the part has the values of its own file.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from vssl.compat.hydra_private import (
    collect_choices_where_needed,
    compose_files,
    compose_with,
    is_choice,
    parse_once,
)
from vssl.errors import VsslError

GROUPS = ("backbone", "auxiliary", "pretext", "protocol", "downstream")
"""What a rule may ask for, in the order in which a path of this source names the choices."""

OmegaConf.register_new_resolver("with", OmegaConf.merge, replace=True)
# ${with:${pretext.sampler},{wrap_lookahead:3}} is the same node with another value

OmegaConf.register_new_resolver(
    "times", lambda value, factors: [float(f"{value * factor:.6g}") for factor in factors], replace=True
)
# ${times:${training.optimizer.lr},[0.1,1,10]} is a list of multiples


class RulesSource(ConfigSource):
    """Serves `experiment/NAME` for files with rules: a choice of `recipe/NAME`, which is empty; and, to be
    laid over all else, `rules/NAME/CHOICES`, the values that hold with these choices."""

    @staticmethod
    def scheme() -> str:
        return "rules"

    def load_config(self, config_path: str) -> ConfigResult:
        folder, _, name = config_path.removesuffix(".yaml").partition("/")
        config = OmegaConf.create()
        if folder in ("rules", "cleared"):
            experiment, *choices = name.split("/")
            config = applying(self._rules(experiment), dict(zip(GROUPS, choices, strict=True)))
            if folder == "cleared":
                config = cleared(config) or OmegaConf.create()
            elif cleared(config) is not None:
                config.defaults = [{"/cleared@_global_": name}, "_self_"]
        elif folder == "experiment":
            config = OmegaConf.create({"defaults": [{"override /recipe": name}]})
        return ConfigResult(self.provider, self.full_path(), config, header={"package": "_global_"})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in ("recipe", "rules", "cleared")

    def is_config(self, config_path: str) -> bool:
        folder, _, name = config_path.removesuffix(".yaml").partition("/")
        return folder in ("rules", "cleared") or (
            folder in ("experiment", "recipe") and bool(self._rules(name))
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []

    def _rules(self, name: str) -> Iterable[DictConfig]:
        return rules_of(Path(self.path, "experiment", f"{name}.yaml"))


@lru_cache
def rules_of(path: Path) -> Iterable[DictConfig]:
    """The rules of a file, if it is there and has any."""
    content: Any = OmegaConf.load(path) if path.is_file() else {}
    rules: Iterable[DictConfig] = content.get("rules") or []
    return rules


def applying(rules: Iterable[DictConfig], choices: dict[str, str]) -> DictConfig:
    """One config of all rules that hold for these choices."""
    config = OmegaConf.create()
    for rule in rules:
        if unknown := set(rule) - {"when", "set"} | set(rule.get("when", {})) - set(GROUPS):
            raise VsslError(
                f"experiment: a rule knows no {min(unknown)!r}; it has set, and when ({', '.join(GROUPS)})"
            )
        if all(_holds(choices[group], wanted) for group, wanted in rule.get("when", {}).items()):
            config.merge_with(rule.set)
    return config


def cleared(config: DictConfig) -> DictConfig | None:
    """The nodes that are to be replaced, as null, ahead of what takes their place; None if there are none."""
    if "_target_" in config:
        return None
    written = config.items_ex(resolve=False)  # what a value refers to, these rules need not hold
    inner = {name: one for name, one in written if isinstance(one, DictConfig)}
    found = {name: cleared(one) for name, one in inner.items() if "_target_" in one or cleared(one)}
    return OmegaConf.create(found) if found else None


def _holds(choice: str, wanted: Any) -> bool:
    """Whether a choice is the one wanted, one of those, or, after "not ", another one."""
    if isinstance(wanted, str):
        return choice != wanted.removeprefix("not ") if wanted.startswith("not ") else choice == wanted
    return choice in wanted


def chosen_by_hand(loader: Any, name: str, overrides: Iterable[Override]) -> dict[str, DictConfig]:
    """The nodes, by path, that overrides choose where the recipe has another class: each with the values of
    its own file alone."""
    lines, parts = [], {}
    for one in overrides:
        if is_choice(one, loader):
            file = f"{one.key_or_group}/{one.value()}"
            if one.package and loader.repository.config_exists(file):
                parts[one.package] = (one.key_or_group.replace("/", "."), file)
            else:
                lines.append(str(one.input_line))
    if not parts:
        return {}
    recipe = compose_files(loader, name, lines)
    nodes = {
        path: OmegaConf.select(compose_files(loader, file, []), group)
        for path, (group, file) in parts.items()
    }
    return {
        path: node
        for path, node in nodes.items()
        if node.get("_target_") != OmegaConf.select(recipe, f"{path}._target_")
    }


compose_with(chosen_by_hand)
parse_once()
collect_choices_where_needed()


class RulesPath(SearchPathPlugin):
    """Puts the source of rules in front of the folder of config files."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for conf in [one.path for one in search_path.get_path() if one.provider == "main"]:
            search_path.prepend("vssl", f"rules://{conf.removeprefix('file://')}")
