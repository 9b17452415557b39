"""Evaluations as CUDA graphs: of a stage's own tasks, recorded once and then launched as a whole.

An evaluation of a thousand images is some hundred kernels, which Python launches one by one while the GPU has nothing
else to do, for the numbers are waited for. What is recorded adds up the same numbers in the same order.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from everlearn.networks.lifelong import LifelongNetwork, TaskStructure
from everlearn.training.data import Resident, TrainingData
from everlearn.training.evaluation import Answers, Score, ask, sums
from everlearn.training.graphs import Recording, Side, doubt

WARM_UP = 2
"""Evaluations of a split that are made kernel by kernel before one is recorded: few stages have more than two."""

Where = tuple[Side, TaskStructure, tuple[int, ...]]
"""Where it is recorded, what a task's function is made of, where in memory its numbers lie: it is good for no other."""


@dataclass(frozen=True)
class _Evaluation:
    where: Where
    launch: Callable[[], None]
    right: Tensor
    loss: Tensor


class Replays:
    """The evaluations of one stage.

    Args:
        network: that is asked.
        doubts: where it is said that recording failed.
    """

    def __init__(self, network: LifelongNetwork, doubts: list[str]) -> None:
        self._network, self._doubts = network, doubts
        self._impossible = False
        self._steps: dict[int, Recording] = {}
        self._taken: Counter[tuple[int, str]] = Counter()
        self._recorded: dict[tuple[int, str], _Evaluation] = {}

    def admit(self, task: int, steps: Recording | None) -> None:
        """Let a task's evaluations be recorded, if its steps are: then what it computes is the same each time."""
        if steps is not None:
            self._steps[task] = steps

    def ask(
        self, task: int, split: str, data: TrainingData, auroc: bool = False, answers: Answers | None = None
    ) -> Callable[[], Score]:
        """`ask`, by a recording where there can be one.

        Args:
            task: that is asked for.
            split: its name.
            data: the split.
            auroc: measure the area under the ROC curve as well.
            answers: what the network answers to it, where somebody knows that.
        """
        steps, key = self._steps.get(task), (task, split)
        usual = partial(ask, self._network, task, data, auroc, answers)
        plain = answers is None and not auroc and isinstance(data, Resident) and data.labels.ndim == 1
        if steps is None or steps.impossible or self._impossible or not plain:
            return usual()
        side = steps.sound()
        if self._taken[key] < WARM_UP:
            self._taken[key] += 1
            return side.take(usual)
        where = self._where(side, task)
        if key not in self._recorded or self._recorded[key].where != where:
            try:
                self._recorded[key] = self._record(where, task, data)
            except RuntimeError as error:
                self._impossible = True
                self._recorded.clear()
                self._doubts.append(doubt("an evaluation", error))
                return usual()
        found, count = self._recorded[key], len(data.labels)
        found.launch()
        return lambda: Score(int(found.right) / count, float(found.loss) / count)

    def _where(self, side: Side, task: int) -> Where:
        numbers = chain(self._network.used(task).values(), self._network.part(task).buffers())
        return side, self._network.structures[task], tuple(tensor.data_ptr() for tensor in numbers)

    def _record(self, where: Where, task: int, data: TrainingData) -> _Evaluation:
        # Memory of their own: what a recording computes lies where others compute as well.
        right = torch.zeros((), dtype=torch.int64, device=data.labels.device)
        loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)

        def work() -> None:
            for place, found in zip((right, loss), sums(self._network, task, data), strict=True):
                place.copy_(found)

        return _Evaluation(where, where[0].record(work), right, loss)
