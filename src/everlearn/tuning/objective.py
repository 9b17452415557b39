"""What a set of values is worth: its runs, done by the machinery of experiments, and their validation accuracies.

Nothing here reads a number of a test split.
"""

import math
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import optuna

from everlearn.errors import EverlearnError, StoreError
from everlearn.experiments import store
from everlearn.experiments.asking import check, first_stream
from everlearn.experiments.execute import Place, diverged
from everlearn.experiments.files import explained
from everlearn.experiments.plan import Request, first_training, plan_runs
from everlearn.experiments.pool import run_here, run_in_processes
from everlearn.experiments.presets import preset_of
from everlearn.experiments.records import RunConfig
from everlearn.experiments.starts import start_of
from everlearn.experiments.store import StoredRun
from everlearn.experiments.worker import Report
from everlearn.metrics.history import Floats, forward_filled, mean
from everlearn.report.histories import history
from everlearn.tasks.task import TaskStream
from everlearn.training.settings import Training
from everlearn.tuning.results import RUNS, Measure
from everlearn.tuning.search import Dimension
from everlearn.tuning.study import suggested


class Stopped(Exception):
    """A set was left where it stood, because the whole search stops."""


def worth(stored: StoredRun, measure: Measure) -> dict[int, float]:
    """What a run was worth when so many tasks were learned: a mean of validation accuracies, from 0 to 1.

    `final`: of all tasks known by then, at that time; those that came with a trained network are among them.
    `peak`: of the best of each task in its own phase; tasks that came trained have no phase.
    Tasks without validation images count in neither.

    Args:
        stored: a run; of one that is not finished the last value is of what it has recorded so far.
        measure: which of the two.
    """
    found = history(stored)
    filled = forward_filled(found.validation)
    values: dict[int, float] = {}
    for first, last in sorted({phase for phase in found.phases if phase[0] < phase[1]}):
        tasks = [task for task, (_, end) in enumerate(found.phases) if end <= last]
        learned = [task for task in tasks if not found.given(task)]
        within = filled[(found.epochs > first) & (found.epochs <= last)]
        best = [_best(found.validation[found.own(task), task]) for task in learned]
        value = mean(np.array(best) if measure == "peak" else within[-1:, tasks])
        if len(within) and not math.isnan(value):
            values[len(learned)] = value
    return values


def _best(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else math.nan


def _check_sound(stored: StoredRun) -> None:
    """Give the set up if its numbers are not finite: what such a network answers says nothing of the set."""
    if diverged(stored):
        raise optuna.TrialPruned


def request_of(base: Request, settings: frozenset[str], values: Mapping[str, str]) -> Request:
    """The experiment that tries a set of values.

    Args:
        base: what is the same for all sets.
        settings: the names that are settings of the training; the others are options of the method.
        values: by name.
    """
    training = {name: value for name, value in values.items() if name in settings}
    options = {name: value for name, value in values.items() if name not in settings}
    return replace(base, training={**base.training, **training}, options={**base.options, **options})


@dataclass
class Objective:
    """A function of an Optuna trial, as `Study.optimize` calls it; several threads may call it at a time.

    Runs are done one after the other, each in a process of its own, so that the k-th intermediate value of every set
    is of the same tasks of the same trials.

    Attributes:
        base: what is the same for all sets.
        space: what is searched over, by name.
        settings: the names of it that are settings of the training.
        measure: of which validation accuracy.
        place: where runs lie, and how they are executed.
        processes: whether runs are done in processes of their own; otherwise in this one.
        stop: once it is set, every set is left where it stands.
    """

    base: Request
    space: Mapping[str, Dimension]
    settings: frozenset[str]
    measure: Measure
    place: Place
    processes: bool
    stop: threading.Event

    def __post_init__(self) -> None:
        self._starting, self._making = threading.Lock(), threading.Lock()
        self._made: list[TaskStream] = []

    def __call__(self, trial: optuna.Trial) -> float:
        """The mean over runs and tasks of the validation accuracy that is measured, from 0 to 1.

        Raises:
            TrialPruned: the pruner gave the set up.
            Stopped: the search stops.
            EverlearnError: a run could not be done.
        """
        request = request_of(self.base, self.settings, suggested(trial, self.space))
        configs = check(request, plan_runs(request), self._stream())
        trial.set_user_attr(RUNS, [store.run_folder(self.place.root, config).name for config in configs])
        self._train_starts(first_training(preset_of(request.stream), request), configs)
        scores: list[float] = []
        before = 0
        for number, config in enumerate(configs, start=1):
            known: dict[int, float] = {}
            with closing(self._done(config)) as growing:
                for now, whole in growing:
                    for tasks in now.keys() - known.keys():
                        trial.report(fmean([*scores, now[tasks]]), before + tasks)
                    known = now
                    if not (whole and number == len(configs)) and trial.should_prune():
                        raise optuna.TrialPruned
            before += max(known)
            scores.append(known[max(known)])
        return fmean(scores)

    def _stream(self) -> TaskStream:
        """What sets are checked against: the first trial's stream, which is the same for all and is made once."""
        with self._making:
            if not self._made:
                self._made.append(first_stream(self.base))
            return self._made[0]

    def _done(self, config: RunConfig) -> Generator[tuple[dict[int, float], bool]]:
        """Do a run, if it is not finished; give what it is worth after each task, and whether that is all."""
        folder = store.run_folder(self.place.root, config)
        learned: list[bool] = []
        shown = 0
        with closing(self._reports(config, self.place)) as reports:
            for report in reports:
                if not learned and (folder / store.RUN).exists():
                    learned = [phase.first < phase.last for phase in store.read_run(folder).run.phases]
                over = sum(learned[: report.phases])
                if over > shown and report.phases < len(learned):
                    shown = over
                    stored = store.read_run(folder)
                    values = worth(stored, self.measure)
                    yield {tasks: value for tasks, value in values.items() if tasks <= over}, False
                    _check_sound(stored)
        stored = store.read_run(folder)
        values = worth(stored, self.measure)
        if not values:
            raise StoreError(f"{folder} has no validation accuracy of any task; remove it and give the command again.")
        yield values, True
        _check_sound(stored)

    def _reports(self, config: RunConfig, place: Place) -> Generator[Report]:
        """Execute a run that is not finished; closing saves a checkpoint."""
        if (store.run_folder(place.root, config) / store.RESULT).exists():
            return
        if self.processes:
            reports = run_in_processes([config], self.base.data, place, 1)
        else:
            reports = run_here([config], self.base.data, place, self.base.given)
        with closing(reports):
            for report in reports:
                if self.stop.is_set():
                    raise Stopped
                if report.error:
                    raise EverlearnError(f"{config.method} (trial {config.trial}): {report.error}")
                yield report

    def _train_starts(self, first: Training | None, configs: Sequence[RunConfig]) -> None:
        """Train the networks that these runs go on from, unless they are there; one set at a time, for they share."""
        with explained(self.place.root):
            self.place.root.mkdir(parents=True, exist_ok=True)
        if first is None:
            return
        place = replace(self.place, root=self.place.root / store.STARTS)
        with self._starting:
            for config in {config.start: start_of(config, first) for config in configs}.values():
                for _ in self._reports(config, place):
                    pass
