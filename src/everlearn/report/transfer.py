"""What methods that choose which blocks transfer have found out: shares of choices, and courses over the epochs.

A configuration is written as in the records: a digit a block, from the block nearest the image to the one nearest the
head, 1 where it transfers.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from everlearn.experiments.records import FindingRecord
from everlearn.report.groups import Comparison, Entry, Trial

_Item = TypeVar("_Item")

COLUMNS = 400
"""At most so many points in time are drawn of a run: a page of long runs stays small."""


@dataclass(frozen=True)
class Shares:
    """How often each configuration was chosen, over tasks and trials.

    Attributes:
        configurations: the most frequent first; of equals the one that transfers more.
        shares: of all choices, for each of them.
        others: the share of all configurations that are not listed.
        unlisted: how many those are.
        choices: tasks over all trials.
    """

    configurations: list[str]
    shares: list[float]
    others: float
    unlisted: int
    choices: int


@dataclass(frozen=True)
class Posterior:
    """What one trial thought of every configuration, over its epochs.

    Attributes:
        configurations: C of them, from what transfers most to what transfers least.
        edges: `[N + 1]` epochs; what is said of the n-th stretch was known at its end.
        values: `[C, N]` probabilities; NaN while nothing was weighed.
        chosen: for each task that is settled, the last epoch of its phase and the configuration.
    """

    configurations: list[str]
    edges: list[int]
    values: list[list[float]]
    chosen: list[tuple[int, str]]


@dataclass(frozen=True)
class Scores:
    """The validation accuracies by which one trial chose.

    Attributes:
        configurations: C of them, from what transfers most to what transfers least.
        tasks: K numbers, from 1, of the tasks for which configurations were tried.
        values: `[C, K]`, the best validation accuracy of each.
        chosen: the configuration that was kept, for each task.
    """

    configurations: list[str]
    tasks: list[int]
    values: list[list[float]]
    chosen: list[str]


@dataclass(frozen=True)
class Stretch:
    """The probability that each block transfers, over one task's phase.

    Attributes:
        epochs: N of the whole run, from the start of the phase.
        blocks: `[N, B]`, means over trials.
    """

    epochs: list[int]
    blocks: list[list[float]]


def selecting(comparison: Comparison) -> list[Entry]:
    """The entries that chose a configuration for at least one task."""
    return [entry for entry in comparison.entries if settled(entry)]


def settled(entry: Entry) -> list[FindingRecord]:
    """What was found in the end: one for each task that was searched, over all trials."""
    return [found for trial in entry.trials for found in _settled(trial).values()]


def configuration_shares(entry: Entry, most: int = 12) -> Shares:
    """Of all choices (tasks over trials) the share that fell on each configuration (Lee et al. 2021, Fig. 8, top).

    Args:
        entry: a selecting one.
        most: so many configurations are listed; the others are summed.
    """
    counts = Counter(found.configuration for found in settled(entry))
    total = counts.total()
    ranked = sorted(counts, key=lambda one: (-counts[one], *_most_transfer(one)))
    listed = ranked[:most]
    rest = sum(counts[one] for one in ranked[most:])
    return Shares(listed, [counts[one] / total for one in listed], rest / total, len(ranked[most:]), total)


def block_shares(entry: Entry) -> list[float]:
    """For each block the share of choices in which it transfers (Lee et al. 2021, Figs. 4 and 8, bottom)."""
    chosen = [[digit == "1" for digit in found.configuration] for found in settled(entry)]
    return [float(share) for share in np.mean(chosen, axis=0)]


def posterior(trial: Trial, columns: int = COLUMNS) -> Posterior | None:
    """The probability of every configuration over the epochs of one run; None if the method has none.

    Args:
        trial: of a selecting method.
        columns: about so many stretches at most; of several evaluations that fall into one, the last is shown.
    """
    found = [one for one in trial.stored.findings if _is_posterior(one)]
    if not found:
        return None
    configurations = sorted({one for finding in found for one in finding.weights}, key=_most_transfer)
    edges = [trial.history.phases[0][0]]
    held: list[FindingRecord | None] = []
    for task, (first, last) in zip(trial.history.tasks, trial.history.phases, strict=True):
        known = [one for one in _course(trial, task) if one.epoch > first and _is_posterior(one)]
        for one in _thinned(known, columns // len(trial.history.tasks)):
            edges.append(one.epoch)
            held.append(one)
        if edges[-1] < last:
            edges.append(last)
            held.append(None)
    values = [[math.nan if one is None else one.weights.get(c, 0.0) for one in held] for c in configurations]
    ends = dict(zip(trial.history.tasks, (last for _, last in trial.history.phases), strict=True))
    return Posterior(
        configurations,
        edges,
        values,
        [(ends[task], one.configuration) for task, one in _settled(trial).items() if one.configuration in one.weights],
    )


def scores(trial: Trial) -> Scores | None:
    """The validation accuracies of the configurations that were tried; None if nothing was tried out."""
    found = {task: one for task, one in _settled(trial).items() if one.weights and not one.blocks}
    if not found:
        return None
    configurations = sorted({one for finding in found.values() for one in finding.weights}, key=_most_transfer)
    return Scores(
        configurations,
        [trial.history.tasks.index(task) + 1 for task in found],
        [[one.weights.get(c, math.nan) for one in found.values()] for c in configurations],
        [one.configuration for one in found.values()],
    )


def block_courses(entry: Entry, columns: int = COLUMNS) -> list[Stretch]:
    """The probability that each block transfers, for each task by order of presentation.

    Means over the trials, of the task presented at that place, at the epochs at which all trials have it.

    Args:
        entry: a selecting one.
        columns: about so many epochs at most.

    Returns:
        one for each task that has any; none if the method gives blocks no probability.
    """
    tasks = min(len(trial.history.tasks) for trial in entry.trials)
    drawn: list[Stretch] = []
    for place in range(tasks):
        courses = [
            {one.epoch: one.blocks for one in _course(trial, trial.history.tasks[place]) if one.blocks}
            for trial in entry.trials
        ]
        shared = _thinned(sorted(set.intersection(*(set(course) for course in courses))), columns // tasks)
        means = [np.mean([course[epoch] for course in courses], axis=0).tolist() for epoch in shared]
        if shared:
            drawn.append(Stretch(shared, means))
    return drawn


def _settled(trial: Trial) -> dict[str, FindingRecord]:
    """By task, in the order of presentation. What a network that grows counts is no choice of what transfers."""
    found = {one.task: one for one in trial.stored.findings if one.settled and not one.counts}
    return {task: found[task] for task in trial.history.tasks if task in found}


def _course(trial: Trial, task: str) -> list[FindingRecord]:
    """A task's findings by epoch; what was settled counts before what was thought at the same epoch."""
    by_epoch = {one.epoch: one for one in trial.stored.findings if one.task == task}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _is_posterior(found: FindingRecord) -> bool:
    # Brute force weighs by validation accuracies, and says nothing of single blocks.
    return bool(found.weights and found.blocks)


def _most_transfer(configuration: str) -> tuple[int, list[bool]]:
    """Sorts what transfers more before what transfers less, and lower blocks before higher ones."""
    return -configuration.count("1"), [digit != "1" for digit in configuration]


def _thinned(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most about that many, evenly spread; the last is always kept."""
    step = math.ceil(len(items) / max(1, most)) or 1
    return list(items[::-1][::step][::-1])
