"""L2 and EWC: the springs, against numbers worked out by hand and slow sums over tasks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Batch, Memory
from everlearn.methods.catalogue import make_method
from everlearn.methods.ewc import Ewc
from everlearn.methods.fine_tuning import ALL
from everlearn.methods.l2 import L2, squared_distance
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.fit import Plan, State
from tests.methods.family import at_stage, batch_of, begun, learned, small


def penalty(method: Ewc | L2, network: LifelongNetwork, memory: Memory, task: int) -> float:
    term = method.term(network, memory, task, "mean")
    assert term is not None
    images = torch.zeros(1, 1, 8, 8)  # the springs look at none
    return float(term(Batch(images, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)), {}).detach())


def shifted(network: LifelongNetwork, seed: int) -> None:
    with torch.no_grad():
        for parameter in network.shared.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


def shared(network: LifelongNetwork) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.shared.parameters()])


def fisher_by_a_loop(network: LifelongNetwork, task: int, images: Tensor, labels: Tensor) -> Tensor:
    """The mean of single examples' squared gradients, `[shared numbers]`, dropout off."""
    network.eval().requires_grad_(True)
    total = torch.zeros(len(shared(network)))
    for image, label in zip(images, labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(image[None], task), label[None]).backward()
        total += torch.cat([p.grad.flatten() for p in network.shared.parameters() if p.grad is not None]).square()
    network.zero_grad()
    network.train().requires_grad_(False)
    return total / len(images)


def after_two_tasks(method: Ewc) -> tuple[Plan, State, list[tuple[Tensor, Tensor]]]:
    """In the third task's joint stage, and of each task before its Fisher information and where it left the weights."""
    plan, state = begun(method)
    kept = []
    for task in range(2):
        learned(plan, state, at_stage(task + 1, ALL))
        data = plan.data[task]["train"]
        kept.append((fisher_by_a_loop(state.network, task, data.take(slice(None)), data.labels), shared(state.network)))
    return plan, state, kept


def test_squared_distance_by_hand() -> None:
    first = [torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor([[3.0]]))]
    assert float(squared_distance(first, [torch.tensor([0.0, 4.0]), torch.tensor([[3.5]])]).detach()) == 1 + 4 + 0.25


@pytest.mark.parametrize("anchor", ["previous", "first"])
def test_l2_is_half_lambda_times_the_squared_distance(anchor: str) -> None:
    method = L2(lambda_c=3.0, anchor=anchor)
    plan, state = begun(method)
    learned(plan, state, at_stage(1, ALL))
    first = shared(state.network)
    assert penalty(method, state.network, state.memory, 1) == 0
    learned(plan, state, at_stage(2, ALL))
    second = shared(state.network)
    shifted(state.network, 1)
    wanted = 1.5 * (shared(state.network) - (second if anchor == "previous" else first)).square().sum()
    assert penalty(method, state.network, state.memory, 2) == pytest.approx(float(wanted), rel=1e-5)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("springs", "gamma"), [("separate", 1.0), ("online", 0.9), ("online", 1.0)])
def test_ewc_is_the_sum_over_tasks(springs: str, gamma: float) -> None:
    """Two tasks' Fisher information and anchors, kept apart here and as one spring there."""
    method = Ewc(lambda_ewc=4.0, springs=springs, gamma=gamma)
    _, state, kept = after_two_tasks(method)
    shifted(state.network, 2)
    now = shared(state.network)
    (f1, at1), (f2, at2) = kept
    if springs == "separate":
        wanted = 2.0 * ((f1 * (now - at1).square()).sum() + (f2 * (now - at2).square()).sum())
    else:
        wanted = 2.0 * ((gamma * f1 + f2) * (now - at2).square()).sum()
    assert penalty(method, state.network, state.memory, 2) == pytest.approx(float(wanted), rel=1e-4)


def test_the_gradient_of_one_spring_is_that_of_all() -> None:
    method = Ewc(lambda_ewc=4.0)
    plan, state, kept = after_two_tasks(method)
    shifted(state.network, 3)
    wanted = sum(4.0 * f * (shared(state.network) - at) for f, at in kept)
    state.network.requires_grad_(True)
    term = method.term(state.network, state.memory, 2, "mean")
    assert term is not None
    parameters = list(state.network.shared.parameters())
    found = torch.cat([g.flatten() for g in torch.autograd.grad(term(batch_of(plan, 2), {}), parameters)])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_the_batch_does_not_decide_how_stiff_a_spring_is() -> None:
    """The mean of squares, not the square of a batch's mean gradient."""
    method = Ewc()
    plan, state = begun(method, backbone=small(dropout=0.0))
    learned(plan, state, at_stage(1, ALL))
    data = plan.data[0]["train"]
    single = fisher_by_a_loop(state.network, 0, data.take(slice(None)), data.labels)
    network = state.network.requires_grad_(True)
    F.cross_entropy(network(data.take(slice(None)), 0), data.labels).backward()
    mean = torch.cat([p.grad.flatten() for p in network.shared.parameters() if p.grad is not None]).square()
    found = torch.cat([state.memory[f"stiffness shared.{n}"].flatten() for n, _ in network.shared.named_parameters()])
    torch.testing.assert_close(found, single, rtol=1e-4, atol=1e-8)
    assert float(found.sum()) > 1.5 * float(mean.sum())


def test_some_images_and_drawn_labels() -> None:
    found = []
    for options in ({"images": 4}, {"labels": "sampled"}, {"labels": "expected"}, {}):
        plan, state = begun(Ewc(**options))
        learned(plan, state, at_stage(1, ALL))
        found.append(float(sum(t.sum() for name, t in state.memory.items() if name.startswith("stiffness"))))
    assert len(set(found)) == 4
    assert all(value > 0 for value in found)


@pytest.mark.parametrize(
    "options", [{"lambda_ewc": -1.0}, {"gamma": 1.5}, {"springs": "none"}, {"labels": "all"}, {"images": -1}]
)
def test_faults_in_ewcs_options_are_told(options: dict[str, float | str]) -> None:
    with pytest.raises(ConfigurationError, match="came as"):
        make_method("ewc", "small", 2, options)


@pytest.mark.parametrize("options", [{"lambda_c": -1.0}, {"anchor": "last"}])
def test_faults_in_l2s_options_are_told(options: dict[str, float | str]) -> None:
    with pytest.raises(ConfigurationError, match="came as"):
        make_method("l2", "small", 2, options)
