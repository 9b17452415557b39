"""Recorded evaluations. Without a GPU what records and launches them is a stand-in; all around it is the real thing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from everlearn.methods.base import Objective
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.testing.methods import made_stream
from everlearn.training import graphs, optimisers, replays
from everlearn.training.data import StreamData
from everlearn.training.evaluation import evaluate
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn
from everlearn.training.graphs import Given, Side
from everlearn.training.replays import WARM_UP
from everlearn.training.settings import Training

EPOCHS = 6


class StandIn(Side):
    """Does what a GPU would record; recordings and launches of evaluations are counted."""

    recordings, launches, broken = 0, 0, False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def take(self, work: Callable[[], Given]) -> Given:
        return work()

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        if "Replays" not in work.__qualname__:
            return lambda: ignored(work())
        if StandIn.broken:
            raise RuntimeError("operation not permitted")
        StandIn.recordings += 1

        def launch() -> None:
            StandIn.launches += 1
            work()

        return launch


def ignored(_: object) -> None:
    pass


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "recordings", 0)
    monkeypatch.setattr(StandIn, "launches", 0)
    monkeypatch.setattr(StandIn, "broken", False)
    monkeypatch.setattr(graphs, "Side", StandIn)
    monkeypatch.setattr(optimisers, "RECORDING", {"cpu"})


def trained(method: str, **settings: Any) -> State:
    """Train two tasks; each number that is told of one is what an evaluation finds there and then."""
    built = make_method(method, "digits", 2, {})
    state = State(built.network(make_backbone("digits", (1, 8, 8)), 2, 7))
    data = StreamData(made_stream(tasks=2), torch.device("cpu"), last=True)
    quick = {"epochs": EPOCHS, "batch": 5, "rate": 1e-3, "evaluate_every": 1, "evaluate_others_every": 1}
    for event in learn(Plan(built, data, [2, 2], Training(**{**quick, **settings}), 7), state):
        if isinstance(event, Measured):
            score = evaluate(state.network, event.task, data[event.task][event.split], event.auroc is not None)
            assert (event.accuracy, event.loss, event.auroc) == (score.accuracy, score.loss, score.auroc)
    return state


@pytest.mark.parametrize("method", ["hps", "df-cnn", "lwf", "lasem-hps"])
def test_the_task_in_training_is_evaluated_by_recordings(method: str) -> None:
    trained(method)
    assert StandIn.recordings == 2 * 3, "a recording for each split of each task"
    # One more evaluation comes before the first epoch; its numbers lie elsewhere in memory.
    assert StandIn.launches == 2 * 3 * (EPOCHS - WARM_UP)


@pytest.mark.parametrize("settings", [{"graphs": False}, {"augment": "flip"}, {"optimiser": "adam"}])
def test_only_where_steps_are_recorded(settings: dict[str, Any]) -> None:
    trained("hps", **settings)
    assert StandIn.recordings == 0


def test_the_area_under_the_curve_needs_all_logits() -> None:
    trained("hps", auroc=True)
    assert StandIn.recordings == 2 * 2, "the test split is asked as it is"


def test_answers_that_somebody_knows_are_not_recorded() -> None:
    trained("feature-extraction")
    assert StandIn.recordings == 3, "of the first task, which trains the trunk"


def test_an_evaluation_that_cannot_be_recorded_is_made_as_it_is() -> None:
    StandIn.broken = True
    state = trained("hps")
    assert len(state.warnings) == 2, "one a task"
    assert "an evaluation could not be recorded as a CUDA graph (operation not permitted)" in state.warnings[0]


@pytest.mark.parametrize("kind", ["parameters", "buffers", "structure", "side"])
def test_what_is_made_otherwise_or_lies_elsewhere_is_recorded_anew(kind: str) -> None:
    method = make_method("lasem-hps", "digits", 1, {})
    network = method.network(make_backbone("digits", (1, 8, 8)), 1, 0)
    method.begin(network, {}, 2)
    network.part(0).register_buffer("extra_numbers", torch.zeros(1))
    data = StreamData(made_stream(tasks=1), torch.device("cpu"), last=True)[0]["test"]
    found = replays.Replays(network, [])
    steps = graphs.Recording(
        lambda _: 1, 1, Objective({}, lambda batch: batch.images.sum()), StandIn(network.device), []
    )
    found.admit(0, steps)
    for expected in (0, 0, 1, 1):
        found.ask(0, "test", data)()
        assert StandIn.recordings == expected
    if kind == "structure":
        network.choose(0, tuple(not transfer for transfer in network.structures[0].configuration))
    elif kind == "side":
        steps.side.spoilt = True
    else:
        for tensor in getattr(network, kind)():
            tensor.data = tensor.data * 2
    score = found.ask(0, "test", data)()
    assert StandIn.recordings == 2
    assert score == evaluate(network, 0, data)


def test_where_steps_turn_out_not_to_be_recorded_evaluations_are_not_either() -> None:
    method = make_method("hps", "digits", 1, {})
    network = method.network(make_backbone("digits", (1, 8, 8)), 1, 0)
    method.begin(network, {}, 2)
    data, found = (
        StreamData(made_stream(tasks=1), torch.device("cpu"), last=True)[0]["test"],
        replays.Replays(network, []),
    )
    steps = graphs.Recording(
        lambda _: 1, 1, Objective({}, lambda batch: batch.images.sum()), StandIn(network.device), []
    )
    found.admit(0, steps)
    steps.impossible = True
    for _ in range(4):
        found.ask(0, "test", data)()
    assert StandIn.recordings == 0


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_leaves_dropout_as_it_was(training: bool) -> None:
    network = make_method("hps", "digits", 1, {}).network(make_backbone("digits", (1, 8, 8)), 1, 0)
    network.add_task(2, (True,) * 3)
    network.train(training)
    evaluate(network, 0, StreamData(made_stream(tasks=1), torch.device("cpu"), last=True)[0]["test"])
    assert {module.training for module in network.modules()} == {training}
