"""The two protocols: tasks one after the other, and all together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from everlearn.methods.base import Batch, Method
from everlearn.seeds import generator
from everlearn.training.data import TrainingData, training_batches
from everlearn.training.settings import Training


@dataclass(frozen=True)
class Phase:
    """A stretch of training on some tasks; of no epoch, where a task came with a trained network.

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


def make_phases(training: Training, method: Method, tasks: int, trained: int = 0, done: int = 0) -> list[Phase]:
    """The phases of a stream: one a task (lifelong), or one for all (multi-task).

    Args:
        training: names the protocol.
        method: says how long its stages are.
        tasks: how many.
        trained: how many of them came with a trained network.
        done: epochs before the first phase.
    """

    def length(task: int) -> int:
        return sum(method.epochs(stage, training.epochs, task) for stage in range(len(method.stages)))

    if training.protocol == "multi-task":
        return [Phase(tuple(range(tasks)), done, done + length(0), together=True)]
    lengths = (0 if task < trained else length(task) for task in range(tasks))
    ends = list(accumulate(lengths, initial=done))
    return [Phase((task,), ends[task], ends[task + 1]) for task in range(tasks)]


def task_of_epoch(tasks: Sequence[int], seed: int, epoch: int) -> int:
    """The task that an epoch trains: drawn uniformly, with replacement (Lee et al. 2019, App. B.1)."""
    if len(tasks) == 1:
        return tasks[0]
    return tasks[int(torch.randint(len(tasks), (), generator=generator(seed, "task", epoch)))]


def interleaved_batches(
    data: Mapping[int, TrainingData], batch: int, seed: int, epoch: int, start: int, together: int = 1
) -> Iterator[Batch]:
    """The batches of one epoch from the `start`-th on, of one task or of several in turn.

    Of several, equally many images are taken, as many as the smallest has, drawn anew each epoch (Li and Hoiem 2016,
    Sec. 3, on joint training).

    Args:
        data: training splits by task.
        batch: images at a time.
        seed: of the orders.
        epoch: of the whole run.
        start: batches that are done.
        together: batches of one task whose images are given as one; those of several tasks are given one by one.
    """
    several, least = len(data), _least(data)
    limit, together = (least, 1) if several > 1 else (None, together)
    turns = [
        training_batches(split, batch, seed, task, epoch, (start - place + several - 1) // several, limit, together)
        for place, (task, split) in enumerate(data.items())
    ]
    if several == 1:
        yield from turns[0]
        return
    for step in range(start, steps_of_epoch(data, batch)):
        yield replace(next(turns[step % several]), step=step)


def steps_of_epoch(data: Mapping[int, TrainingData], batch: int) -> int:
    """How many batches an epoch of these tasks' images has."""
    return len(data) * max(1, _least(data) // batch)


def _least(data: Mapping[int, TrainingData]) -> int:
    return min(len(split.labels) for split in data.values())
