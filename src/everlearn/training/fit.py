"""The loop, in one piece: tasks, stages, epochs, batches.

`learn` is a generator. It yields a `Measured` for every evaluation, and a `Tick` wherever it may be stopped: what is
in the `State` then is all that is needed to go on (`learn` with that state continues bit for bit on the CPU). The
caller writes records, shows progress, saves states; there are no callbacks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter

import torch

from everlearn.methods.base import Batch, Memory, Method, Objective
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.seeds import derive, reseed
from everlearn.training.data import StreamData, training_batches
from everlearn.training.evaluation import changed, evaluate
from everlearn.training.optimisers import make_optimiser, rate_at, set_rate
from everlearn.training.protocol import Phase, make_phases, task_of_epoch
from everlearn.training.settings import Training

TICK_STEPS = 100
"""Steps between two ticks inside an epoch: often enough to be stopped at, too seldom to cost anything."""


@dataclass
class State:
    """All that evolves. Everything random is drawn from seeds and these positions, so no generator is kept.

    Attributes:
        network: with the tasks begun so far.
        memory: the method's.
        optimisers: by task; fresh at the start of each stage.
        phase: which phase of the protocol.
        stage: which stage of the method; -1 before the phase has begun.
        epoch: epochs of this stage that are over.
        step: steps of the running epoch that are done.
        epochs: epochs of the whole run that are over.
        steps: optimiser steps of the whole run.
        stale: tasks that moved since they were last evaluated.
        training_seconds: spent in steps; not part of what is reproduced.
        evaluation_seconds: spent in evaluations.
    """

    network: LifelongNetwork
    memory: Memory = field(default_factory=dict)
    optimisers: dict[int, torch.optim.Optimizer] = field(default_factory=dict)
    phase: int = 0
    stage: int = -1
    epoch: int = 0
    step: int = 0
    epochs: int = 0
    steps: int = 0
    stale: set[int] = field(default_factory=set)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """One task's split after `epochs` epochs of the run; `training` is the task in training, None for all."""

    epochs: int
    training: int | None
    task: int
    split: str
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Tick:
    """The state is consistent: it may be saved, and the run stopped. `epochs` of the whole run are over."""

    epochs: int


Event = Measured | Tick


@dataclass(frozen=True)
class Plan:
    """What is to be learned, and how; nothing in it changes.

    Attributes:
        method: how tasks are learned.
        data: the stream's images.
        classes: how many classes each task has.
        training: settings of the loop.
        seed: of order and dropout.
    """

    method: Method
    data: StreamData
    classes: Sequence[int]
    training: Training
    seed: int

    def phases(self) -> list[Phase]:
        """The phases of the settings' protocol."""
        return make_phases(self.training, self.method, len(self.classes))


def learn(plan: Plan, state: State) -> Iterator[Event]:
    """Train through all phases from wherever the state stands, changing it in place."""
    method, phases = plan.method, plan.phases()
    while state.phase < len(phases):
        phase = phases[state.phase]
        if state.stage < 0:
            for task in phase.tasks:
                assert method.begin(state.network, state.memory, plan.classes[task]) == task
            yield from _next_stage(plan, state, phase)
        while state.stage < len(method.stages):
            yield from _stage(plan, state, phase)
            yield from _next_stage(plan, state, phase)
        method.leave(state.network, state.memory, phase.tasks)
        state.phase, state.stage = state.phase + 1, -1
        yield Tick(state.epochs)


def _next_stage(plan: Plan, state: State, phase: Phase) -> Iterator[Event]:
    state.stage, state.epoch, state.step, state.optimisers = state.stage + 1, 0, 0, {}
    if state.stage < len(plan.method.stages):
        plan.method.enter(state.network, state.memory, phase.tasks, state.stage)
        state.stale |= set(phase.tasks)
        yield Tick(state.epochs)


def _stage(plan: Plan, state: State, phase: Phase) -> Iterator[Event]:
    """The epochs of one stage, and the evaluations that are due after them."""
    training, epochs = plan.training, plan.method.epochs(state.stage, plan.training.epochs)
    objectives: dict[int, Objective] = {}
    affected: dict[int, set[int]] = {}
    state.network.train().requires_grad_(False)
    if state.epoch == state.step == 0:
        yield from _evaluations(plan, state, phase, own=True, others=False)
    while state.epoch < epochs:
        task = task_of_epoch(phase.tasks, plan.seed, state.epochs)
        if task not in objectives:
            objectives[task] = plan.method.objective(state.network, state.memory, task, state.stage, training.reduction)
            affected[task] = changed(state.network, objectives[task].moves, range(len(state.network.tasks)))
        optimiser = _optimiser(plan, state, task, objectives[task])
        set_rate(optimiser, rate_at(training, state.epochs, state.epoch, epochs))
        yield from _epoch(plan, state, task, objectives[task], optimiser)
        state.stale |= affected[task]
        over = state.epoch == epochs
        own = over or state.epoch % training.evaluate_every == 0
        others = over or state.epoch % training.evaluate_others_every == 0
        yield from _evaluations(plan, state, phase, own, others)
        yield Tick(state.epochs)


def _epoch(
    plan: Plan, state: State, task: int, objective: Objective, optimiser: torch.optim.Optimizer
) -> Iterator[Event]:
    """What is left of one epoch, a hundred steps at a time."""
    data = plan.data[task]["train"]
    batches = training_batches(data, plan.training.batch, plan.seed, task, state.epochs, state.step)
    dropout = derive(plan.seed, "dropout", state.epochs)
    for parameter in objective.moves.values():
        parameter.requires_grad_(True)
    while done := _steps(state, objective, optimiser, islice(batches, TICK_STEPS), dropout):
        if done == TICK_STEPS:
            yield Tick(state.epochs)
    for parameter in objective.moves.values():
        parameter.requires_grad_(False)
    state.epoch, state.epochs, state.step = state.epoch + 1, state.epochs + 1, 0


def _steps(
    state: State,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Batch],
    dropout: int,
) -> int:
    """Take one step a batch; return how many. The global generator is left as it was found."""
    begun, before = perf_counter(), state.step
    device = state.network.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for batch in batches:
            reseed(device, dropout + state.step)
            loss = objective.loss(batch)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            state.step += 1
    state.steps += state.step - before
    state.training_seconds += perf_counter() - begun
    return state.step - before


def _optimiser(plan: Plan, state: State, task: int, objective: Objective) -> torch.optim.Optimizer:
    """The task's optimiser: each task keeps its own memory of the shared parameters, as the authors' code does."""
    if task not in state.optimisers:
        state.optimisers[task] = make_optimiser(plan.training, objective.moves.values())
    return state.optimisers[task]


def _evaluations(plan: Plan, state: State, phase: Phase, own: bool, others: bool) -> Iterator[Measured]:
    """Evaluate tasks whose function may have changed: all splits of the phase's own, the test split of others."""
    due = {task for task in state.stale if (own if task in phase.tasks else others)}
    for task in sorted(due):
        for split, data in plan.data[task].items():
            if split == "test" or task in phase.tasks:
                begun = perf_counter()
                accuracy, loss = evaluate(state.network, task, data)
                state.evaluation_seconds += perf_counter() - begun
                yield Measured(state.epochs, phase.training, task, split, accuracy, loss)
    state.stale -= due
