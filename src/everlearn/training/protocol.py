"""The two protocols: tasks one after the other, and all together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from everlearn.methods.base import Method
from everlearn.seeds import generator
from everlearn.training.settings import Training


@dataclass(frozen=True)
class Phase:
    """A stretch of training on some tasks.

    Attributes:
        tasks: positions in the stream.
        first: epochs of the run before the phase.
        last: epochs of the run when it is over.
        together: whether its tasks are learned together, an epoch each at random.
    """

    tasks: tuple[int, ...]
    first: int
    last: int
    together: bool = False

    @property
    def training(self) -> int | None:
        """The task in training; None where several are."""
        return None if self.together else self.tasks[0]


def make_phases(training: Training, method: Method, tasks: int) -> list[Phase]:
    """The phases of a stream: one a task (lifelong), or one for all (multi-task)."""
    length = sum(method.epochs(stage, training.epochs) for stage in range(len(method.stages)))
    if training.protocol == "multi-task":
        return [Phase(tuple(range(tasks)), 0, length, together=True)]
    return [Phase((task,), task * length, (task + 1) * length) for task in range(tasks)]


def task_of_epoch(tasks: Sequence[int], seed: int, epoch: int) -> int:
    """The task that an epoch trains: drawn uniformly, with replacement (Lee et al. 2019, App. B.1)."""
    if len(tasks) == 1:
        return tasks[0]
    return tasks[int(torch.randint(len(tasks), (), generator=generator(seed, "task", epoch)))]
