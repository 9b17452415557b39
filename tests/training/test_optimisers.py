import math
from typing import Any

import pytest
import torch

from everlearn.training.optimisers import RecordableRMSProp, TF1RMSProp, make_optimiser, rate_at
from everlearn.training.settings import Training


def test_tensorflow_1s_rmsprop_by_hand() -> None:
    # ms = 1. Step 1, g = 2: ms = 0.9 + 0.1 * 4 = 1.3;  theta = 1 - 0.1 * 2 / sqrt(1.3)
    #         Step 2, g = 0.5: ms = 0.9 * 1.3 + 0.1 * 0.25 = 1.195; theta -= 0.1 * 0.5 / sqrt(1.195)
    theta = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    still = torch.nn.Parameter(torch.ones(2))
    optimiser = TF1RMSProp([theta, still], lr=0.1)
    theta.grad = torch.tensor([2.0], dtype=torch.float64)
    optimiser.step()
    first = 1 - 0.2 / math.sqrt(1.3)
    assert theta.item() == pytest.approx(first, abs=1e-9)
    theta.grad = torch.tensor([0.5], dtype=torch.float64)
    optimiser.step()
    assert theta.item() == pytest.approx(first - 0.05 / math.sqrt(1.195), abs=1e-9)
    assert torch.equal(still, torch.ones(2)), "a parameter without a gradient stays"


def test_epsilon_stands_inside_the_root() -> None:
    theta = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser = TF1RMSProp([theta], lr=1.0, decay=0.0, eps=1.0)
    theta.grad = torch.tensor([3.0], dtype=torch.float64)
    optimiser.step()
    assert theta.item() == pytest.approx(-3 / math.sqrt(9 + 1))


def test_the_hyperbolic_rate_counts_epochs_of_the_whole_sequence() -> None:
    training = Training(rate=1e-4, decay=1 / 4000, epochs=2000)
    # The tenth task begins after 18,000 epochs: lr0 / (1 + 4.5); the last epoch is number 19,999.
    assert rate_at(training, 0, 0, 2000) == 1e-4
    assert rate_at(training, 18000, 0, 2000) == pytest.approx(1e-4 / 5.5)
    assert rate_at(training, 19999, 1999, 2000) == pytest.approx(1e-4 / 5.99975)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("exponential", [math.exp(-10.0), math.exp(-12.5), math.exp(-17.5)]),
        ("cosine", [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5 * (1 + math.cos(3 * math.pi / 4))]),
        ("step", [1.0, 1.0, 0.1]),
    ],
)
def test_other_schedules(schedule: str, expected: list[float]) -> None:
    training = Training(rate=1.0, decay=0.1, schedule=schedule)  # type: ignore[arg-type]
    # a phase of 100 epochs after 100 others
    assert [rate_at(training, 100 + e, e, 100) for e in (0, 25, 75)] == pytest.approx(expected)


def test_a_constant_rate_stays_when_another_has_dropped() -> None:
    """DARTS's alpha has a constant rate of its own beside weights whose rate falls at a plateau."""
    constant, plateau = (Training(schedule=kind, rate=0.5) for kind in ("constant", "plateau"))
    assert [rate_at(constant, 5, 5, 10, dropped) for dropped in (False, True)] == [0.5, 0.5]
    assert [rate_at(plateau, 5, 5, 10, dropped) for dropped in (False, True)] == [0.5, 0.05]


@pytest.mark.parametrize("name", ["tf1-rmsprop", "sgd", "adam", "adamw", "rmsprop"])
def test_every_optimiser_lowers_a_parabola(name: str) -> None:
    theta = torch.nn.Parameter(torch.tensor([2.0]))
    optimiser = make_optimiser(Training(optimiser=name, rate=0.05), [{"params": [theta]}])  # type: ignore[arg-type]
    for _ in range(300):
        theta.square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert abs(theta.item()) < 0.2


def test_weight_decay_and_momentum_reach_the_optimiser() -> None:
    theta = torch.nn.Parameter(torch.tensor([1.0]))
    group = make_optimiser(
        Training(optimiser="sgd", momentum=0.9, weight_decay=0.01), [{"params": [theta]}]
    ).param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.9, 0.01)


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.9), "weight_decay": 0.01}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.9), "weight_decay": 0.01}),
    ],
)
def test_a_fused_optimiser_steps_as_torchs_plain_one_however_gradients_lie(name: str, kind: Any, own: Any) -> None:
    fused, plain = some_parameters(), some_parameters()
    training = Training(optimiser=name, rate=0.1, weight_decay=0.01, beta1=0.8, beta2=0.9)  # type: ignore[arg-type]
    one, other = make_optimiser(training, [{"params": fused}]), kind(plain, 0.1, **own, foreach=False)
    assert one.defaults["fused"]
    for step, without in enumerate((2, 1, None, None, None)):  # one has its first gradient later than others
        if step == 3:  # what a file gave lies as the file has it
            for remembered in one.state.values():
                remembered |= {n: transposed(t) for n, t in remembered.items() if n != "step"}
        for parameters, optimiser in ((fused, one), (plain, other)):
            give_gradients(parameters, step, without)
            if parameters is fused:
                for parameter in parameters:
                    parameter.grad = None if parameter.grad is None else transposed(parameter.grad)
            optimiser.step()
        for parameter, its in zip(plain, fused, strict=True):
            torch.testing.assert_close(its, parameter, rtol=1e-5, atol=1e-6)


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, in the order in memory that their transpose would have."""
    order = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(order).contiguous().permute(order)


def some_parameters() -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in ((3, 2, 3, 3), (7,), (), (130,))]


def give_gradients(parameters: list[torch.nn.Parameter], step: int, without: int | None) -> None:
    random = torch.Generator().manual_seed(step)
    for place, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=random)
        parameter.grad = None if place == without else gradient


def test_a_recordable_optimiser_steps_as_the_other_and_leaves_parameters_where_they_are() -> None:
    plain, laid = some_parameters(), some_parameters()
    one = TF1RMSProp([{"params": plain[:3]}, {"params": plain[3:]}], 0.1)
    rates = [torch.tensor(0.1), torch.tensor(0.1)]
    groups = [{"params": laid[:3], "lr": rates[0]}, {"params": laid[3:], "lr": rates[1]}]
    other = RecordableRMSProp(groups, 0.1)
    places = [parameter.data_ptr() for parameter in laid]
    for step, without in enumerate((None, 1, 3, None, 0, None)):
        if step == 3:  # what was remembered is taken over where it is looked for
            remembered = {**other.state_dict()}
            other = RecordableRMSProp(groups, 0.1)
            places = [parameter.data_ptr() for parameter in laid]
            other.load_state_dict(remembered)
        for parameters, optimiser in ((plain, one), (laid, other)):
            give_gradients(parameters, step, without)
            optimiser.step()
        for parameter, its, place in zip(plain, laid, places, strict=True):
            torch.testing.assert_close(its, parameter, rtol=1e-6, atol=1e-7)
            assert its.data_ptr() == place
    for parameter, its in zip(plain, laid, strict=True):
        torch.testing.assert_close(other.state[its]["mean_square"], one.state[parameter]["mean_square"])


def test_a_recordable_optimiser_moves_a_parameter_that_was_given_other_numbers() -> None:
    plain, laid = some_parameters(), some_parameters()
    one, other = TF1RMSProp(plain, 0.1), RecordableRMSProp([{"params": laid, "lr": torch.tensor(0.1)}], 0.1)
    for step in range(3):
        for parameters, optimiser in ((plain, one), (laid, other)):
            give_gradients(parameters, step, None)
            optimiser.step()
            parameters[1].data = parameters[1].data.clamp(-0.5, 0.5)
    for parameter, its in zip(plain, laid, strict=True):
        torch.testing.assert_close(its, parameter, rtol=1e-6, atol=1e-7)
