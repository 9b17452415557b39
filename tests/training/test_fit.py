"""The loop: what moves, in what order, what is evaluated when."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.seeds import derive, generator
from everlearn.tasks.task import TaskStream
from everlearn.training.data import StreamData, training_batches
from everlearn.training.evaluation import evaluate
from everlearn.training.fit import Measured, Plan, State, Tick, learn
from everlearn.training.optimisers import TF1RMSProp
from everlearn.training.settings import Training

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


def test_a_task_that_was_left_out_would_have_been_the_same(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=2), "stl")
    known = {m.task: (m.accuracy, m.loss) for m in measured(plan, state) if m.split == "test"}
    assert evaluate(state.network, 0, plan.data[0]["test"]) == known[0]


def test_accuracy_and_loss_by_hand(tiny_stream: Streams) -> None:
    plan, state = prepared(tiny_stream(tasks=1), "stl")
    measured(plan, state)
    data = plan.data[0]["test"]
    logits = state.network.eval()(data.take(slice(None)), 0)
    right = sum(int(row.argmax() == label) for row, label in zip(logits, data.labels, strict=True))
    nll = [-float(row.log_softmax(0)[label]) for row, label in zip(logits, data.labels, strict=True)]
    accuracy, loss = evaluate(state.network, 0, data)
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
