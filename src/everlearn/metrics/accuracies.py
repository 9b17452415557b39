"""Metrics of recorded accuracies: what was learned, and what was kept of it.

Sources: peak accuracy, forgetting ratio and convergence are those of Lee et al., "Learning Shared Knowledge
for Deep Lifelong Learning Using Deconvolutional Networks" (IJCAI 2019), section 4.2; backward transfer is
that of Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning" (NeurIPS 2017), equation 3.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import ConfigurationError
from everlearn.metrics.history import Floats, History, forward_filled, latest, mean

Reference = Literal["peak", "end"]
"""What a later accuracy is divided by: the peak of the own phase, or the accuracy at its end."""

_ROUNDING = 1e-9
"""Slack of comparisons with a fraction of the peak: 0.98 * 0.46 is not 0.4508 to the last bit."""


def peak_accuracy(history: History) -> Floats:
    """`[T]`: each task's best test accuracy among the evaluations in its own phase (Lee et al. 2019, section
    4.2).

    A maximum over the epochs that were evaluated: a denser schedule can only raise it. Of a given task, what it had
    when it came.
    """
    return np.array([_largest(history.test[history.own(task), task]) for task in range(len(history.tasks))])


def accuracy_at_best_validation(history: History) -> Floats:
    """`[T]`: each task's test accuracy at the epoch of its own phase that has the best validation accuracy.

    The earliest such epoch on ties. Epochs at which only one of the two splits was evaluated do not count.
    This is what the DF-CNN authors' code stores as a task's best accuracy; it makes no choice on test images,
    as the peak does.
    """
    found = np.full(len(history.tasks), np.nan)
    for task in range(len(history.tasks)):
        test, validation = history.test[:, task], history.validation[:, task]
        rows = np.flatnonzero(history.own(task) & ~np.isnan(test) & ~np.isnan(validation))
        if len(rows):
            found[task] = test[rows[np.argmax(validation[rows])]]
    return found


def end_of_phase_accuracy(history: History) -> Floats:
    """`[T]`: each task's test accuracy at the last evaluation in its own phase."""
    return np.array([latest(history.test[history.own(task), task]) for task in range(len(history.tasks))])


def final_accuracy(history: History) -> Floats:
    """`[T]`: each task's test accuracy after the whole sequence (its last evaluation)."""
    return np.array([latest(history.test[:, task]) for task in range(len(history.tasks))])


def forgetting_ratio(history: History, by: Reference = "peak") -> Floats:
    """Each task's catastrophic forgetting ratio over time (Lee et al. 2019, section 4.2).

    The test accuracy divided by the task's peak in its own phase (`peak`, the paper's definition) or by the
    accuracy at the end of that phase (`end`). 1: nothing is lost. By `peak`, even a task that cannot change
    stays below 1 if its peak was not at its phase's end; by `end` it is 1. Values between evaluations are
    carried forward.

    Returns:
        `[E, T]`, NaN before the end of a task's phase.
    """
    reference = _reference(history, by)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = forward_filled(history.test) / np.where(reference > 0, reference, np.nan)
    ends = np.array([last for _, last in history.phases], dtype=np.int64)
    return np.where(history.epochs[:, None] >= ends[None, :], ratio, np.nan)


def final_forgetting_ratio(history: History, by: Reference = "peak") -> float:
    """The forgetting ratio after the whole sequence, mean over all tasks, the last one included.

    NaN if no task was followed by another (one task, or the multi-task protocol).
    """
    if not history.followed():
        return math.nan
    reference = _reference(history, by)
    return mean(final_accuracy(history) / np.where(reference > 0, reference, np.nan))


def forgetting_after(history: History, by: Reference = "peak") -> tuple[NDArray[np.int64], Floats]:
    """The forgetting ratio against the number of epochs trained on later tasks.

    At a distance of d epochs: the mean over the tasks whose own phase ended d or more epochs before the run's
    end. Fewer tasks can have been followed for longer, so the far end rests on the first task alone. The last
    task, which nothing follows, is left out.

    Returns:
        distances: `[D]`, from 0: those at which a followed task was evaluated or a later phase ended.
        ratio: `[D]`; both are empty if no task was followed by another.
    """
    followed, end = history.followed(), max((last for _, last in history.phases), default=0)
    ratio = forgetting_ratio(history, by)
    distances: set[int] = set()
    for task in followed:
        last = history.phases[task][1]
        evaluated = history.epochs[~np.isnan(history.test[:, task])]
        distances.update(int(epoch) - last for epoch in evaluated if last <= epoch <= end)
        distances.update(other - last for _, other in history.phases if other >= last)
    grid = np.array(sorted(distances), dtype=np.int64)
    means = np.full(len(grid), np.nan)
    for place, distance in enumerate(grid):
        known = []
        for task in followed:
            epoch = history.phases[task][1] + distance
            row = int(np.searchsorted(history.epochs, epoch, side="right")) - 1
            if epoch <= end and row >= 0:
                known.append(ratio[row, task])
        means[place] = mean(np.array(known))
    return grid, means


def forgetting_by_task(history: History, by: Reference = "peak") -> Floats:
    """`[T]`: the forgetting ratio when each task has been learned, mean over the tasks learned before it.

    Lee et al. 2021, Fig. 7, plot it against the task's number without saying whether the task just learned
    counts; here it does not. NaN for the first task, and for all in the multi-task protocol.
    """
    ratio, ends = forgetting_ratio(history, by), np.array([last for _, last in history.phases], dtype=np.int64)
    rows = np.searchsorted(history.epochs, ends, side="right") - 1
    return np.array([mean(ratio[row, ends < end]) if row >= 0 else np.nan for row, end in zip(rows, ends, strict=True)])


def convergence(history: History, fraction: float = 0.98) -> Floats:
    """`[T]`: epochs within a task's own phase until its test accuracy first reaches `fraction` of its peak.

    Lee et al. 2019, section 4.2 (98 %). Known only to the spacing of the evaluations, from above. NaN for a given
    task, which needed none.
    """
    peaks = peak_accuracy(history)
    found = np.full(len(history.tasks), np.nan)
    for task, (first, _) in enumerate(history.phases):
        reached = history.own(task) & (history.test[:, task] >= fraction * peaks[task] - _ROUNDING)
        if reached.any() and not history.given(task):
            found[task] = history.epochs[np.argmax(reached)] - first
    return found


def backward_transfer(history: History) -> float:
    """What later tasks did to earlier ones (Lopez-Paz and Ranzato 2017, equation 3).

    The final accuracy minus the accuracy at the end of the task's own phase, mean over all tasks but the last.
    Negative: forgotten. NaN if no task was followed by another.
    """
    change = final_accuracy(history) - end_of_phase_accuracy(history)
    return mean(change[history.followed()])


def forward_transfer(history: History, reference: History, by: Reference = "peak") -> Floats:
    """What earlier tasks did to the learning of each task, against learning it alone.

    A task's peak accuracy (or its accuracy at the end of its own phase) minus that of the same task, found by
    name, in a run that learns every task from scratch. Not the forward transfer of Lopez-Paz and Ranzato,
    which is the accuracy on a task before any of its data has been seen, and has no meaning where each task
    has a head of its own.

    Args:
        history: `[E, T]`.
        reference: the single-task run's; the same tasks in any order.
        by: compare peaks, or the ends of the phases.

    Returns:
        `[T]`, in the order of `history.tasks`; NaN for a task that either run was given.

    Raises:
        ConfigurationError: the two runs did not learn the same tasks.
    """
    if set(history.tasks) != set(reference.tasks):
        raise ConfigurationError(
            f"forward transfer needs two runs of the same tasks, but one learned {list(history.tasks)} "
            f"and the other {list(reference.tasks)}."
        )
    alone = dict(zip(reference.tasks, _learned(reference, by), strict=True))
    return _learned(history, by) - np.array([alone[task] for task in history.tasks])


def average_accuracy(history: History) -> Floats:
    """`[E]`: mean test accuracy over the tasks presented so far, the one in training and given ones included.

    Values are carried forward; NaN before the first task's first evaluation in training.
    """
    values = forward_filled(history.test)
    # A task is presented from the first epoch of its phase; a given one from the epoch at which it came.
    begins = np.array([first + (first < last) for first, last in history.phases], dtype=np.int64)
    presented = history.epochs[:, None] >= begins[None, :]
    return np.array([mean(row[seen]) for row, seen in zip(values, presented, strict=True)])


def multi_task_error(history: History) -> float:
    """1 minus the mean test accuracy over tasks, at the epoch that has the best mean validation accuracy.

    The measure of the DF-CNN paper's multi-task tables (appendix C). Only epochs at which every task was
    evaluated on both splits count; the earliest on ties; NaN if there is none.
    """
    whole = np.flatnonzero(~np.isnan(history.test).any(1) & ~np.isnan(history.validation).any(1))
    if not len(whole) or not history.tasks:
        return math.nan
    best = whole[np.argmax(history.validation[whole].mean(1))]
    return float(1 - history.test[best].mean())


def _reference(history: History, by: Reference) -> Floats:
    if by == "peak":
        return peak_accuracy(history)
    if by == "end":
        return end_of_phase_accuracy(history)
    raise ConfigurationError(f"accuracies are compared by 'peak' or by 'end', but {by!r} came.")


def _learned(history: History, by: Reference) -> Floats:
    given = [history.given(task) for task in range(len(history.tasks))]
    return np.where(given, np.nan, _reference(history, by))


def _largest(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else math.nan
