"""Hydra plugins that see all points of a multirun at once.

The sweeper multiplies the rows and columns of a sweep file with what the command line sweeps over; the
launcher hands all points to vssl as one forest, in which no stage stands twice. Hydra looks for plugins here
by name.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from hydra_plugins.vssl_rules import chosen_by_hand
from vssl import tuning
from vssl.compat.hydra_private import (
    apply_values,
    compose_files,
    is_choice,
    product,
    put,
)
from vssl.errors import OptionError, VsslError, nearest
from vssl.overrides import quoted


class ForestSweeper(Sweeper):
    """Hydra's basic sweeper, plus rows and columns (`sweep` of a sweep file), and it writes no file."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to make the points, and the launcher."""
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the product of all rows, columns and swept values as one batch."""
        assert self.config is not None
        assert self.launcher is not None
        swept = [f"{name}={value}" for name, value in self.params.items()]
        overrides = self.parser.parse_overrides([*swept, *arguments])
        for one in overrides:
            check_enumerable(one, "say hydra/sweeper=optuna to tune it")
        points = product(overrides)
        table = places(self.config, {override.key_or_group for override in overrides})
        _refuse_both(overrides, table)
        batch = [
            [*point, *place, *_label(row, varied)]
            for row, place in table
            for point, varied in zip(points, _varied(points), strict=True)
        ]
        return [self.launcher.launch(batch, initial_job_idx=0)]


class ForestLauncher(Launcher):
    """Runs all points of a multirun as one forest of stages."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed to compose the points."""
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the mode on all points at once. To a sweeper that tunes, each returns what it reached."""
        from vssl.commands import execute

        composed = self.composed(job_overrides)
        tuned = tuning.points_of(composed) if self._tunes() else []
        execute(composed)
        returns = [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]
        for one, point in zip(returns, tuned, strict=False):
            one.return_value = tuning.reached(point).value
        return returns

    def composed(self, job_overrides: Sequence[Sequence[str]]) -> list[tuple[DictConfig, list[str]]]:
        """The config of every point, and its overrides; the first one has the sweep file."""
        configs = [self._compose(list(overrides)) for overrides in job_overrides]
        if "sweep" in self.config:
            with open_dict(configs[0]):
                configs[0].sweep = self.config.sweep
                if words := words_of(self.config):
                    left_out = self.config.sweep.get("not_run") or []
                    asked = [row for row in left_out if any(word in row.label for word in words)]
                    configs[0].sweep.not_run = asked
        return list(zip(configs, map(list, job_overrides), strict=True))

    def _tunes(self) -> bool:
        """Whether the sweeper wants to know what points reach: any but those that only multiply."""
        sweeper = str(self.config.hydra.sweeper._target_)
        return sweeper.rpartition(".")[2] not in ("ForestSweeper", "BasicSweeper")

    def _compose(self, overrides: list[str]) -> DictConfig:
        """The config of one point. Points with the same choices of groups are composed once: composing takes
        many times as long as setting values."""
        loader, name = self.context.config_loader, self.config.hydra.job.config_name
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        chooses = [is_choice(override, loader) for override in parsed]
        config = compose_files(
            loader, name, [line for line, choice in zip(overrides, chooses, strict=True) if choice]
        )
        with open_dict(config):
            config.pop("sweep", None)
        put(chosen_by_hand(loader, name, parsed), config)
        apply_values([one for one, choice in zip(parsed, chooses, strict=True) if not choice], config)
        return config


def check_enumerable(override: Override, remedy: str) -> None:
    """Raise `VsslError` if the values of an override cannot be listed."""
    if override.is_interval_sweep():
        raise VsslError(f"{override.input_line}: an interval is no list of values; {remedy}")
    if not product([override]):
        raise VsslError(
            f"{override.input_line}: these are no values at all; write some, such as 0,1 or range(0,3)"
        )


def places(config: DictConfig, given: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """All places of a sweep file's table, row by row: the label of the row, and the overrides.

    A row is a label and overrides, {label: VSPP, overrides: [auxiliary=none]}, and so is a column;
    `sweep.overrides` are those of the whole table. `defaults`, of a row or of the table, are overrides too,
    but for options that are `given` or that the row has. A folder, `sweep.rows_in`, has further rows, which
    mode=convert wrote. `only` has words of the labels that are asked for.
    """
    nothing = {"label": "", "overrides": []}
    sweep: Any = OmegaConf.to_container(config.sweep, resolve=True) if "sweep" in config else {}
    rows = sweep.get("rows") or []
    if "rows_in" in sweep:
        rows = [*rows, *_converted(Path(sweep["rows_in"]), is_needed=not rows)]
    rows, columns = _chosen(config, rows or [nothing], sweep.get("columns") or [nothing])
    return [
        (row["label"], [*_overrides(row, sweep, given), *_column(column)])
        for row in rows
        for column in columns
    ]


def _chosen(config: DictConfig, *tables: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Of each list the entries that `only` names; all, where it names none of them."""
    words = words_of(config)
    labels = [entry["label"] for entries in tables for entry in entries if entry["label"]]
    for word in words:
        if not any(word in label for label in labels):
            raise OptionError("only", word, "no row or column is called so", nearest(word, labels))
    for entries in tables:
        yield [entry for entry in entries if any(word in entry["label"] for word in words)] or entries


def words_of(config: DictConfig) -> list[str]:
    """The words of `only`, which may be one."""
    only = OmegaConf.select(config, "only")
    return [] if only is None else [str(word) for word in (only if isinstance(only, ListConfig) else [only])]


def _overrides(row: dict[str, Any], sweep: dict[str, Any], given: Collection[str]) -> list[str]:
    """Those of the table and of the row, and the defaults that nothing takes the place of."""
    fixed = [*(sweep.get("overrides") or []), *row["overrides"]]
    taken = {line.partition("=")[0] for line in fixed} | set(given)
    found: dict[str, str] = {}
    for line in [*(row.get("defaults") or []), *(sweep.get("defaults") or [])]:
        found.setdefault(line.partition("=")[0], line)
    return [*fixed, *(line for option, line in found.items() if option not in taken)]


def _converted(folder: Path, is_needed: bool) -> list[dict[str, Any]]:
    """A row for each file of converted weights. Raises `VsslError` if there is none and one is needed."""
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        row: Any = OmegaConf.to_container(OmegaConf.load(path))
        weights = f"init.weights={quoted(str(path.with_suffix('.pt').absolute()))}"
        rows.append({**row, "overrides": [*row["overrides"], weights]})
    if is_needed and not rows:
        raise OptionError("convert.folder", folder, "no converted weights", "make some with mode=convert")
    return rows


def _column(column: DictConfig | dict[str, Any]) -> list[str]:
    return [*column["overrides"], f"column={quoted(column['label'])}"] if column["label"] else []


def _varied(points: list[list[str]]) -> list[list[str]]:
    """The values in which each point differs from others, the seed apart."""
    everywhere = set.intersection(*map(set, points))
    return [[line for line in p if line not in everywhere and not line.startswith("seed=")] for p in points]


def _label(row: str, varied: list[str]) -> list[str]:
    """Points of one row are runs of the same thing only as long as nothing but the seed is swept."""
    return [f"label={quoted(', '.join([row, *varied]))}"] if row else []


def _refuse_both(given: list[Override], table: list[tuple[str, list[str]]]) -> None:
    """Raise `VsslError` for a value of the command line that the table would silently replace."""
    in_table = {line.partition("=")[0] for _, place in table for line in place}
    for override in given:
        if override.key_or_group == "only" and override.is_sweep_override():
            raise VsslError(f"{override.input_line}: is no sweep over values; only='[WORD,WORD]' has several")
        if override.key_or_group in in_table:
            raise VsslError(
                f"{override.input_line}: the sweep file says this itself, for its rows or columns; "
                "leave it out, or copy the file"
            )


for group, node in {
    "hydra/sweeper": {
        "_target_": "hydra_plugins.vssl_forest.ForestSweeper",
        "params": None,
    },
    "hydra/launcher": {"_target_": "hydra_plugins.vssl_forest.ForestLauncher"},
}.items():
    ConfigStore.instance().store(group=group, name="forest", node=node, provider="vssl")
