"""What one run recorded, and what all metrics do with it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import ConfigurationError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class History:
    """What one run recorded of its tasks.

    Attributes:
        tasks: T names, in the order of presentation.
        epochs: `[E]`, integers, rising: epochs of the whole run after which something was evaluated; 0 is
            before the first.
        test: `[E, T]`, accuracy on the test split; NaN where a task was not evaluated.
        validation: `[E, T]`, the same on the validation split.
        auroc: `[E, T]`, the area under the ROC curve on the test split, NaN where it was not measured; None: nowhere.
        phases: for each task `(first, last)`: its own phase covers the epochs `first + 1` to `last`. In the
            multi-task protocol all tasks share one phase. A task that a trained network came with has a phase of
            no length, `first == last`.

    Raises:
        ConfigurationError: shapes that do not agree, epochs that do not rise, a phase that ends before it
            begins.
    """

    tasks: tuple[str, ...]
    epochs: NDArray[np.int64]
    test: Floats
    validation: Floats
    phases: tuple[tuple[int, int], ...]
    auroc: Floats | None = None

    def __post_init__(self) -> None:
        wanted = (len(self.epochs), len(self.tasks))
        for name, values in (("test", self.test), ("validation", self.validation)):
            if values.shape != wanted:
                raise ConfigurationError(
                    f"{name} accuracies need the shape [epochs, tasks] = {list(wanted)}, "
                    f"but came as {list(values.shape)}."
                )
        if self.auroc is not None and self.auroc.shape != wanted:
            raise ConfigurationError(
                f"areas under the ROC curve need the shape [epochs, tasks] = {list(wanted)}, "
                f"but came as {list(self.auroc.shape)}."
            )
        if np.any(np.diff(self.epochs) <= 0):
            raise ConfigurationError(f"a history's epochs need to rise, each once, but came as {self.epochs.tolist()}.")
        if len(self.phases) != len(self.tasks):
            raise ConfigurationError(f"{len(self.tasks)} tasks need as many phases, but {len(self.phases)} came.")
        for task, (first, last) in zip(self.tasks, self.phases, strict=True):
            if last < first:
                raise ConfigurationError(
                    f"the phase of task {task!r} ends at epoch {last}, before it begins at {first}."
                )

    def given(self, task: int) -> bool:
        """Whether the task came with a trained network, and was never learned here."""
        first, last = self.phases[task]
        return first == last

    def own(self, task: int) -> NDArray[np.bool_]:
        """`[E]`: which epochs lie in the task's own phase; of a given task, the one at which it came."""
        first, last = self.phases[task]
        if self.given(task):
            return self.epochs == last
        return (self.epochs > first) & (self.epochs <= last)

    def followed(self) -> list[int]:
        """The tasks that others followed: all but the last; none in the multi-task protocol."""
        end = max((last for _, last in self.phases), default=0)
        return [task for task, (_, last) in enumerate(self.phases) if last < end]


def forward_filled(values: Floats) -> Floats:
    """Carry every task's last value forward to the epochs at which it was not evaluated.

    A task whose function cannot have changed is not evaluated again, so its last value still stands; for a
    task that is evaluated seldom, it is the last one known.

    Args:
        values: `[E, T]`, NaN where not evaluated.

    Returns:
        `[E, T]`, NaN only before a task's first evaluation.
    """
    epochs, tasks = values.shape
    source = np.where(np.isnan(values), 0, np.arange(epochs)[:, None])
    source = np.maximum.accumulate(source, axis=0)
    return values[source, np.arange(tasks)]


def mean(values: Floats) -> float:
    """The mean of the values that are defined; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def latest(values: Floats) -> float:
    """The last of the values that are defined; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else math.nan
