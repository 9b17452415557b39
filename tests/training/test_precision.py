"""bfloat16: of the layers in training steps, and of nothing else; the smallest numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import everlearn
from everlearn.errors import EverlearnWarning
from everlearn.methods.base import Data, Memory, Objective, Reduction
from everlearn.methods.catalogue import make_method
from everlearn.methods.lasem import Lasem
from everlearn.methods.responses import RESPONSE_LOSSES, old_loss
from everlearn.methods.static import StaticTransfer
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.testing.methods import made_stream
from everlearn.training.data import StreamData, lies_last
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn
from everlearn.training.precision import DENORMAL, denormals_as_zero, exact, flushes, layers_in
from everlearn.training.settings import Training
from tests.methods.family import batch_of, begun, learned, small


def trained(method: str, precision: str) -> tuple[State, list[Measured]]:
    training = Training(epochs=3, batch=5, rate=1e-3, evaluate_every=3, precision=precision)  # type: ignore[arg-type]
    built = make_method(method, "digits", 2, {})
    state = State(built.network(make_backbone("digits", (1, 8, 8)), 2, 7))
    data = StreamData(made_stream(tasks=2), torch.device("cpu"), last=True)
    events = list(learn(Plan(built, data, [2, 2], training, 7), state))
    return state, [event for event in events if isinstance(event, Measured)]


@pytest.mark.parametrize("method", ["hps", "df-cnn", "lasem-hps", "ewc", "lwf"])
def test_the_numbers_are_nearly_those_of_float32(method: str) -> None:
    (exact, measured), (coarse, other) = trained(method, "float32"), trained(method, "bfloat16")
    apart = 0.0
    for name, tensor in exact.network.state_dict().items():
        found = coarse.network.state_dict()[name]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, tensor, rtol=0.05, atol=0.02, msg=name)
        apart = max(apart, float((found - tensor).abs().max()))
    assert apart > 1e-6, "the layers were computed in float32"
    assert coarse.steps == exact.steps
    # Before the first step the networks are the same, and evaluations are in float32.
    assert [event.loss for event in measured[:3]] == [event.loss for event in other[:3]]


def test_where_it_is_imitated_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"cpu does not compute with bfloat16 here: PyTorch imitates it"
    quick = {"epochs": 1, "precision": "bfloat16"}
    monkeypatch.setattr("everlearn.experiments.asking.has_bfloat16", lambda _: False)
    with pytest.warns(EverlearnWarning, match=said):
        everlearn.run("digits", ["stl"], trials=1, training=quick, runs=tmp_path / "a", workers=0)
    monkeypatch.setattr("everlearn.experiments.asking.has_bfloat16", lambda _: True)
    everlearn.run("digits", ["stl"], trials=1, training=quick, runs=tmp_path / "b", workers=0)
    everlearn.run("digits", ["stl"], trials=1, training={"epochs": 1}, runs=tmp_path / "c", workers=0)


@dataclass(frozen=True)
class Watched(StaticTransfer):
    """HPS that looks how small numbers are counted, between stages and after each step."""

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        super().enter(network, memory, tasks, stage, data)
        memory["entered"] = torch.tensor(flushes())

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        memory["steps"] = torch.zeros((), dtype=torch.int64)

        def after(_: float) -> None:
            memory["steps"] += int(flushes())

        return replace(super().objective(network, memory, task, stage, reduction), after=after)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_zero_where_it_trains_and_nowhere_else(before: bool) -> None:
    method = Watched(Hard())
    state = State(method.network(make_backbone("digits", (1, 8, 8)), 1, 7))
    data = StreamData(made_stream(tasks=1), torch.device("cpu"), last=True)
    torch.set_flush_denormal(before)
    try:
        for _ in learn(Plan(method, data, [2], Training(epochs=2, batch=5, evaluate_every=1), 7), state):
            assert flushes() == before, "the caller's own arithmetic was changed"
    finally:
        torch.set_flush_denormal(False)
    assert bool(state.memory["entered"])
    assert int(state.memory["steps"]) == state.steps > 0


def test_denormals_come_back_after_an_error() -> None:
    def fail() -> None:
        with denormals_as_zero():
            assert float(torch.full((), 2 * DENORMAL) / 2) == 0.0
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (the test's own)
        fail()
    assert float(torch.full((), 2 * DENORMAL) / 2) > 0.0


def test_on_a_gpu_float32_is_float32_and_sums_are_the_same_each_time() -> None:
    cudnn, gpu = torch.backends.cudnn, torch.device("cuda")
    before = cudnn.deterministic, cudnn.allow_tf32
    with exact(gpu):
        assert (cudnn.deterministic, cudnn.allow_tf32) == (True, False)
    with exact(torch.device("cpu")):
        assert (cudnn.deterministic, cudnn.allow_tf32) == before
    assert (cudnn.deterministic, cudnn.allow_tf32) == before == (False, True)


def test_also_where_each_kind_of_layer_has_a_precision_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("this PyTorch has one switch for all")
    cudnn: Any = torch.backends.cudnn
    monkeypatch.setattr("everlearn.training.precision._has_one_precision", lambda: False)
    before = cudnn.deterministic, cudnn.conv.fp32_precision
    with exact(torch.device("cuda")):
        assert (cudnn.deterministic, cudnn.conv.fp32_precision) == (True, "ieee")
    assert (cudnn.deterministic, cudnn.conv.fp32_precision) == before


@pytest.mark.parametrize(("device", "precision", "last"), [
    ("cpu", "float32", True), ("cpu", "bfloat16", True), ("cuda", "float32", False), ("cuda", "bfloat16", True),
])  # fmt: skip
def test_where_channels_lie_last(device: str, precision: str, last: bool) -> None:
    assert lies_last(Training(precision=precision), torch.device(device)) == last  # type: ignore[arg-type]
    assert not lies_last(Training(memory_format="contiguous"), torch.device(device))


@pytest.mark.parametrize("name", ["stl", "hps", "prognn", "lwf"])
def test_a_network_is_where_it_was_moved_to_before_its_first_task(name: str) -> None:
    method, memory = make_method(name, "digits", 2, {}), dict[str, torch.Tensor]()
    network = method.network(make_backbone("digits", (1, 8, 8)), 2, 0).to("meta")
    for _ in range(2):
        method.begin(network, memory, 2)
    assert network.device.type == "meta"
    assert {tensor.device.type for tensor in [*network.parameters(), *memory.values()]} == {"meta"}


@pytest.mark.parametrize("kind", RESPONSE_LOSSES)
@pytest.mark.parametrize("several", [False, True])
def test_a_response_loss_is_in_float32(kind: str, several: bool) -> None:
    torch.manual_seed(0)
    wanted, now = torch.randn(10, 10), torch.randn(10, 10).bfloat16()
    found = old_loss(kind, 2.0, [wanted], [now.float()], [several])
    with layers_in("bfloat16", torch.device("cpu")):
        lower = old_loss(kind, 2.0, [wanted], [now], [several])
    assert lower.dtype == torch.float32
    torch.testing.assert_close(lower, found)


def test_a_penalty_and_the_expected_loss_are_in_float32() -> None:
    plan, state = begun(Lasem(Factors(orthogonality=0.01)), backbone=small(dropout=0.0))
    learned(plan, state, until=lambda state: state.epochs == 1)
    whole = state.network.penalty_of(0, 0)
    with layers_in("bfloat16", torch.device("cpu")):
        objective = plan.method.objective(state.network, state.memory, 0, 0, "mean")
        loss = objective.loss(batch_of(plan, 0))
        lower = state.network.penalty_of(0, 0)
    assert whole is not None
    assert loss.dtype == torch.float32
    assert not torch.equal(loss.bfloat16().float(), loss), "nor is it a number of bfloat16's"
    assert lower is not None
    assert torch.equal(whole, lower)
