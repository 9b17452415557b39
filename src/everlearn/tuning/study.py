"""Optuna's part: where a study lies, how its sets are drawn, which are to be done again."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from everlearn.errors import ConfigurationError, StoreError
from everlearn.seeds import derive
from everlearn.tuning.search import Choices, Dimension

HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60
"""A process that works on a set says so this often; a set of which nothing was heard for so long is done again."""

_STARTUP, _WARMUP = 5, 2
"""Sets that are always finished, and the task from which on a set may be given up: one task alone says too little."""

OVER = (TrialState.COMPLETE, TrialState.PRUNED)


class NotQueuedError(Exception):
    """A set of a whole grid was asked for when another process had just been given the last one of the queue."""


class Queued(BaseSampler):
    """Of a whole grid: every set comes from the queue, and none is drawn."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing is drawn together."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Raise `NotQueuedError`."""
        raise NotQueuedError


class SeededTPE(BaseSampler):
    """Optuna's TPE whose draws for a set are a function of the seed, the set's place and what is known by then.

    Its place is how many sets were begun before it, without those that were left: they are in the queue once more.

    One sampler with one seed would draw the same numbers again whenever a study goes on, and on each machine that
    works on it.

    Args:
        seed: of the study.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._space = self._of("space")

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together."""
        return self._space.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what is drawn together."""
        return self._of("together", _place(study, trial)).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one alone."""
        sampler = self._of("alone", _place(study, trial), param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _of(self, *words: str | int) -> TPESampler:
        return TPESampler(seed=derive(self._seed, "tuning", *words) % 2**32)


def _place(study: Study, trial: FrozenTrial) -> int:
    others = study.get_trials(deepcopy=False)
    return sum(one.number < trial.number and one.state != TrialState.FAIL for one in others)


class BehindMedian(BasePruner):
    """Give up a set that is below the median of the finished ones when as many tasks are learned.

    Optuna's MedianPruner compares the best value that a set ever had, which with forgetting is that of its first task.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to give the set up."""
        step = trial.last_step
        if step is None or step < _WARMUP:
            return False
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [one.intermediate_values[step] for one in finished if step in one.intermediate_values]
        return len(finished) >= _STARTUP and bool(others) and trial.intermediate_values[step] < median(others)


def open_study(name: str, url: str, seed: int, prune: bool) -> Study:
    """A study in its storage, made if it is not there.

    Args:
        name: of the study.
        url: of the storage, as SQLAlchemy reads it.
        seed: of the sampler.
        prune: whether sets that fall behind are given up.

    Raises:
        ConfigurationError: no URL, or one of a kind that cannot be opened here.
        StoreError: the storage does not answer.
    """
    if "://" not in url:
        raise ConfigurationError(
            f"--storage needs a URL, such as sqlite:///study.db or postgresql://user@host/name, but came as {url!r}."
        )
    pruner = BehindMedian() if prune else optuna.pruners.NopPruner()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
            storage = RDBStorage(
                url, _connecting(url), heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )  # fmt: skip
            study = optuna.create_study(
                storage=storage, sampler=SeededTPE(seed), pruner=pruner, study_name=name, direction="maximize",
                load_if_exists=True,
            )  # fmt: skip
            optuna.storages.fail_stale_trials(study)
    except ImportError:
        kind = url.partition("://")[0]
        raise ConfigurationError(
            f"the storage {kind} needs a database driver that is not installed; install it."
        ) from None
    except SQLAlchemyError as error:
        raise _unreachable(url, error) from None
    except (OptunaError, RuntimeError, ValueError) as error:
        raise StoreError(f"the storage cannot be used: {' '.join(str(error).split())}") from None
    return study


def _connecting(url: str) -> dict[str, Any]:
    """SQLite waits for whoever writes, instead of giving up after five seconds: a busy machine may be slow."""
    return {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {}


def _unreachable(url: str, error: SQLAlchemyError) -> StoreError:
    said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    # Not the whole URL, in which a password may stand.
    where = url if url.startswith("sqlite:") else f"{url.partition('://')[0]}://..."
    return StoreError(f"the storage {where} cannot be opened: {said.rstrip('.')}; give another --storage.")


@contextmanager
def silent() -> Iterator[None]:
    """Optuna logs nothing meanwhile: what a person is to know, everlearn says."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def suggested(trial: Trial, space: Mapping[str, Dimension]) -> dict[str, str]:
    """A set of values, each as text."""
    found: dict[str, str] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choices):
            found[name] = trial.suggest_categorical(name, dimension.values)
        elif dimension.whole:
            number = trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
            found[name] = dimension.text(number)
        else:
            found[name] = dimension.text(trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log))
    return found


def as_text(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, str]:
    """What Optuna holds as a set of values, each as text."""
    return {
        name: params[name] if isinstance(dimension, Choices) else dimension.text(params[name])
        for name, dimension in space.items()
        if name in params
    }


def grid_size(space: Mapping[str, Dimension]) -> int | None:
    """How many sets a space has; None where that is without end."""
    size = 1
    for dimension in space.values():
        count = dimension.size()
        if count is None:
            return None
        size *= count
    return size


def enqueue(study: Study, space: Mapping[str, Dimension], whole: bool) -> None:
    """Put into the queue what was begun and not finished and, of a whole grid, what was never begun.

    A data base that locks rows gives each set of the queue to one process; a sampler of grids could not promise that.
    SQLite locks none, so one command at a time works on a file.

    Args:
        study: whose queue it is.
        space: what is searched over.
        whole: whether every set of the space is to be tried.
    """
    if whole:
        study.sampler = Queued()
    trials = study.get_trials(deepcopy=False)
    there = {_key(trial) for trial in trials if trial.state != TrialState.FAIL}
    wanted = [
        trial.params for trial in trials if trial.state == TrialState.FAIL and trial.params.keys() >= space.keys()
    ]
    for params in [*wanted, *(_every(space) if whole else ())]:
        key = _hashed(params)
        if key not in there:
            there.add(key)
            study.enqueue_trial(params)


def refill(study: Study, space: Mapping[str, Dimension]) -> None:
    """Put into the queue of a whole grid what others began and left, or of which nothing was heard for long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
        optuna.storages.fail_stale_trials(study)
    enqueue(study, space, whole=True)


def sets_over(study: Study) -> int:
    """How many different sets of values are over."""
    return len({_key(trial) for trial in study.get_trials(deepcopy=False, states=OVER)})


def _every(space: Mapping[str, Dimension]) -> Iterator[dict[str, Any]]:
    values: list[Sequence[Any]] = []
    for dimension in space.values():
        listed = dimension.listed() or ()
        values.append(listed if isinstance(dimension, Choices) else [int(text) for text in listed])
    for chosen in product(*values):
        yield dict(zip(space, chosen, strict=True))


def _key(trial: FrozenTrial) -> str:
    return _hashed(trial.system_attrs.get("fixed_params") or trial.params)


def _hashed(params: Mapping[str, Any]) -> str:
    return repr(sorted(params.items()))
