"""What a run is, and how far it has come: the plan, in which nothing changes, and the state of all that does."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Data, Memory, Method
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.augmentation import Augmentation, augmentation
from everlearn.training.data import StreamData
from everlearn.training.protocol import Phase, make_phases
from everlearn.training.settings import Training


@dataclass
class State:
    """All that evolves. Everything random is drawn from seeds and these positions, so no generator is kept.

    Attributes:
        network: with the tasks begun so far.
        memory: the method's.
        optimisers: by task, the run's and those of parameters set apart; fresh at the start of each stage.
        phase: which phase of the protocol.
        attempt: which attempt at the phase.
        score: the best validation accuracy of this attempt so far.
        best: the best validation accuracy of this stage so far; -1 before the first.
        best_epoch: the epoch of the stage that had it.
        dropped: whether the schedule `plateau` has dropped the rate in this stage.
        stage: which stage of the method; -1 before the attempt has begun.
        epoch: epochs of this stage that are over.
        step: steps of the running epoch that are done.
        epochs: epochs of the whole run that are over; every attempt at a phase counts from the same.
        worked: epochs of all attempts that are over.
        steps: optimiser steps of the whole run.
        stale: tasks that moved since they were last evaluated.
        warnings: what the method had doubts about so far.
        training_seconds: spent in steps and between stages; not part of what is reproduced.
        evaluation_seconds: spent in evaluations.
        seconds: the training seconds at the end of each phase that is over.
    """

    network: LifelongNetwork
    memory: Memory = field(default_factory=dict)
    optimisers: dict[int, list[torch.optim.Optimizer]] = field(default_factory=dict)
    phase: int = 0
    attempt: int = 0
    score: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    dropped: bool = False
    stage: int = -1
    epoch: int = 0
    step: int = 0
    epochs: int = 0
    worked: int = 0
    steps: int = 0
    stale: set[int] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list[float])


@dataclass(frozen=True)
class Plan:
    """What is to be learned, and how; nothing in it changes.

    Attributes:
        method: how tasks are learned.
        data: the stream's images.
        classes: how many classes each task has.
        training: settings of the loop.
        seed: of order and dropout.
        trained: how many of the first tasks come with a trained network.
        done: epochs that those took elsewhere; the run's count goes on from them.
    """

    method: Method
    data: StreamData
    classes: Sequence[int]
    training: Training
    seed: int
    trained: int = 0
    done: int = 0
    _augmentations: dict[int, Augmentation | None] = field(default_factory=dict, repr=False)

    def phases(self) -> list[Phase]:
        """The phases of the settings' protocol."""
        return make_phases(self.training, self.method, len(self.classes), self.trained, self.done)

    def augmentation(self, task: int) -> Augmentation | None:
        """What is done to a task's training images before each step."""
        if task not in self._augmentations:
            self._augmentations[task] = augmentation(self.training.augment, self.data[task]["train"])
        return self._augmentations[task]

    def images(self, phase: Phase) -> Data:
        """What a method may look at between a phase's stages: the training images of its own tasks."""
        return {task: self.data[task]["train"] for task in phase.tasks if "train" in self.data[task]}

    def attempts(self, network: LifelongNetwork, phase: Phase) -> int:
        """How often a phase is trained; not at all if its task comes with a trained network."""
        if phase.tasks[0] < self.trained:
            return 0
        return 1 if phase.together else self.method.attempts(network.blocks, phase.tasks[0])

    def work(self, network: LifelongNetwork) -> int:
        """Epochs of the whole run, those of all attempts."""
        return sum((phase.last - phase.first) * self.attempts(network, phase) for phase in self.phases())


def check_memory(state: State) -> None:
    """Raise `ConfigurationError` for what a method keeps in its memory and no checkpoint could keep."""
    own = {p.untyped_storage().data_ptr(): name for name, p in state.network.named_parameters() if p.numel()}
    kept: dict[str, object] = {**state.memory}
    for name, value in kept.items():
        if not isinstance(value, torch.Tensor):
            raise ConfigurationError(
                f"memory[{name!r}] of a method is a {type(value).__name__}, but memory keeps tensors alone: "
                "torch.tensor(...) makes one of a number or a list."
            )
        if value.numel() and (alike := own.get(value.untyped_storage().data_ptr())):
            raise ConfigurationError(
                f"memory[{name!r}] of a method is the network's own {alike!r}, and would move with it; keep a copy, "
                ".detach().clone()."
            )
