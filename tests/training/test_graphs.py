"""Recorded steps. Without a GPU what records and launches them is a stand-in; all around it is the real thing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from everlearn.methods.base import Batch, Objective
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.testing.methods import CHECKS, TRAINING, made_stream
from everlearn.training import graphs, optimisers
from everlearn.training.data import Resident, StreamData, Streamed
from everlearn.training.events import Tick
from everlearn.training.fit import TICK_STEPS, Plan, State, learn
from everlearn.training.graphs import MOST, TOGETHER, WARM_UP, Given, Recording, Side, recording
from everlearn.training.optimisers import RecordableRMSProp, TF1RMSProp, make_optimiser, set_rate
from everlearn.training.settings import Training
from everlearn.training.steps import step_of

QUICK: dict[str, Any] = {"epochs": 3, "batch": 5, "rate": 1e-3, "evaluate_every": 3}


ON = Training(graphs=True)
CPU = torch.device("cpu")


class StandIn(Side):
    """Takes and launches steps where a GPU would."""

    counts: ClassVar[list[int]]

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def take(self, work: Callable[[], Given]) -> Given:
        return work()

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        place = len(self.counts)
        self.counts.append(0)

        def launch() -> None:
            steps = work()
            self.counts[place] += steps if isinstance(steps, int) else 0

        return launch


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each recording has taken; launching takes the steps that were recorded."""
    StandIn.counts = []
    monkeypatch.setattr(graphs, "Side", StandIn)
    monkeypatch.setattr(optimisers, "RECORDING", {"cpu"})
    return StandIn.counts


def trained(method: str, **settings: Any) -> State:
    built = make_method(method, "digits", 2, {"warm_up": 0.0} if method == "joint" else {})
    state = State(built.network(make_backbone("digits", (1, 8, 8)), 2, 7))
    data = StreamData(made_stream(tasks=2), torch.device("cpu"), last=True)
    for _ in learn(Plan(built, data, [2, 2], Training(**{**QUICK, **settings}), 7), state):
        pass
    return state


def assert_same(state: State, other: State, atol: float = 1e-6) -> None:
    for name, tensor in state.network.state_dict().items():
        torch.testing.assert_close(tensor, other.network.state_dict()[name], rtol=1e-5, atol=atol, msg=name)


@pytest.mark.parametrize("method", ["hps", "df-cnn", "l2", "ewc", "lwf", "feature-extraction", "lasem-tf", "den"])
def test_recorded_steps_train_as_others_do(method: str, launches: list[int]) -> None:
    plain, recorded = (trained(method, graphs=on) for on in (False, True))
    # A head that DEN chooses units by has weights of some twenty; what is small beside them has their rounding.
    assert_same(plain, recorded, atol=1e-3 if method == "den" else 1e-6)
    assert plain.steps == recorded.steps
    # DEN has stages of one epoch.
    assert len(launches) >= (1 if method == "den" else 2), "a recording for each task"
    assert set(launches) == {8}, "an epoch of four steps as they are, then two of recorded ones"


@pytest.mark.parametrize(("together", "expected"), [(1, [22, 22]), (2, [16, 2, 16, 2]), (20, [20, 20])])
def test_several_steps_are_recorded_as_one(
    together: int, expected: list[int], launches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "TOGETHER", together)
    plain, recorded = (trained("hps", graphs=on, batch=4, epochs=5) for on in (False, True))
    assert_same(plain, recorded)
    assert plain.steps == recorded.steps == 2 * 5 * 5
    assert launches == expected


def made(size: int) -> Recording:
    """What takes no steps, and says that it took one."""
    return Recording(lambda _: 1, size, Objective({}, lambda batch: batch.images.sum()), StandIn(CPU), [])


def test_images_that_are_decoded_when_needed_come_batch_by_batch() -> None:
    resident = Resident(torch.zeros(9, 1, 2, 2), torch.zeros(9), False)
    assert made(4).together({0: resident}) == TOGETHER
    assert made(4).together({0: resident, 1: resident}) == 1
    assert made(4).together({0: Streamed.__new__(Streamed)}) == 1


def test_images_that_take_much_memory_come_batch_by_batch() -> None:
    image = torch.zeros(1, 1, 64, 64)
    fitting = MOST // (TOGETHER * image.nbytes)
    resident = Resident(image, torch.zeros(1), False)
    assert made(fitting).together({0: resident}) == TOGETHER
    assert made(fitting + 1).together({0: resident}) == 1


def test_each_of_them_is_told_its_place_in_the_epoch() -> None:
    seen: list[tuple[int, int]] = []
    steps = made(2)
    steps.step = lambda batch: seen.append((batch.step, len(batch.labels))) or 1
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64), torch.arange(6), 20)
    assert steps(batch) == 3
    assert seen == [(20, 2), (21, 2), (22, 2)]


def test_an_epoch_of_many_steps_may_be_stopped_at_every_hundredth(launches: list[int]) -> None:
    method, data = make_method("hps", "digits", 1, {}), StreamData(made_stream(1, train=250), CPU, last=True)
    state, seen = State(method.network(make_backbone("digits", (1, 8, 8)), 1, 7)), list[tuple[int, int]]()
    for event in learn(Plan(method, data, [2], Training(epochs=2, batch=2), 7), state):
        if isinstance(event, Tick):
            seen.append((state.epochs, state.step))
            assert state.steps == 125 * state.epochs + state.step
    assert [one for one in seen if one[1]] == [(0, 100), (1, 100)]
    # Of the first epoch the first twenty and the last five steps are taken as they are.
    assert sorted(launches) == [5, 220]


@pytest.mark.usefixtures("launches")
def test_dropout_is_seeded_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = trained("hps")
    torch.manual_seed(2)
    assert_same(first, trained("hps"), atol=0)


@pytest.mark.usefixtures("launches")
def test_after_a_recording_has_failed_anywhere_steps_are_recorded_anew() -> None:
    steps, other, images = made(2), made(2), torch.zeros(6, 1, 2, 2)
    batch = Batch(images, torch.zeros(6, dtype=torch.int64), torch.arange(6))
    for one in (steps, other):
        assert [one(batch), one(batch)] == [3, 3]
    assert len(StandIn.counts) == 2
    before = steps.side
    before.spoilt = True
    assert [steps(batch), other(batch)] == [3, 3]
    assert steps.side is not before
    assert len(StandIn.counts) == 3


def test_a_checkpoint_may_lie_between_any_two_recordings() -> None:
    assert TICK_STEPS % TOGETHER == 0


def test_the_batches_of_several_tasks_have_a_recording_each(launches: list[int]) -> None:
    plain, recorded = (trained("joint", graphs=on) for on in (False, True))
    assert_same(plain, recorded)
    assert len(launches) == 3, "the first task's, and both in turn"
    assert launches == [8, 12 - WARM_UP, 12 - WARM_UP], "each recording after steps on its own task's images"


@pytest.mark.parametrize(("method", "settings"), [("darts-hps", {}), ("hps", {"augment": "flip"})])
def test_what_is_not_the_same_each_time_is_not_recorded(
    method: str, settings: dict[str, Any], launches: list[int]
) -> None:
    assert trained(method, graphs=True, **settings).steps > 0
    assert launches == []
    assert trained("hps", graphs=False).steps > 0
    assert launches == []


@pytest.mark.usefixtures("launches")
def test_what_is_done_after_a_step_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective({}, lambda batch: batch.images.sum())
    assert recorded(objective)
    assert recorded(replace(objective, before=lambda: None))
    assert not recorded(replace(objective, after=lambda _: None)), "whose rate is nowhere on the device"
    several = replace(objective, steps=lambda batch: iter([objective.loss(batch)]))
    assert not recorded(several)
    assert recorded(replace(several, alike=True))
    assert not recorded(replace(objective, apart={"alpha": Training()})), "whose rates are not on the device"
    monkeypatch.setattr(graphs, "world", lambda: 2)
    assert not recorded(objective), "several processes talk within a step"


def recorded(objective: Objective, training: Training = ON) -> bool:
    return recording(objective, [], training, torch.device("cpu"), []) is not None


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize("method", ["hps", "lasem-hps", "lwf", "joint", "den"])
def test_recorded_runs_go_on_from_every_tick(method: str) -> None:
    CHECKS["resumes"](make_method(method, "digits", 3, {}), TRAINING, "cpu")


@pytest.mark.usefixtures("launches")
def test_what_is_over_keeps_no_memory_but_its_own() -> None:
    for parameter in trained("hps").network.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.nbytes


class Failing(StandIn):
    """Records gradients, which hold what nobody computed, and then fails."""

    def record(self, step: Callable[[], int]) -> Callable[[], None]:
        def refuse(optimiser: TF1RMSProp) -> None:
            for group in optimiser.param_groups:
                for parameter in group["params"]:
                    parameter.grad.fill_(float("nan"))
            raise RuntimeError("operation not permitted\nmore")

        self.counts.append(0)
        # Recording draws nothing from the device's generator.
        with pytest.MonkeyPatch.context() as half_done, torch.random.fork_rng():
            half_done.setattr(RecordableRMSProp, "step", refuse)
            step()
        raise AssertionError


def test_what_cannot_be_recorded_is_said_once_and_taken_as_it_is(
    launches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "Side", Failing)
    found = trained("hps", graphs=True)
    assert len(launches) == 2, "tried once a task"
    assert len(found.warnings) == 2
    assert "could not be recorded as a CUDA graph (operation not permitted)" in found.warnings[0]
    assert_same(found, trained("hps"))


class _NoReading(TorchDispatchMode):
    """Refuses whatever brings a number from the device to Python, which a recording cannot hold."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), func
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("launches")
@pytest.mark.parametrize(
    "method", ["joint", "stl", "hps", "df-cnn", "df-cnn.tc2", "df-cnn.direct", "tf", "prognn", "lasem-tf"]
)
def test_a_step_that_is_recorded_asks_the_device_for_no_number(method: str) -> None:
    built, training = make_method(method, "digits", 2, {}), Training(batch=4, graphs=True)
    network = built.network(make_backbone("digits", (1, 8, 8)), 2, 0)
    memory: dict[str, torch.Tensor] = {}
    for _ in range(2):
        built.begin(network, memory, 2)
    objective = built.objective(network, memory, 1, 0, "mean")
    optimiser = make_optimiser(training, [{"params": list(objective.moves.values()), "pace": 1.0}])
    step = step_of(objective, [optimiser], training, network.device, 1e-3)
    assert recorded(objective)
    batch = Batch(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), torch.arange(4), 0, 1)
    assert step(batch) == 1, "the first step may make things"
    with _NoReading():
        assert step(batch) == 1


@pytest.mark.usefixtures("launches")
def test_a_new_rate_is_written_to_where_the_recorded_step_reads_it() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "pace": pace} for pace in (1.0, 0.1)]
    optimiser = make_optimiser(Training(rate=0.5, graphs=True), groups)
    before = [group["lr"] for group in optimiser.param_groups]
    assert all(isinstance(rate, torch.Tensor) for rate in before)
    set_rate(optimiser, 0.2)
    after = [group["lr"] for group in optimiser.param_groups]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert [float(rate) for rate in after] == pytest.approx([0.2, 0.02])


def test_without_a_gpu_nothing_is_recorded() -> None:
    assert not recorded(Objective({}, lambda batch: batch.images.sum()))
    optimiser = make_optimiser(ON, [{"params": [torch.nn.Parameter(torch.zeros(1))], "pace": 1.0}])
    assert type(optimiser) is TF1RMSProp


@pytest.mark.usefixtures("launches")
def test_other_optimisers_and_other_wishes_are_not_recorded() -> None:
    objective = Objective({}, lambda batch: batch.images.sum())
    assert recorded(objective)
    assert not recorded(objective, Training(graphs=False))
    assert not recorded(objective, Training(optimiser="adam"))
