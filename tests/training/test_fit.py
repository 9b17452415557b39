"""The loop: what moves, in what order, what is evaluated when."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
import torch.nn.functional as F

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Batch, Data, Finding, Memory, Objective, Reduction, check_moves
from everlearn.methods.catalogue import make_method
from everlearn.methods.static import StaticTransfer
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.snapshots import put_back, snapshot
from everlearn.seeds import derive, generator
from everlearn.sharing.hard import Hard
from everlearn.tasks.task import TaskStream
from everlearn.training.data import StreamData, training_batches
from everlearn.training.evaluation import Score, evaluate
from everlearn.training.fit import Found, Measured, Plan, State, Tick, learn
from everlearn.training.optimisers import TF1RMSProp
from everlearn.training.settings import Training
from everlearn.training.state import check_memory

Streams = Callable[..., TaskStream]
QUICK = Training(epochs=4, batch=5, rate=1e-3, evaluate_every=2, evaluate_others_every=2)


def prepared(stream: TaskStream, method: str = "hps", training: Training = QUICK, seed: int = 7) -> tuple[Plan, State]:
    built = make_method(method, "digits", len(stream), {})
    network = built.network(make_backbone("digits", (1, 8, 8)), len(stream), seed)
    data = StreamData(stream, torch.device("cpu"), training.memory_format == "channels_last")
    return Plan(built, data, [len(t.classes) for t in stream.tasks], training, seed), State(network)


def measured(plan: Plan, state: State) -> list[Measured]:
    return [event for event in learn(plan, state) if isinstance(event, Measured)]


def numbers(state: State) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in state.network.state_dict().items()}


def test_one_task_equals_a_loop_written_out(tiny_stream: Streams) -> None:
    stream = tiny_stream(tasks=1)
    plan, state = prepared(stream, "stl", Training(epochs=3, batch=5, rate=1e-2, decay=0.5, memory_format="contiguous"))
    by_hand = plan.method.network(make_backbone("digits", (1, 8, 8)), 1, 7)
    plan.method.begin(by_hand, {}, 2)
    measured(plan, state)

    images, labels = stream.tasks[0].train.images, stream.tasks[0].train.labels
    parameters = list(by_hand.used(0).values())
    optimiser = TF1RMSProp(parameters, 1e-2)
    for epoch in range(3):
        optimiser.param_groups[0]["lr"] = 1e-2 / (1 + 0.5 * epoch)
        order = torch.randperm(20, generator=generator(7, "order", 0, epoch))
        for step in range(4):
            torch.manual_seed(derive(7, "dropout", epoch) + step)
            batch = order[5 * step : 5 * step + 5]
            F.cross_entropy(by_hand(images[batch], 0), labels[batch]).backward()
            optimiser.step()
            optimiser.zero_grad()
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(state.network.state_dict()[name], tensor, rtol=0, atol=0, msg=name)


def test_the_sum_of_the_losses_is_the_mean_times_the_batch(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=1), "tf")
    next(learn(plan, state))
    batch = next(training_batches(plan.data[0]["train"], 5, 0, 0, 0, 0))
    state.network.eval()
    mean, total = (plan.method.objective(state.network, {}, 0, 0, r).loss(batch) for r in ("mean", "sum"))
    penalty = state.network.penalty(0)
    assert penalty is not None
    torch.testing.assert_close(total - penalty, 5 * (mean - penalty))


@pytest.mark.parametrize("method", ["stl", "hps", "tf", "df-cnn", "hps@top-2", "df-cnn.tc2@alternating"])
def test_only_what_a_task_uses_moves_while_it_is_trained(tiny_stream: Streams, method: str) -> None:
    plan, state = prepared(tiny_stream(), method)
    before: dict[str, torch.Tensor] = {}
    for event in learn(plan, state):
        if isinstance(event, Tick) and state.phase == 1 and state.stage == 0:
            if not before:
                before = numbers(state)
            if state.epoch == 4:
                break
    after, used = numbers(state), set(state.network.used(1))
    assert {name for name in before if not torch.equal(before[name], after[name])} == used
    assert all(p.grad is None for p in state.network.parameters())


def test_learning_works(tiny_stream: Streams) -> None:
    training = Training(epochs=30, batch=5, rate=3e-3, evaluate_every=30, evaluate_others_every=30)
    for method in ("stl", "hps", "snn", "tf", "df-cnn", "df-cnn.direct", "df-cnn.tc2"):
        plan, state = prepared(tiny_stream(tasks=2), method, training)
        last = {(m.task, m.split): m.accuracy for m in measured(plan, state)}
        assert last[1, "test"] >= 0.9, method


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny_stream: Streams) -> None:
    runs = [prepared(tiny_stream(), "df-cnn", seed=seed) for seed in (7, 7, 8)]
    records = [measured(*run) for run in runs]
    assert records[0] == records[1] != records[2]
    first, second = (numbers(state) for _, state in runs[:2])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluations_are_made_when_due_and_only_of_what_may_have_changed(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=2), "stl")
    tests = [(m.epochs, m.task) for m in measured(plan, state) if m.split == "test"]
    # Phase 1: before, after 2 and 4 epochs; phase 2 likewise. STL's first task cannot change in phase 2.
    assert tests == [(0, 0), (2, 0), (4, 0), (4, 1), (6, 1), (8, 1)]
    plan, state = prepared(tiny_stream(tasks=2), "hps")
    events = measured(plan, state)
    assert [(m.epochs, m.task) for m in events if m.split == "test"] == [
        (0, 0), (2, 0), (4, 0), (4, 1), (6, 0), (6, 1), (8, 0), (8, 1),
    ]  # fmt: skip
    assert {(m.task, m.training) for m in events if m.split == "validation"} == {(0, 0), (1, 1)}


@dataclass(frozen=True)
class Slips(StaticTransfer):
    """A method of a user's with one of the slips that are easily made."""

    slip: str = ""

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        task = super().begin(network, memory, classes)
        if self.slip == "alias":
            memory["before"] = network.shared[0].get_parameter("conv|weight").detach()
        return None if self.slip == "begin" else task  # type: ignore[return-value]

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        found = super().objective(network, memory, task, stage, reduction)
        return replace(found, moves=dict(network.shared.named_parameters())) if self.slip == "short" else found

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        return None if self.slip == "leave" else set()  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("begin", r"Slips\.begin gave None for task 1; it needs to make room for the task and return its position, 0"),
        ("short", r"calls a parameter '0\..*\|bias' that the network calls 'shared\.0\."),
        ("leave", "leave of a method gave None"),
        ("alias", r"memory\['before'\] .* is the network's own 'shared\.0\.conv\|weight', .* keep a copy"),
    ],
)
def test_slips_of_a_method_are_told(tiny_stream: Streams, slip: str, message: str) -> None:
    stream = tiny_stream(tasks=1)
    method = Slips(Hard(), slip=slip)
    network = method.network(make_backbone("digits", (1, 8, 8)), 1, 0)
    classes = [len(task.classes) for task in stream.tasks]
    plan = Plan(method, StreamData(stream, torch.device("cpu"), False), classes, QUICK, 0)
    with pytest.raises(ConfigurationError, match=message):
        measured(plan, State(network))


def test_memory_keeps_tensors_alone(tiny_stream: Streams) -> None:
    _, state = prepared(tiny_stream(tasks=1))
    state.memory["seen"] = torch.zeros(0)
    check_memory(state)
    state.memory["count"] = 3  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=r"memory\['count'\] of a method is a int, but memory keeps tensors"):
        check_memory(state)


def test_moves_are_parameters_by_name() -> None:
    check_moves({"shared.0.conv|weight": torch.nn.Parameter(torch.zeros(1))})
    with pytest.raises(ConfigurationError, match=r"need to be parameters by name .* but came as a list"):
        check_moves(["shared.0.conv|weight"])


def test_a_task_that_was_left_out_would_have_been_the_same(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=2), "stl")
    known = {m.task: Score(m.accuracy, m.loss) for m in measured(plan, state) if m.split == "test"}
    assert evaluate(state.network, 0, plan.data[0]["test"]) == known[0]


def test_accuracy_and_loss_by_hand(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=1), "stl")
    measured(plan, state)
    data = plan.data[0]["test"]
    logits = state.network.eval()(data.take(slice(None)), 0)
    right = sum(int(row.argmax() == label) for row, label in zip(logits, data.labels, strict=True))
    nll = [-float(row.log_softmax(0)[label]) for row, label in zip(logits, data.labels, strict=True)]
    score = evaluate(state.network, 0, data)
    accuracy, loss = score.accuracy, score.loss
    assert (accuracy, loss) == (right / 12, pytest.approx(sum(nll) / 12))


def test_all_tasks_together_train_one_task_an_epoch(tiny_stream: Streams) -> None:
    training = Training(
        protocol="multi-task", epochs=12, batch=5, rate=3e-3, evaluate_every=4, evaluate_others_every=99
    )
    plan, state = prepared(tiny_stream(), "hps", training)
    optimisers: dict[int, list[torch.optim.Optimizer]] = {}
    for event in learn(plan, state):
        optimisers = state.optimisers if isinstance(event, Tick) and state.optimisers else optimisers
    assert state.epochs == 12
    assert len(optimisers) == 3, "in twelve epochs each of three tasks is drawn"
    squares = [next(iter(o.state.values()))["mean_square"] for (o,) in optimisers.values()]
    assert not torch.equal(squares[0], squares[1]), "each task keeps its own memory of the shared parameters"


def test_the_last_images_that_fill_no_batch_are_left_out_of_the_epoch(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=1, train=19), "stl")
    measured(plan, state)
    assert state.steps == 4 * 3
    plan, state = prepared(tiny_stream(tasks=1, train=4), "stl")
    measured(plan, state)
    assert state.steps == 4, "fewer images than a batch are one batch"


def test_factorisation_from_trained_networks(tiny_stream: Streams) -> None:
    training = Training(protocol="multi-task", epochs=6, batch=5, rate=1e-3, evaluate_every=6)
    plan, state = prepared(tiny_stream(), "dmtrl-from-stl", training)
    before: torch.Tensor | None = None
    images = plan.data[1]["test"].take(slice(None))
    for event in learn(plan, state):
        if not isinstance(event, Tick):
            continue
        state.network.eval()
        with torch.no_grad():
            now = state.network(images, 1)
        state.network.train()
        if state.stage == 1 and state.epoch == 0:
            assert state.network.configurations == [(True,) * 3] * 3
            torch.testing.assert_close(now, before, rtol=0.02, atol=0.02)
        before = now
    assert state.epochs == 12
    assert state.network.counts()["shared"] > 0


def test_the_global_generator_is_left_alone(tiny_stream: Streams) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    measured(*prepared(tiny_stream()))
    assert torch.equal(torch.rand(3), expected)


def test_a_state_can_be_left_at_any_tick_and_taken_up(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(), "df-cnn")
    expected = measured(plan, state)
    plan, other = prepared(tiny_stream(), "df-cnn")
    found: list[Measured] = []
    over = False
    while not over:
        over = True
        for event in learn(plan, other):
            if isinstance(event, Measured):
                found.append(event)
            else:
                over = False
                break
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(numbers(state).values(), numbers(other).values(), strict=True))


# ---------------------------------------------------------------- attempts


@dataclass(frozen=True)
class Thrice(StaticTransfer):
    """The second task is trained three times from the same shared numbers; the second time it uses none of them."""

    told: list[tuple[object, ...]] = field(default_factory=list)

    def attempts(self, blocks: int, task: int) -> int:
        return 3 if task == 1 else 1

    def restart(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], attempt: int) -> None:
        self.told.append(("restart", tuple(tasks), attempt))
        if attempt == 0:
            memory |= snapshot(network, ["shared"])
        put_back(network, memory)
        network.restart(tasks[0], (attempt != 1,) * 3)

    def judge(
        self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], attempt: int, accuracy: float
    ) -> None:
        self.told.append(("judge", tuple(tasks), attempt, accuracy))


def test_attempts_rewind_epochs_and_rate_and_are_judged_by_their_best_validation(tiny_stream: Streams) -> None:
    training = replace(QUICK, epochs=2, evaluate_every=1, decay=0.5, rate=3e-3)
    method = Thrice(Hard())
    plan, state = prepared(tiny_stream(), "hps", training)
    plan = replace(plan, method=method)
    seen: list[tuple[int, int, int, float]] = []
    found: list[Measured] = []
    for event in learn(plan, state):
        if isinstance(event, Measured):
            found.append(event)
        elif state.optimisers and state.step == 0:
            (optimiser,) = state.optimisers[state.phase]
            seen.append((state.attempt, state.epochs, state.worked, optimiser.param_groups[0]["lr"]))
            assert isinstance(event, Tick)
            assert event.epochs == state.worked
    # Rate of an epoch: 0.003 / (1 + 0.5 e), e the epochs of the run before it, wherever an attempt counts from.
    rates = [3e-3 / (1 + 0.5 * e) for e in range(6)]
    assert seen == [
        (0, 1, 1, rates[0]), (0, 2, 2, rates[1]),
        (0, 3, 3, rates[2]), (0, 4, 4, rates[3]),
        (1, 3, 5, rates[2]), (1, 4, 6, rates[3]),
        (2, 3, 7, rates[2]), (2, 4, 8, rates[3]),
        (0, 5, 9, rates[4]), (0, 6, 10, rates[5]),
    ]  # fmt: skip
    assert plan.work(state.network) == 10
    assert (state.epochs, state.worked, state.steps) == (6, 10, 10 * 4)
    own = [m for m in found if m.training == m.task == 1 and m.split == "validation"]
    assert [(m.attempt, m.epochs) for m in own] == [(i, e) for i in range(3) for e in (2, 3, 4)]
    assert all(m.attempt is None for m in found if m.training != 1)
    best = [max(m.accuracy for m in own if m.attempt == i) for i in range(3)]
    assert method.told == [
        (what, (1,), i, *more) for i in range(3) for what, *more in (("restart",), ("judge", best[i]))
    ]
    # Nothing of an attempt is left to the next: from the same start they are the same to the last bit.
    assert [replace(m, attempt=0) for m in own[6:]] == own[:3] != [replace(m, attempt=0) for m in own[3:6]]
    others = [(m.attempt, m.epochs) for m in found if m.training == 1 and m.task == 0]
    assert others == [(i, 4) for i in range(3)], "the first task is asked again in each, as each has put it back"


@dataclass(frozen=True)
class Always(Thrice):
    """Every task is tried three times."""

    def attempts(self, blocks: int, task: int) -> int:
        return 3


def test_tasks_learned_together_are_tried_once(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(), "hps", replace(QUICK, protocol="multi-task", epochs=6))
    plan = replace(plan, method=Always(Hard()))
    (phase,) = plan.phases()
    assert (plan.attempts(state.network, phase), plan.work(state.network)) == (1, 6)
    assert replace(plan, training=QUICK).work(state.network) == 3 * 3 * 4


# ---------------------------------------------------------------- several steps a batch, several optimisers

APART = {"tasks.0.head.output.bias": Training(optimiser="adam", rate=0.02, schedule="hyperbolic", decay=1.0)}


@dataclass(frozen=True)
class Steps(StaticTransfer):
    """Two losses a batch: one for a parameter with an optimiser of its own, one for all; batches are counted."""

    def objective(self, network, memory, task, stage, reduction):  # type: ignore[no-untyped-def]
        whole = super().objective(network, memory, task, stage, reduction)

        def steps(batch: Batch) -> Iterator[torch.Tensor]:
            yield network.head(task).output.bias.square().sum()
            yield whole.loss(batch)
            count = memory.get("batches", torch.tensor(0))
            assert int(count) % 4 == batch.step, "what was remembered of the last batch is known"
            memory["batches"] = count + 1

        return Objective(whole.moves, whole.loss, steps, APART)


def test_several_losses_and_optimisers_equal_a_loop_written_out(tiny_stream: Streams) -> None:
    stream = tiny_stream(tasks=1)
    training = Training(epochs=3, batch=5, rate=1e-2, schedule="cosine", memory_format="contiguous")
    plan, state = prepared(stream, "hps", training)
    plan = replace(plan, method=Steps(Hard()))
    by_hand = plan.method.network(make_backbone("digits", (1, 8, 8)), 1, 7)
    plan.method.begin(by_hand, {}, 2)
    measured(plan, state)

    images, labels = stream.tasks[0].train.images, stream.tasks[0].train.labels
    used = by_hand.used(0)
    apart = used.pop("tasks.0.head.output.bias")
    first, second = TF1RMSProp(used.values(), 1e-2), torch.optim.Adam([apart], 0.02)
    for epoch in range(3):
        first.param_groups[0]["lr"] = 1e-2 * (1.0, 0.75, 0.25)[epoch]  # (1 + cos(pi epoch / 3)) / 2
        second.param_groups[0]["lr"] = 0.02 / (1 + epoch)
        order = torch.randperm(20, generator=generator(7, "order", 0, epoch))
        for step in range(4):
            torch.manual_seed(derive(7, "dropout", epoch) + step)
            batch = order[5 * step : 5 * step + 5]
            apart.square().sum().backward()
            second.step()  # nothing else has a gradient, so nothing else moves
            second.zero_grad()
            F.cross_entropy(by_hand(images[batch], 0), labels[batch]).backward()
            for optimiser in (first, second):
                optimiser.step()
                optimiser.zero_grad()
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(state.network.state_dict()[name], tensor, rtol=1e-6, atol=1e-7, msg=name)
    assert int(state.memory["batches"]) == 3 * 4
    assert state.steps == 2 * 3 * 4, "steps of the optimisers, not batches"


# ---------------------------------------------------------------- what is told at a task's end


@dataclass(frozen=True)
class Leaves(StaticTransfer):
    """When the last task is over, the second block's shared numbers are doubled."""

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        if tasks[0] < 2:
            return set()
        back = {name: 2 * t for name, t in snapshot(network, ["shared.1"]).items()}
        put_back(network, back)
        return set(back)


def test_what_leaving_a_task_changes_is_evaluated_again_and_nothing_else(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream())
    plan = replace(plan, method=Leaves(Hard(), "110/101/011"))
    after: list[Measured] = []
    for event in learn(plan, state):
        if isinstance(event, Tick):
            after = [] if state.phase < 3 else after
        elif isinstance(event, Measured):
            after.append(event)
    splits = ("train", "validation", "test")
    assert [(m.epochs, m.training, m.task, m.split) for m in after] == [
        (12, 2, 0, "test"), *((12, 2, 2, split) for split in splits),
    ]  # fmt: skip
    for event in after:
        now = evaluate(state.network, event.task, plan.data[event.task][event.split])
        assert Score(event.accuracy, event.loss) == now


@dataclass(frozen=True)
class Finds(StaticTransfer):
    """The second task's finding says how often the network was made to answer."""

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        memory["presented"] = torch.tensor(0)
        return super().begin(network, memory, classes)

    def present(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> None:
        memory["presented"] += 1

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding | None:
        return Finding(network.configurations[task], blocks=(float(memory["presented"]),)) if task == 1 else None


def test_findings_are_told_with_the_tasks_evaluations_and_when_it_is_settled(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream())
    plan = replace(plan, method=Finds(Hard()))
    found: list[Found] = []
    last: Measured | None = None
    for event in learn(plan, state):
        if isinstance(event, Found):
            assert last is not None
            assert (last.epochs, last.training) == (event.epochs, 1), "told after the evaluations"
            found.append(event)
        last = event if isinstance(event, Measured) else last
    # Evaluated before the second task's four epochs, every two of them, and asked once more at its end.
    assert [(f.epochs, f.task, f.settled, f.finding.blocks[0]) for f in found] == [
        (4, 1, False, 1), (6, 1, False, 2), (8, 1, False, 3), (8, 1, True, 4),
    ]  # fmt: skip
