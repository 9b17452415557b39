"""The loop beyond one task at a time: trained tasks, images of several tasks, plateaus, paces, several labels."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Objective
from everlearn.methods.catalogue import make_method
from everlearn.methods.fine_tuning import FineTuning
from everlearn.networks.backbone import TrainedTask
from everlearn.tasks.task import Task, TaskStream
from everlearn.testing.methods import made_stream
from everlearn.training.data import StreamData, training_batches
from everlearn.training.evaluation import evaluate, mean_average_precision
from everlearn.training.optimisers import make_optimisers, rate_at, set_rate
from everlearn.training.protocol import interleaved_batches, make_phases
from everlearn.training.settings import Training
from tests.methods.family import QUICK, begun, learned, multi_label_stream, numbers, same, small


def sizes(*counts: int) -> dict[int, object]:
    stream = TaskStream("made", 0, tuple(
        replace(made_stream(tasks=1, train=count).tasks[0], name=str(place)) for place, count in enumerate(counts)
    ))  # fmt: skip
    data = StreamData(stream, torch.device("cpu"), False)
    return {task: data[task]["train"] for task in range(len(counts))}


def test_tasks_take_turns_with_equally_many_images() -> None:
    batches = list(interleaved_batches(sizes(20, 13, 30), 5, 3, 7, 0))  # type: ignore[arg-type]
    assert [batch.task for batch in batches] == [0, 1, 2] * 2
    assert [batch.step for batch in batches] == list(range(6))
    orders = [[b.index.tolist() for b in training_batches(d, 5, 3, t, 7, 0)][:2] for t, d in sizes(20, 13, 30).items()]  # type: ignore[arg-type]
    assert [batch.index.tolist() for batch in batches] == [orders[place % 3][place // 3] for place in range(6)]


@pytest.mark.parametrize("start", range(7))
def test_turns_go_on_from_any_batch(start: int) -> None:
    whole = list(interleaved_batches(sizes(20, 13, 30), 5, 3, 7, 0, 2))  # type: ignore[arg-type]
    assert [len(batch.labels) for batch in whole] == [5] * 6, "of several tasks none are given as one"
    rest = list(interleaved_batches(sizes(20, 13, 30), 5, 3, 7, start))  # type: ignore[arg-type]
    assert [(b.step, b.task, b.index.tolist()) for b in rest] == [
        (b.step, b.task, b.index.tolist()) for b in whole[start:]
    ]


def test_another_epoch_takes_other_images_of_the_larger_task() -> None:
    seen = [
        {i for b in interleaved_batches(sizes(60, 10), 5, 3, epoch, 0) if b.task == 0 for i in b.index.tolist()}  # type: ignore[arg-type]
        for epoch in range(2)
    ]
    assert [len(images) for images in seen] == [10, 10]
    assert seen[0] != seen[1]


def test_a_task_smaller_than_a_batch_is_a_batch() -> None:
    batches = list(interleaved_batches(sizes(3, 20), 5, 0, 0, 0))  # type: ignore[arg-type]
    assert [(batch.task, len(batch.index)) for batch in batches] == [(0, 3), (1, 3)]


def test_paces_are_factors_of_the_rate() -> None:
    moves = {name: torch.nn.Parameter(torch.zeros(2)) for name in "abc"}
    objective = Objective(moves, lambda batch: torch.zeros(()), pace={"b": 0.1})
    (optimiser,) = make_optimisers(Training(optimiser="sgd", rate=1.0), objective)
    set_rate(optimiser, 0.5)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert [rates[id(moves[name])] for name in "abc"] == [0.5, pytest.approx(0.05), 0.5]


def test_the_rate_drops_once_at_a_share_of_a_stage() -> None:
    training = Training(schedule="step", rate=1.0, drop_at=0.6)
    assert [rate_at(training, 100 + e, e, 5) for e in range(5)] == [1, 1, 1, pytest.approx(0.1), pytest.approx(0.1)]


def test_the_rate_drops_once_on_a_plateau() -> None:
    """Epochs after which the best validation accuracy is `patience` old have a tenth of the rate, for good."""
    training = replace(QUICK, schedule="plateau", patience=2, epochs=12, evaluate_every=1, rate=1e-9)
    plan, state = begun(FineTuning(warm_up=0.0), made_stream(tasks=1), training=training)
    rates: list[tuple[int, float]] = []
    learned(
        plan, state, lambda s: bool(s.optimisers and rates.append((s.epoch, s.optimisers[0][0].param_groups[0]["lr"])))
    )
    # At such a rate nothing is learned: the accuracy of the first evaluation, before any epoch, is never beaten.
    by_epoch = dict(rates)
    assert [round(by_epoch[epoch] / 1e-9, 6) for epoch in (1, 2, 3, 12)] == [1, 1, 0.1, 0.1]


def test_a_new_stage_begins_with_the_whole_rate() -> None:
    training = replace(QUICK, schedule="plateau", patience=1, epochs=8, evaluate_every=1, rate=1e-9)
    plan, state = begun(FineTuning(warm_up=0.5), made_stream(tasks=2), training=training)
    seen: list[tuple[int, int, float]] = []

    def note(s: object) -> bool:
        if state.optimisers.get(state.phase) and state.epoch:
            seen.append((state.phase, state.stage, state.optimisers[state.phase][0].param_groups[0]["lr"]))
        return False

    learned(plan, state, note)
    for phase, stage in ((0, 1), (1, 0), (1, 1)):
        rates = [rate for p, s, rate in seen if (p, s) == (phase, stage)]
        assert rates[0] == pytest.approx(1e-9)
        assert rates[-1] == pytest.approx(1e-10)


def test_plateau_is_of_one_task() -> None:
    with pytest.raises(ConfigurationError, match="follows one task"):
        Training(schedule="plateau", protocol="multi-task")


def test_phases_of_trained_tasks_have_no_epoch() -> None:
    phases = make_phases(replace(QUICK, epochs=8), FineTuning(), 3, trained=1)
    assert [(phase.first, phase.last) for phase in phases] == [(0, 0), (0, 10), (10, 20)]
    phases = make_phases(replace(QUICK, epochs=8), FineTuning(), 3, trained=1, done=5)
    assert [(phase.first, phase.last) for phase in phases] == [(5, 5), (5, 15), (15, 25)]


def trained_backbone() -> tuple[TaskStream, object]:
    """A stream, and the small backbone after its first task was learned."""
    stream = made_stream()
    plan, state = begun(FineTuning(), TaskStream("made", 0, stream.tasks[:1]))
    learned(plan, state)
    plain = state.network.export(0)
    first = stream.tasks[0]
    blocks = tuple(plain.get_submodule(f"block{place}") for place in (1, 2, 3))
    known = TrainedTask(first.name, first.classes, plain.get_submodule("head"))
    return stream, replace(small(), blocks=blocks, start="given", trained=(known,))


@pytest.mark.parametrize(
    "name", ["fine-tuning", "lwf", "joint", "feature-extraction", "l2", "ewc", "expansion", "hps", "stl"]
)
def test_going_on_from_a_trained_network(name: str) -> None:
    stream, backbone = trained_backbone()
    method = make_method(name, "small", 3, {"nodes": 3, "hidden": 4})
    assert method.takes_trained
    plan, state = begun(method, stream, backbone)  # type: ignore[arg-type]
    records = learned(plan, state)
    start = [r for r in records if r.epochs == 0 and r.training == 0]
    assert [(r.task, r.split) for r in start] == [(0, "validation"), (0, "test")]
    assert start[1].accuracy >= 0.9, "the network came trained"
    assert {r.epochs for r in records if r.training == 0} == {0}
    assert any(r.task == 0 and r.training == 2 for r in records) == (
        name not in ("feature-extraction", "expansion", "stl")
    )


def test_a_trained_task_needs_no_image() -> None:
    stream, backbone = trained_backbone()
    empty = Task(stream.tasks[0].name, stream.tasks[0].classes)
    found = []
    for tasks in (stream.tasks, (empty, *stream.tasks[1:])):
        plan, state = begun(make_method("lwf", "small", 3, {}), TaskStream("made", 0, tasks), backbone)  # type: ignore[arg-type]
        records = learned(plan, state)
        found.append(numbers(state))
    assert same(*found)
    assert 0 not in {record.task for record in records}


def test_mean_average_precision_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    # The first label: hits at ranks 1 and 3: (1/1 + 2/3) / 2; the second at rank 1.
    assert mean_average_precision(scores, labels) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    # A label that no image has does not count.
    wider = torch.cat([labels, torch.zeros(3, 1)], 1), torch.cat([scores, torch.ones(3, 1)], 1)
    assert mean_average_precision(wider[1], wider[0]) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_evaluation_of_several_labels() -> None:
    plan, state = begun(FineTuning(), multi_label_stream())
    learned(plan, state)
    test = plan.data[1]["test"]
    score = evaluate(state.network, 1, test)
    accuracy, loss = score.accuracy, score.loss
    state.network.eval()
    with torch.no_grad():
        logits = state.network(test.take(slice(None)), 1)
    assert accuracy == pytest.approx(average_precision_score(test.labels.numpy(), logits.numpy()))
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, test.labels, reduction="none").sum(1)
    assert loss == pytest.approx(float(each.mean()))


@pytest.mark.parametrize("augment", ["flip", "crop+flip+colour"])
def test_augmented_images_reach_the_loss_and_resume(augment: str) -> None:
    training = replace(QUICK, augment=augment)
    first, again, plain = (begun(FineTuning(), made_stream(tasks=2), training=t) for t in (training, training, QUICK))
    assert learned(*first) == learned(*again)
    learned(*plain)
    assert same(numbers(first[1]), numbers(again[1]))
    assert not same(numbers(first[1]), numbers(plain[1]))
