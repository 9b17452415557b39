"""The loop, in one piece: tasks, attempts, stages, epochs, batches.

`learn` is a generator. It yields a `Measured` for every evaluation, a `Found` where the method says what it has found
out about the task in training, and a `Tick` wherever it may be stopped: what is
in the `State` then is all that is needed to go on (`learn` with that state continues bit for bit on the CPU). The
caller writes records, shows progress, saves states; there are no callbacks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from time import perf_counter

import torch

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Objective
from everlearn.seeds import derive
from everlearn.training.evaluation import Score, changed
from everlearn.training.events import Event, Found, Measured, Tick
from everlearn.training.graphs import Recording, recording
from everlearn.training.keeping import Known, filled, keep, room
from everlearn.training.optimisers import make_optimisers, rate_at, release, set_rate
from everlearn.training.precision import denormals_as_zero, exact
from everlearn.training.protocol import Phase, interleaved_batches, steps_of_epoch, task_of_epoch
from everlearn.training.replays import Replays
from everlearn.training.state import Plan, State, check_memory
from everlearn.training.steps import finish, step_of, take_steps

TICK_STEPS = 100
"""Steps between two ticks inside an epoch: often enough to be stopped at, too seldom to cost anything."""


def learn(plan: Plan, state: State) -> Iterator[Event]:
    """Train through all phases from wherever the state stands, changing it in place."""
    method, network, phases = plan.method, state.network, plan.phases()
    while state.phase < len(phases):
        phase = phases[state.phase]
        if state.stage < 0 and state.attempt == 0:
            for task in phase.tasks:
                begun = method.begin(network, state.memory, plan.classes[task])
                if begun != task:
                    raise ConfigurationError(
                        f"{type(method).__name__}.begin gave {begun!r} for task {task + 1}; it needs to make room for "
                        f"the task and return its position, {task} (task = network.add_task(...); return task)."
                    )
            state.stale |= set(phase.tasks)
        attempts = plan.attempts(network, phase)
        while state.attempt < attempts:
            if state.stage < 0:
                _start_attempt(plan, state, phase, attempts)
                yield from _next_stage(plan, state, phase)
            while state.stage < len(method.stages):
                yield from _stage(plan, state, phase)
                yield from _next_stage(plan, state, phase)
            if attempts > 1:
                method.judge(network, state.memory, phase.tasks, state.attempt, state.score)
            state.attempt, state.stage = state.attempt + 1, -1
            if state.attempt < attempts:
                yield Tick(state.worked, state.phase)
        yield from _leave(plan, state, phase)
        state.phase, state.attempt = state.phase + 1, 0
        state.seconds.append(state.training_seconds)
        yield Tick(state.worked, state.phase)


def _start_attempt(plan: Plan, state: State, phase: Phase, attempts: int) -> None:
    state.epochs, state.score = phase.first, 0.0
    if attempts > 1:
        plan.method.restart(state.network, state.memory, phase.tasks, state.attempt)
        state.stale |= set(range(len(state.network.tasks)))


def _next_stage(plan: Plan, state: State, phase: Phase) -> Iterator[Event]:
    release(chain(*state.optimisers.values()))
    state.stage, state.epoch, state.step, state.optimisers = state.stage + 1, 0, 0, {}
    state.best, state.best_epoch, state.dropped = -1.0, 0, False
    if state.stage < len(plan.method.stages):
        with _timed(state):
            plan.method.enter(state.network, state.memory, phase.tasks, state.stage, plan.images(phase))
        state.stale |= set(phase.tasks)
        yield Tick(state.worked, state.phase)


@contextmanager
def _timed(state: State) -> Iterator[None]:
    """Steps, and what a method does between stages."""
    begun = perf_counter()
    with denormals_as_zero(), exact(state.network.device):
        yield
    state.training_seconds += perf_counter() - begun


def _leave(plan: Plan, state: State, phase: Phase) -> Iterator[Event]:
    """Settle the phase; what was changed by that is evaluated once more, and what was found is told."""
    network = state.network
    if plan.attempts(network, phase):
        state.warnings += plan.method.doubts(network, state.memory, phase.tasks)
    with _timed(state):
        moved = plan.method.leave(network, state.memory, phase.tasks, plan.images(phase))
    state.stale |= changed(network, moved, range(len(network.tasks)))
    yield from _evaluations(plan, state, phase, own=True, others=True, settled=True)


def _stage(plan: Plan, state: State, phase: Phase) -> Iterator[Event]:
    """The epochs of one stage, and the evaluations that are due after them."""
    training, epochs = plan.training, plan.method.epochs(state.stage, plan.training.epochs, phase.tasks[0])
    if epochs == 0:
        return
    if not plan.method.needed(state.network, state.memory, phase.tasks[0], state.stage):
        state.epochs, state.worked = state.epochs + epochs, state.worked + epochs
        return
    check_memory(state)
    objectives: dict[int, Objective] = {}
    affected: dict[int, set[int]] = {}
    recordings: dict[int, Recording | None] = {}
    known: dict[int, Known] = {}
    replays = Replays(state.network, state.warnings)
    state.network.train().requires_grad_(False)
    if not phase.together and state.epoch < epochs:
        objectives[phase.tasks[0]], known[phase.tasks[0]] = _objective(plan, state, phase.tasks[0])
    if state.epoch == state.step == 0:
        yield from _evaluations(plan, state, phase, own=True, others=False, known=known)
    while state.epoch < epochs:
        task = task_of_epoch(phase.tasks, plan.seed, state.epochs)
        if task not in objectives:
            objectives[task] = plan.method.objective(state.network, state.memory, task, state.stage, training.reduction)
        if task not in affected:
            affected[task] = changed(state.network, objectives[task].moves, range(len(state.network.tasks)))
        optimisers = _optimisers(plan, state, task, objectives[task])
        settings = [training, *objectives[task].apart.values()]
        rates = [rate_at(own, state.epochs, state.epoch, epochs, state.dropped) for own in settings]
        for optimiser, rate in zip(optimisers, rates, strict=True):
            set_rate(optimiser, rate)
        if task not in recordings:
            recordings[task] = recording(objectives[task], optimisers, training, state.network.device, state.warnings)
        yield from _epoch(plan, state, task, objectives[task], optimisers, rates[0], recordings[task])
        replays.admit(task, recordings[task])
        state.stale |= affected[task]
        over = state.epoch == epochs
        own = over or state.epoch % training.evaluate_every == 0
        others = over or state.epoch % training.evaluate_others_every == 0
        yield from _evaluations(plan, state, phase, own, others, known, replays=replays)
        if training.schedule == "plateau" and own and state.epoch - state.best_epoch >= training.patience:
            state.dropped = True
        yield Tick(state.worked, state.phase)


def _objective(plan: Plan, state: State, task: int) -> tuple[Objective, Known]:
    """A task's objective, with what is kept of its training images, and the answers that can be had from what is kept.

    Not where several tasks are learned together, whose objectives are all there at once.
    """
    training = plan.training
    objective = plan.method.objective(state.network, state.memory, task, state.stage, training.reduction)
    sources = plan.method.sources(task, state.stage)
    plain = {one: plan.data[one]["train"] for one in sources if plan.augmentation(one) is None}
    with _timed(state):
        rows = keep(objective, plain, training, derive(plan.seed, "still", task, state.stage))
    mine = rows.get(task, ()) if training.precision == "float32" else ()  # as evaluations are
    run = partial(state.network, task=task)
    return filled(objective, rows), Known(objective, run, room(state.network.device), mine)


def _epoch(
    plan: Plan,
    state: State,
    task: int,
    objective: Objective,
    optimisers: Sequence[torch.optim.Optimizer],
    rate: float,
    recorded: Recording | None = None,
) -> Iterator[Event]:
    """What is left of one epoch, a hundred steps at a time."""
    step = recorded or step_of(objective, optimisers, plan.training, state.network.device, rate)
    sources = plan.method.sources(task, state.stage)
    data = {source: plan.data[source]["train"] for source in sources}
    together, whole = recorded.together(data) if recorded else 1, steps_of_epoch(data, plan.training.batch)
    batches = interleaved_batches(data, plan.training.batch, plan.seed, state.epochs, state.step, together)
    seed = derive(plan.seed, "dropout", state.epochs)
    for parameter in objective.moves.values():
        parameter.requires_grad_(True)
    changes = {source: plan.augmentation(source) for source in sources}
    while state.step < whole:
        with _timed(state):
            some = islice(batches, TICK_STEPS // together)
            state.steps += take_steps(state.network, step, some, changes, seed)
            state.step = min(whole, state.step + TICK_STEPS)
            if state.step < whole:
                finish(state.network.device)
        if state.step < whole:
            yield Tick(state.worked, state.phase)
    for parameter in objective.moves.values():
        parameter.requires_grad_(False)
    state.epoch, state.epochs, state.worked, state.step = state.epoch + 1, state.epochs + 1, state.worked + 1, 0


def _is_evaluated(plan: Plan, task: int, split: str, own: bool) -> bool:
    """Whether it is the turn of a split of a task: all splits of the phase's own, the test split of others."""
    if own:
        return split != "train" or task >= plan.trained  # of one that came trained there may be a million images
    return split == "test" or (split == "validation" and plan.training.validate_others)


def _optimisers(plan: Plan, state: State, task: int, objective: Objective) -> list[torch.optim.Optimizer]:
    """The task's optimisers: each task keeps its own memory of the shared parameters, as the authors' code does."""
    if task not in state.optimisers:
        state.optimisers[task] = make_optimisers(plan.training, objective)
    return state.optimisers[task]


def _evaluations(
    plan: Plan,
    state: State,
    phase: Phase,
    own: bool,
    others: bool,
    known: Mapping[int, Known] | None = None,
    settled: bool = False,
    replays: Replays | None = None,
) -> Iterator[Measured | Found]:
    """Evaluate tasks whose function may have changed. Once the phase is settled, that is of no single attempt."""
    network, several = state.network, plan.attempts(state.network, phase) > 1
    replays = replays or Replays(network, state.warnings)
    attempt = state.attempt if several and not settled else None
    due = {task for task in state.stale if (own if task in phase.tasks else others)}
    if own or due:
        plan.method.present(network, state.memory, phase.tasks)
    if due:
        with _timed(state):
            finish(network.device)
    for task in sorted(due):
        begun, asked = perf_counter(), dict[str, Callable[[], Score]]()
        for split, data in plan.data[task].items():
            if _is_evaluated(plan, task, split, task in phase.tasks):
                answers = known[task].of(split, data) if known and task in known else None
                asked[split] = replays.ask(task, split, data, plan.training.auroc and split == "test", answers)
        if not network.training:  # where all was recorded, nothing had to change
            network.train()
        scores = {split: score() for split, score in asked.items()}
        state.evaluation_seconds += perf_counter() - begun
        for split, score in scores.items():
            if split == "validation" and task in phase.tasks:
                state.score = max(state.score, score.accuracy)
                if score.accuracy > state.best:
                    state.best, state.best_epoch = score.accuracy, state.epoch
            yield Measured(state.epochs, phase.training, task, split, score.accuracy, score.loss, attempt, score.auroc)
    state.stale -= due
    for task in phase.tasks if own else ():
        finding = plan.method.finding(network, state.memory, task)
        if finding is not None:
            yield Found(state.epochs, task, finding, settled)
