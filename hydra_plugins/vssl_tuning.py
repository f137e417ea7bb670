"""hydra/sweeper=optuna: values are tuned by what they reach on held-out training videos.

The store has all that was found out, and a sampler with a seed draws the same values from the same past. So
there is no data base: the same command goes through the trials that are done, in no time, and continues; with
more of them (`hydra.sweeper.n_trials`) it goes on; with another mode it shows those that there are.
"""

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from hydra_plugins.vssl_forest import ForestLauncher, ForestSweeper, check_enumerable
from vssl import tuning
from vssl.checks import check_at_least, check_type
from vssl.errors import OptionError, VsslError
from vssl.pipeline import Point
from vssl.tuning import Reached
from vssl.words import count

INSTALL = "hydra/sweeper=optuna: needs Optuna, which is not installed; pip install 'vssl[optuna]'"


@dataclass
class Trial:
    """Values that are tried: as overrides, and those of its points, one for each seed. `asked`: Optuna's."""

    asked: Any
    values: dict[str, str]
    overrides: list[list[str]]
    points: list[Point] = field(default_factory=list)
    reached: Reached = field(default_factory=Reached)

    def look(self) -> bool:
        """See what the store knows of it; return whether that is all."""
        self.reached = tuning.reached(*self.points)
        return self.reached.is_known


class OptunaSweeper(ForestSweeper):
    """Asks Optuna for `n_jobs` trials at a time, which run as one forest, until there are `n_trials`.

    sampler_seed: decides what is drawn, by trees of Parzen estimators of all values together: a temperature
    may only be good with another one. Values of `seed` are not tuned: a trial runs with each and counts by
    their mean.
    """

    launcher: ForestLauncher

    def __init__(self, n_trials: int, n_jobs: int, sampler_seed: int, params: dict[str, str] | None) -> None:
        super().__init__(params)
        self.n_trials, self.n_jobs, self.sampler_seed = n_trials, n_jobs, sampler_seed

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials; in another mode, run that on those that are done and on the next ones."""
        swept = [f"{name}={value}" for name, value in self.params.items()]
        overrides = self.parser.parse_overrides([*swept, *arguments])
        tuned = {one.get_key_element(): one for one in overrides if one.is_sweep_override()}
        fixed = [str(one.input_line) for one in overrides if not one.is_sweep_override()]
        seeds = tuned.pop("seed", None)
        if seeds:
            check_enumerable(seeds, "list the seeds")
        self._check(tuned)
        alike = [[*fixed, seed] for seed in _lines(seeds)] if seeds else [fixed]
        trials = self._trials({name: _space(one) for name, one in tuned.items()}, alike)
        if self.runs:
            _show(trials, fixed, seeds)
        else:
            self.launcher.launch([point for trial in trials for point in trial.overrides], 0)

    @property
    def runs(self) -> bool:
        """Whether trials run, and are not only looked at."""
        return bool(self.config and self.config.mode == "run")

    def _check(self, tuned: Mapping[str, Override]) -> None:
        for name in ("n_trials", "n_jobs", "sampler_seed"):
            check_type(f"hydra.sweeper.{name}", getattr(self, name), int)
            check_at_least(f"hydra.sweeper.{name}", getattr(self, name), 0 if name == "sampler_seed" else 1)
        if not tuned:
            remedy = "give some, as 'auxiliary.teacher_temperature=interval(0.01,0.1)'"
            raise OptionError("hydra/sweeper", "optuna", "no option has values to choose from", remedy)
        if self.config is not None and "sweep" in self.config:
            remedy = "leave +sweeps= out, and tune one pipeline"
            raise OptionError("hydra/sweeper", "optuna", "a sweep file has rows of its own", remedy)

    def _trials(self, space: Mapping[str, Any], alike: Sequence[list[str]]) -> list[Trial]:
        """The trials that are done, in this mode or before, and those that are not, which are the last."""
        study = _study(self.sampler_seed)
        trials: list[Trial] = []
        while len(trials) < self.n_trials:
            batch = []
            for _ in range(min(self.n_jobs, self.n_trials - len(trials))):
                asked = study.ask(dict(space))
                values = {name: _typed(asked.params[name], one) for name, one in space.items()}
                lines = [f"{name}={value}" for name, value in values.items()]
                batch.append(Trial(asked, values, [[*others, *lines] for others in alike]))
            trials += batch
            if not self._reach(batch):
                break
            for trial in batch:
                score = trial.reached.score  # without one, as where it diverged, worse than all others
                states = _optuna().trial.TrialState
                study.tell(trial.asked, score, states.PRUNED if score is None else states.COMPLETE)
        return trials

    def _reach(self, batch: Sequence[Trial]) -> bool:
        """Run what is not known of these trials, if this is a run; return whether all of it is known then."""
        for trial in batch:
            trial.points = tuning.points_of(self.launcher.composed(trial.overrides))
        left = [trial for trial in batch if not trial.look()]
        if left and self.runs:
            try:
                self.launcher.launch([point for trial in left for point in trial.overrides], 0)
            except VsslError:
                if not all(trial.look() for trial in left):
                    raise  # not for one that diverged: it has lost
            tuning.wait_for([point for trial in left for point in trial.points])
            left = [trial for trial in left if not trial.look()]
        return not left


def _show(trials: Sequence[Trial], others: Sequence[str], seeds: Override | None) -> None:
    """Print all trials, the best one, and the command that tests it; raise `VsslError` if any is not done."""
    from vssl.report.table import trial_table  # late: Hydra imports all plugins each time

    names = list(trials[0].values)
    trial_table(names, [(list(trial.values.values()), trial.reached.words) for trial in trials])
    if not_done := sum(not trial.reached.is_known for trial in trials):
        words = "the same command with mode=status says why, and without it runs them again"
        raise VsslError(f"{not_done} of {count(len(trials), 'trial')} not done; {words}")
    scored = [(trial.reached.score, trial) for trial in trials if trial.reached.score is not None]
    if not scored:
        raise VsslError("the loss of every trial became no number; give other values")
    _, best = max(scored, key=lambda one: one[0])
    metric = best.reached.metric.label if best.reached.metric else ""
    values = [f"{name}={value}" for name, value in best.values.items()]
    print(f"best of {len(scored)} by {metric} of held-out videos: {' '.join(values)}")
    kept = [line for line in others if line.partition("=")[0] not in tuning.HELD_OUT]
    swept = ["-m", str(seeds.input_line)] if seeds else []
    print(f"its test: {shlex.join(['python', 'launch.py', *swept, *kept, *values])}")


def _study(seed: int) -> Any:
    """An empty study that looks for the largest value."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Trials that run at once shall not be alike: those without a value count as bad ones.
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise VsslError(INSTALL) from error
    return optuna


def _space(override: Override) -> Any:
    """The distribution of an option's values; raises `OptionError` if it has none."""
    try:
        return _distribution(override)
    except (ValueError, IndexError) as error:  # of Optuna; of a range without numbers
        name, _, value = str(override.input_line).partition("=")
        remedy = "name the smaller end first, and one above 0 where the scale is logarithmic"
        raise OptionError(name, value, "no values lie there", remedy) from error


def _distribution(override: Override) -> Any:
    """What values an option has: an interval, a range of numbers, or choices as they are typed."""
    kinds, value = _optuna().distributions, override.value()
    if isinstance(value, IntervalSweep):
        ends, log = (value.start, value.end), "log" in value.tags
        whole = all(isinstance(end, int) for end in ends)
        return (kinds.IntDistribution if whole else kinds.FloatDistribution)(*ends, log=log)
    if isinstance(value, RangeSweep):
        numbers = sorted(value.range())
        whole = all(isinstance(number, int) for number in numbers)
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        return kind(numbers[0], numbers[-1], step=abs(value.step))
    return kinds.CategoricalDistribution([line.partition("=")[2] for line in _lines(override)])


def _lines(override: Override) -> list[str]:
    """An override for each value of a sweep."""
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_iterator(transformer=Transformer.encode)]


def _typed(value: Any, distribution: Any) -> str:
    """A value as an override has it: a number of an interval in three digits, but within its ends."""
    if not isinstance(value, float) or distribution.step is not None:
        return str(value)
    return str(min(max(float(f"{value:.3g}"), distribution.low), distribution.high))


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="optuna",
    node={
        "_target_": "hydra_plugins.vssl_tuning.OptunaSweeper",
        "n_trials": 20,
        "n_jobs": 1,
        "sampler_seed": 0,
        "params": None,
    },
    provider="vssl",
)
