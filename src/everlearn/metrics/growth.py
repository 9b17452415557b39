"""Metrics of networks that grow: performance task by task, and the time that it took.

Sources: Yoon et al., "Lifelong Learning with Dynamically Expandable Networks" (ICLR 2018), Figs. 3 to 6. They measure
the area under the ROC curve (AUROC) on the test split, each class against the rest, mean over classes; where a run did
not measure it, all functions here do the same with accuracy.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from everlearn.metrics.history import Floats, History, forward_filled, latest, mean

Measured = Literal["auroc", "accuracy"]
"""What is called performance."""

MEASURED: dict[Measured, str] = {"auroc": "AUROC", "accuracy": "test accuracy"}
"""What it is called before people."""


def measured(history: History) -> Measured:
    """What a run's performance is measured by: AUROC if it has any, else accuracy."""
    return "auroc" if history.auroc is not None and not np.isnan(history.auroc).all() else "accuracy"


def performance(history: History, by: Measured) -> Floats:
    """`[E, T]`: AUROC or accuracy on the test split; NaN where it was not measured."""
    if by == "accuracy":
        return history.test
    return np.full(history.test.shape, np.nan) if history.auroc is None else history.auroc


def performance_by_stage(history: History, by: Measured) -> Floats:
    """Each task's performance at each stage of training (Yoon et al. 2018, Fig. 5).

    Stage s is over when task s is. Values are carried forward.

    Returns:
        `[T, T]`: stages, tasks; NaN for a task that comes after the stage's. In the multi-task protocol, where all
        tasks end at once, every stage has what there is in the end.
    """
    filled = forward_filled(performance(history, by))
    tasks = len(history.tasks)
    found = np.full((tasks, tasks), np.nan)
    for stage, (_, last) in enumerate(history.phases):
        row = int(np.searchsorted(history.epochs, last, side="right")) - 1
        if row >= 0:
            found[stage, : stage + 1] = filled[row, : stage + 1]
    return found


def average_by_stage(history: History, by: Measured) -> Floats:
    """`[T]`: when task t is over, the mean performance of tasks 1 to t (Yoon et al. 2018, Fig. 3, top)."""
    return np.array([mean(row) for row in performance_by_stage(history, by)])


def final_average(history: History, by: Measured) -> float:
    """The mean performance of all tasks after the whole sequence, each task's last value.

    The numbers in the legend of Yoon et al. 2018, Fig. 3.
    """
    values = performance(history, by)
    return mean(np.array([latest(values[:, task]) for task in range(len(history.tasks))]))


def seconds_by_stage(history: History, phase_seconds: Sequence[float]) -> Floats:
    """When each task was over, the seconds that had been spent on training (Yoon et al. 2018, Fig. 4 a).

    Args:
        history: of T tasks.
        phase_seconds: of each phase: one a task, or one of all tasks together.

    Returns:
        `[T]`; NaN where the seconds were not recorded, or are of other phases.
    """
    tasks = len(history.tasks)
    spent = np.cumsum(np.array(phase_seconds, dtype=np.float64))
    if len(set(history.phases)) == 1 and len(spent) == 1:
        return np.full(tasks, spent[0])
    return spent if len(spent) == tasks else np.full(tasks, np.nan)
