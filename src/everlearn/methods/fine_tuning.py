"""Fine-tuning, and the frame that its relatives add a term to.

Papers: Girshick et al. (CVPR 2014); as the baseline of Li and Hoiem (ECCV 2016, "LwF"), Secs. 1 and 3; "duplicating and
fine-tuning" of their Fig. 1; the tenth of the learning rate of their Table 2(d).

    the first task:  minimise L(f(x; theta_s, theta_1), y)                     over theta_s, theta_1
    each new one:    theta_n <- random
        warm-up      minimise L(f(x; theta_s, theta_n), y)                     over theta_n
        joint        minimise L(f(x; theta_s, theta_n), y) + R                 over theta_s, theta_n

Symbols: theta_s the shared trunk, theta_o the heads of old tasks, theta_n that of the new one; L the loss of the task;
R what a relative adds (LwF, L2, EWC); nothing here.

Details that change the numbers:
  * The warm-up belongs to LwF (Sec. 3). The paper does not say whether the others had it; here all have, so that a
    relative of strength 0 is fine-tuning to the bit. `warm_up=0` leaves it out.
  * In the warm-up the trunk is at rest: no dropout in it, running statistics unchanged. Dropout in the head is on.
  * What a block that does not transfer starts from is what the first task has there: "more task-specific layers"
    (Table 2(a)) is `@bottom-k`, and duplicating and fine-tuning is `@none`.
  * Running statistics of normalisation: the trunk is one, so old tasks follow the newest (`statistics=trunk`), or each
    task keeps those of its own images (`task`). What an old task has for itself follows the images that a relative
    trains it on (`trunk`), or keeps its own as well (`task`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, check_not_negative
from everlearn.methods.base import Batch, Data, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.methods.springs import Springs
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import configurations_of_tasks
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.trunks import at_rest, copy_own, copy_statistics, features_of
from everlearn.sharing.hard import Hard

HEAD, ALL = 0, 1
"""The stages: warm-up, and joint."""

BATCH = 250
"""Images at a time where responses are recorded."""

Term = Callable[[Batch, Mapping[int, Tensor]], Tensor]
"""What a relative adds to the loss of a batch, given the trunk's features of it for each task; a scalar."""


@dataclass(frozen=True)
class FineTuning(Method):
    """Train on from what the last task left.

    Attributes:
        configuration: which blocks the tasks share; see `everlearn.networks.configurations`.
        warm_up: epochs that the new head is trained alone before everything moves, as a share of a task's epochs.
        shared_rate: factor of the learning rate of theta_s once everything moves.
        statistics: running statistics of the shared blocks: those of the newest task for all (`trunk`), or each
            task's own (`task`).
    """

    configuration: str = "all"
    warm_up: float = 0.25
    shared_rate: float = 1.0
    statistics: str = "trunk"

    stages: ClassVar[tuple[str, ...]] = ("warm-up", "joint")
    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        check_not_negative(self, "warm_up", "shared_rate")
        if self.statistics not in ("trunk", "task"):
            raise ConfigurationError(f"statistics is trunk or task, but came as {self.statistics!r}.")

    @property
    def takes_trained(self) -> bool:
        return True

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        configurations_of_tasks(self.configuration, len(backbone.blocks), tasks)  # complain before training
        return LifelongNetwork(backbone, Hard(), seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        task = len(network.tasks)
        parts = self.configuration.split("/")
        text = parts[task] if len(parts) > 1 else parts[0]
        network.add_task(classes, configurations_of_tasks(text, network.blocks, 1)[0])
        follow_the_trunk(network, task)
        return task

    def epochs(self, stage: int, epochs: int, task: int) -> int:
        return epochs if stage == ALL else round(self.warm_up * epochs) if task > 0 else 0

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        for task in tasks:
            if stage == ALL:
                memory["bound"] = torch.zeros((), device=network.device)
                memory["batches"] = torch.zeros((), dtype=torch.int64, device=network.device)
                if task > 0 and task in data:
                    self.prepare(network, memory, task, data)

    def prepare(self, network: LifelongNetwork, memory: Memory, task: int, data: Data) -> None:
        """What a relative remembers of old tasks before everything moves for a new one."""

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        if stage == HEAD:
            return head_objective(network, task, reduction)
        term = self.term(network, memory, task, reduction) if task > 0 else None
        springs = self.holds(network, memory, task) if task > 0 else None
        moves = self.moves(network, task, term is not None or springs is not None)
        before = None if springs is None else springs.pull
        pace = {name: self.shared_rate for name in moves if name.startswith("shared.") and task > 0}

        def plain(batch: Batch) -> Tensor:
            return task_loss(network(batch.images, batch.task), batch.labels, reduction)

        if term is None:
            return Objective(moves, plain, pace=pace, before=before)

        def parts(batch: Batch) -> tuple[Tensor, Tensor]:
            held = self.statistics == "task"
            features = features_of(network, batch.images, (task, *self.remembered(task)), held)
            return task_loss(network.head(task)(features[task]), batch.labels, reduction), term(batch, features)

        def steps(batch: Batch) -> Iterator[Tensor]:
            own, added = parts(batch)
            yield own + added
            torch.maximum(memory["bound"], added.detach().abs(), out=memory["bound"])
            memory["batches"] += 1

        def loss(batch: Batch) -> Tensor:
            own, added = parts(batch)
            return own + added

        return Objective(moves, loss, steps, pace=pace, before=before, alike=True)

    def term(self, network: LifelongNetwork, memory: Memory, task: int, reduction: Reduction) -> Term | None:
        """R, for a new task; None where nothing is added."""
        return None

    def holds(self, network: LifelongNetwork, memory: Memory, task: int) -> Springs | None:
        """R where it is of springs, which look at no image; None where there are none."""
        return None

    def remembered(self, task: int) -> Sequence[int]:
        """The old tasks whose features R needs."""
        return ()

    def moves(self, network: LifelongNetwork, task: int, bound: bool) -> dict[str, torch.nn.Parameter]:
        """What moves in the joint stage; `bound`: whether there is a term to hold what is old."""
        return network.used(task)

    def doubts(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> list[str]:
        task = tasks[0]
        if task == 0:
            return []
        springs, term = self.holds(network, memory, task), self.term(network, memory, task, "mean")
        # Nothing has moved before the first step, so a term may be zero there and act in the next.
        seen = term is not None and int(memory["batches"]) > 1
        if not (seen and float(memory["bound"]) == 0) and not (springs is not None and float(springs.energy()) == 0):
            return []
        name = type(self).__name__
        return [
            f"the term by which {name} holds what it knows was zero in every batch of task {task + 1}: it did nothing."
        ]

    def present(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> None:
        if self.statistics == "trunk":
            copy_statistics(network, tasks[-1], range(len(network.tasks)))

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        self.present(network, memory, tasks)
        return set()


def follow_the_trunk(network: LifelongNetwork, task: int) -> None:
    """Start a new task's statistics from the last one's, and what it does not share from what the first one has."""
    if task > 0:
        copy_statistics(network, task - 1, [task])
        copy_own(network, 0, task)


def head_objective(network: LifelongNetwork, task: int, reduction: Reduction, pace: float = 1.0) -> Objective:
    """Only the task's head moves; the trunk is at rest, and is not run for images whose features are kept."""

    def answer(kept: tuple[Tensor, ...], images: Callable[[], Tensor]) -> Tensor:
        return network.head(task)(kept[0])

    def still(images: Tensor) -> tuple[Tensor, ...]:
        with at_rest(network):
            return (network.features(images, task),)

    def loss(batch: Batch) -> Tensor:
        (features,) = batch.still or still(batch.images)
        return task_loss(network.head(task)(features), batch.labels, reduction)

    prefix = f"tasks.{task}.head."
    moves = {name: p for name, p in network.used(task).items() if name.startswith(prefix)}
    return Objective(moves, loss, pace=dict.fromkeys(moves, pace), still=still, answer=answer)
