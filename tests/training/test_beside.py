"""Gradients beside a backward pass. Streams are stand-ins: what the second one computes is there when both have met."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.methods.base import Batch, Memory, Objective
from everlearn.methods.catalogue import make_method
from everlearn.methods.den import RETRAIN
from everlearn.networks.papers import make_backbone
from everlearn.testing.methods import made_stream
from everlearn.training.beside import Beside
from everlearn.training.data import StreamData

CPU = torch.device("cpu")


class Stream:
    def __init__(self, *_: Any) -> None:
        pass

    def wait_stream(self, other: "Stream") -> None:
        pass


class Late(Beside):
    """What the second stream computes is no number until both have met."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.most = 0

    def _of_parameters(self, asked: tuple[Any, ...], biased: bool) -> tuple[Tensor, Tensor | None]:
        of_weight, of_bias = super()._of_parameters(asked, biased)
        return self.late(of_weight), None if of_bias is None else self.late(of_bias)

    def late(self, true: Tensor) -> Tensor:
        empty = torch.full_like(true, float("nan"))
        # Another view of the same memory: PyTorch copies a gradient that somebody else holds.
        self.pending.append((empty.detach().view_as(empty), true))
        return empty

    def meet(self) -> None:
        self.most = max(self.most, len(self.pending))
        super().meet()
        for empty, true in self.pending:
            empty.copy_(true)
        self.pending.clear()


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())


def gradients(parameters: list[nn.Parameter], loss: Callable[[], Tensor], late: Late | None) -> list[Tensor]:
    torch.manual_seed(0)
    with late or nullcontext():
        loss().backward()
        if late is not None:
            late.meet()
    found = [p.grad.clone() for p in parameters if p.grad is not None]
    for parameter in parameters:
        parameter.grad = None
    return found


def pending(parameters: list[nn.Parameter], loss: Callable[[], Tensor]) -> int:
    """How many gradients were waited for together at most; all are those of an ordinary backward pass."""
    late = Late()
    found, expected = gradients(parameters, loss, late), gradients(parameters, loss, None)
    assert len(found) == len(expected) > 0
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-6)
    return late.most


def layers(count: int = 3) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    shapes = [shape for _ in range(count) for shape in ((4, 4, 3, 3), (4,))]
    return [nn.Parameter(torch.randn(shape, generator=random) / 4) for shape in shapes]


def through(parameters: list[Tensor]) -> Tensor:
    hidden = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        hidden = F.relu(F.conv2d(hidden, weight, bias, padding=1))
    return hidden.sum()


def test_the_pass_goes_on_while_gradients_are_computed() -> None:
    parameters = layers()
    assert pending(parameters, lambda: through([*parameters])) == 6


def test_a_weight_that_a_term_of_the_loss_holds_small_is_waited_for() -> None:
    parameters = layers()
    assert pending(parameters, lambda: through([*parameters]) + parameters[2].square().sum()) == 4


def test_a_bias_that_a_term_of_the_loss_holds_small_is_waited_for() -> None:
    parameters = layers()
    assert pending(parameters, lambda: through([*parameters]) + parameters[3].square().sum()) == 4


def test_a_second_stream_that_had_nothing_to_do_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # While a step is recorded, that would be an error.
    monkeypatch.setattr(Stream, "wait_stream", lambda *_: pytest.fail("waited"))
    weight = nn.Parameter(torch.ones(2, 2))
    assert pending([weight], lambda: (torch.ones(3, 2) @ weight).sum()) == 0


def test_a_weight_of_two_layers_is_waited_for() -> None:
    parameters = layers(2)
    assert pending(parameters, lambda: through([*parameters, *parameters])) < 8


def test_a_weight_that_is_computed_is_waited_for() -> None:
    parameters = layers(2)
    assert pending(parameters, lambda: through([2 * parameters[0], *parameters[1:]])) == 4
    assert pending(parameters, lambda: through([parameters[0].transpose(0, 1), *parameters[1:]])) == 4


def test_a_bias_that_is_computed_is_waited_for() -> None:
    parameters = layers(2)
    assert pending(parameters, lambda: through([parameters[0], 2 * parameters[1], *parameters[2:]])) == 4


def test_a_gradient_that_a_hook_reads_is_waited_for() -> None:
    parameters = layers()
    hook = parameters[2].register_hook(lambda gradient: gradient * 2)
    assert pending(parameters, lambda: through([*parameters])) == 4
    hook.remove()


def test_a_gradient_that_the_loss_asks_for_is_waited_for() -> None:
    parameters = layers()

    def loss() -> Tensor:
        (gradient,) = torch.autograd.grad(through([*parameters]), parameters[2:3], create_graph=True)
        return through([*parameters]) + gradient.square().sum()

    pending(parameters, loss)


@pytest.mark.parametrize("name", ["stl", "hps", "tf", "df-cnn", "df-cnn.direct", "prognn", "l2", "ewc", "lasem-df-cnn"])
def test_methods_have_their_gradients(name: str) -> None:
    objective, batch = second_task(name, 1 if name in ("l2", "ewc") else 0)
    assert pending([*objective.moves.values()], lambda: next(objective.losses(batch))) > 0


def test_den_holds_weights_small_while_it_retrains() -> None:
    objective, batch = second_task("den", RETRAIN)
    pending([*objective.moves.values()], lambda: next(objective.losses(batch)))


def second_task(name: str, stage: int) -> tuple[Objective, Batch]:
    method, memory, stream = make_method(name, "digits", 2, {}), Memory(), made_stream(2)
    network, data = method.network(make_backbone("digits", (1, 8, 8)), 2, 0), StreamData(stream, CPU, last=False)
    for task in range(2):
        method.begin(network, memory, 2)
        method.enter(network, memory, [task], stage, {task: data[task]["train"]})
    network.requires_grad_(False)
    objective = method.objective(network, memory, 1, stage, "sum")
    for parameter in objective.moves.values():
        parameter.requires_grad_(True)
    train = data[1]["train"]
    return objective, Batch(train.take(slice(0, 5)), train.labels[:5], torch.arange(5), 0, 1)
