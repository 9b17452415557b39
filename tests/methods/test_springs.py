"""L2 and EWC: the springs, against numbers worked out by hand and slow sums over tasks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Memory
from everlearn.methods.catalogue import make_method
from everlearn.methods.ewc import Ewc
from everlearn.methods.fine_tuning import ALL
from everlearn.methods.l2 import L2
from everlearn.methods.springs import Springs
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.fit import Plan, State
from everlearn.training.settings import Training
from everlearn.training.steps import step_of
from tests.methods.family import at_stage, batch_of, begun, learned, small


def penalty(method: Ewc | L2, network: LifelongNetwork, memory: Memory, task: int) -> float:
    springs = method.holds(network, memory, task)
    assert springs is not None
    return float(springs.energy())


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


def made_springs(stiffness: list[Tensor] | None) -> Springs:
    held = [torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor([[3.0]]))]
    return Springs(held, [torch.tensor([0.0, 4.0]), torch.tensor([[3.5]])], 6.0, stiffness)


def test_springs_by_hand() -> None:
    plain, firm = made_springs(None), made_springs([torch.tensor([2.0, 0.5]), torch.tensor([[4.0]])])
    assert float(plain.energy()) == 3.0 * (1 + 4 + 0.25)
    assert float(firm.energy()) == 3.0 * (2 + 2 + 1)
    for springs, wanted in ((plain, [[6.0, -12.0], [[-3.0]]]), (firm, [[12.0, -6.0], [[-12.0]]])):
        for parameter in springs.held:
            parameter.grad = torch.ones_like(parameter)
        springs.held[1].grad = None
        with torch.no_grad():
            springs.pull()
        assert springs.held[0].grad is not None
        assert springs.held[0].grad.tolist() == [1 + one for one in wanted[0]], "added to what was there"
        assert springs.held[1].grad is None, "what the loss does not reach is not about to move"
        springs.held[1].grad = torch.zeros(1, 1)
        with torch.no_grad():
            springs.pull()
        assert springs.held[1].grad.tolist() == wanted[1]


@pytest.mark.parametrize("method", [Ewc(lambda_ewc=50.0), L2(lambda_c=5.0)])
def test_a_step_goes_down_the_loss_and_the_springs(method: Ewc | L2) -> None:
    """The loop's own steps, against autograd of the sum."""
    plan, state = begun(method, backbone=small(dropout=0.0))
    learned(plan, state, at_stage(1, ALL, epoch=1))
    network, task = state.network, 1
    objective = method.objective(network, state.memory, task, ALL, "mean")
    springs = method.holds(network, state.memory, task)
    assert springs is not None
    assert springs.energy() > 0
    batch = batch_of(plan, task)
    network.requires_grad_(False)
    for parameter in objective.moves.values():
        parameter.requires_grad_(True)
    rows = zip(springs.held, springs.anchors, springs.stiffness or [torch.ones(())] * len(springs.held), strict=True)
    whole = objective.loss(batch) + springs.strength / 2 * sum((a * (p - b).square()).sum() for p, b, a in rows)
    wanted = torch.autograd.grad(whole, list(objective.moves.values()))
    before = {name: p.detach().clone() for name, p in objective.moves.items()}
    sgd = torch.optim.SGD(list(objective.moves.values()), 0.1)
    assert step_of(objective, [sgd], Training(), network.device, 0.1)(batch) == 1
    for (name, parameter), gradient in zip(objective.moves.items(), wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * gradient, rtol=1e-4, atol=1e-7, msg=name)


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


def test_l2_leaves_free_what_no_task_has_used() -> None:
    """Where a block starts at random there is nothing to hold; once a task has learned it there is."""
    for anchor in ("previous", "first"):
        method = L2(lambda_c=3.0, anchor=anchor, configuration="110/111/111")
        plan, state = begun(method)
        learned(plan, state, at_stage(1, ALL))
        assert {name for name in state.memory if name.startswith("anchor 2.")} == set()
        learned(plan, state, at_stage(2, ALL))
        last = [p.detach().clone() for p in state.network.shared[2].parameters()]
        assert (penalty(method, state.network, state.memory, 2) == 0) == (anchor == "previous")
        springs = method.holds(state.network, state.memory, 2)
        assert springs is not None
        assert len(springs.held) == 6
        assert all(torch.equal(a, b) for a, b in zip(springs.anchors[-2:], last, strict=True))


@pytest.mark.parametrize(("springs", "gamma"), [("separate", 1.0), ("online", 0.9), ("online", 1.0)])
def test_ewc_is_the_sum_over_tasks(springs: str, gamma: float) -> None:
    """Two tasks' Fisher information and anchors, kept apart here and as one spring there."""
    method = Ewc(lambda_ewc=4.0, springs=springs, gamma=gamma)
    _, state, kept = after_two_tasks(method)
    shifted(state.network, 2)
    now = shared(state.network)
    (f1, at1), (f2, at2) = kept
    if springs == "separate":
        wanted = 4.0 * (f1 * (now - at1) + f2 * (now - at2))
    else:
        wanted = 4.0 * (gamma * f1 + f2) * (now - at2)
    held = method.holds(state.network, state.memory, 2)
    assert held is not None
    for parameter in held.held:
        parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        held.pull()
    found = torch.cat([p.grad.flatten() for p in state.network.shared.parameters() if p.grad is not None])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)
    if springs == "online":
        energy = 2.0 * ((gamma * f1 + f2) * (now - at2).square()).sum()
        assert penalty(method, state.network, state.memory, 2) == pytest.approx(float(energy), rel=1e-4)


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
