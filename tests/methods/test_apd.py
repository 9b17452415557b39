"""APD-Net: its objective against a plain sum, groups worked out by hand, and old tasks that stay while sigma moves."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.checkpoint import load_state, save_state
from everlearn.methods.apd import ApdNet, grouped, shared_part, without_small
from everlearn.methods.catalogue import make_method
from everlearn.networks.additive_network import AdditiveNetwork
from everlearn.networks.resnet import resnet18
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.testing import check_method
from everlearn.training.evaluation import changed
from everlearn.training.fit import Plan, State
from everlearn.training.settings import Training
from tests.methods.family import answers, at_stage, batch_of, begun, learned, numbers, same, small

ADAM = Training(
    epochs=10, batch=5, optimiser="adam", rate=3e-3, schedule="constant", evaluate_every=10, evaluate_others_every=10
)


def started(method: ApdNet, training: Training = ADAM) -> tuple[Plan, State, AdditiveNetwork]:
    plan, state = begun(method, backbone=small(norm=True, dropout=0.0), training=training)
    assert isinstance(state.network, AdditiveNetwork)
    return plan, state, state.network


def of_tasks(method: ApdNet, tasks: int) -> AdditiveNetwork:
    """A network that knows so many tasks, none of them trained."""
    network = method.network(small(norm=True, dropout=0.0), tasks, 0)
    assert isinstance(network, AdditiveNetwork)
    for _ in range(tasks):
        method.begin(network, {}, 2)
    return network


def layer_weights(network: AdditiveNetwork, task: int) -> list[Tensor]:
    """The weights of the three layers of `small`, as the network is called with them."""
    return [
        tensor.detach().clone()
        for block in range(3)
        for name, tensor in network.weights(block, task).items()
        if name in ("0.weight", "1.weight", "2.weight") and tensor.ndim > 1
    ]


def with_tau(network: AdditiveNetwork, layer: int, values: list[list[float]]) -> None:
    """Give the first entries of every task's tau of a layer these values, and all others zero."""
    with torch.no_grad():
        for task, row in enumerate(values):
            tau = network.tau(task, layer)
            tau.zero_().view(-1)[: len(row)] = torch.tensor(row)


def first(tensor: Tensor, count: int) -> list[float]:
    return [round(float(number), 6) for number in tensor.detach().flatten()[:count]]


# ---------------------------------------------------------------- the function and the objective


def test_a_weight_by_hand() -> None:
    """sigma 2, v = log 3 so that its sigmoid is 3/4, sigma_g 10, tau 0.5: 2 * 0.75 + 10 + 0.5 = 12."""
    network = of_tasks(ApdNet(), 2)
    with torch.no_grad():
        network.sigma(1).fill_(2.0)
        network.mask(0, 1).fill_(torch.log(torch.tensor(3.0)))
        network.tau(0, 1).fill_(0.5)
    network.regroup(1, {(0, 1): torch.full((12, 64), 10.0)})
    torch.testing.assert_close(network.weights(1, 0)["2.weight"], torch.full((12, 64), 12.0))


def test_the_mask_is_of_outputs() -> None:
    network = of_tasks(ApdNet(tau_start="zero"), 1)
    with torch.no_grad():
        network.mask(0, 0).copy_(torch.tensor([-50.0, 0.0, 50.0, 0.0]))
    sigma, weight = network.sigma(0), network.weights(0, 0)["0.weight"]
    torch.testing.assert_close(weight, sigma * torch.tensor([0.0, 0.5, 1.0, 0.5]).view(4, 1, 1, 1))


@pytest.mark.parametrize(("start", "beside"), [("copy", 1.0), ("zero", 0.0)])
def test_tau_starts_as_a_copy_of_sigma_as_it_is_then(start: str, beside: float) -> None:
    method = ApdNet(tau_start=start)
    network = of_tasks(method, 1)
    with torch.no_grad():
        network.sigma(2).mul_(3.0)
    method.begin(network, {}, 2)
    assert torch.equal(network.tau(1, 2), beside * network.sigma(2))


def test_the_loss_is_a_plain_sum() -> None:
    """Over layers, tasks and entries, from the weights that the network is called with; in the third task."""
    method = ApdNet(lambda_1=0.01, lambda_2=3.0, wd_rate=0.1, consolidate_every=2, clusters=1, beta=0.05)
    plan, state, network = started(method, replace(ADAM, epochs=3))
    learned(plan, state, at_stage(2, 0))
    assert network.groups(0), "the first two tasks share something, so that sigma_g counts"
    before = [layer_weights(network, task) for task in range(2)]
    learned(plan, state, at_stage(2, 0, 2))
    wanted = F.cross_entropy(network(batch_of(plan, 2).images, 2), batch_of(plan, 2).labels)
    for layer in range(3):
        for task in range(3):
            wanted = wanted + 0.01 * network.tau(task, layer).abs().sum()
        for task in range(2):
            wanted = wanted + 3.0 * (layer_weights(network, task)[layer] - before[task][layer]).square().sum()
        wanted = wanted + 0.05 * (network.tau(2, layer).square().sum() + network.mask(2, layer).square().sum())
    loss = method.objective(network, state.memory, 2, 0, "mean").loss(batch_of(plan, 2))
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    network.requires_grad_(True)
    added = method.penalty(network, state.memory, 2)()
    for layer in range(3):
        slope = torch.zeros_like(network.sigma(layer))
        for task in range(2):
            drift = layer_weights(network, task)[layer] - before[task][layer]
            assert float(drift.abs().max()) > 1e-5, "sigma has moved, and old weights a little with it"
            mask = network.mask(task, layer).detach().sigmoid().view(-1, *[1] * (drift.ndim - 1))
            slope += 2 * 3.0 * drift * mask
        (found,) = torch.autograd.grad(added, network.sigma(layer), retain_graph=True)
        torch.testing.assert_close(found, slope, rtol=1e-3, atol=1e-6)


def test_the_first_task_decays_sigma_too() -> None:
    network = of_tasks(ApdNet(), 1)
    found = ApdNet(lambda_1=0.0, wd_rate=2.0).penalty(network, {}, 0)()
    wanted = sum(
        network.tau(0, i).square().sum() + network.mask(0, i).square().sum() + network.sigma(i).square().sum()
        for i in range(3)
    )
    torch.testing.assert_close(found, wanted)


def test_without_lambda_2_old_additions_only_shrink() -> None:
    method = ApdNet(lambda_1=0.02, lambda_2=0.0)
    plan, state, network = started(method)
    learned(plan, state, at_stage(1, 0, 2))
    assert not state.memory
    objective = method.objective(network, state.memory, 1, 0, "mean")
    assert not any(name.startswith("tasks.0.") and "mask" in name for name in objective.moves)
    for parameter in objective.moves.values():
        parameter.requires_grad_(True)
    objective.loss(batch_of(plan, 1)).backward()
    for layer in range(3):
        tau = network.tau(0, layer)
        torch.testing.assert_close(tau.grad, 0.02 * tau.detach().sign())
    network.requires_grad_(False)
    for parameter in objective.moves.values():
        parameter.grad = None


def test_what_moves() -> None:
    """Of an old task its tau and v, and neither bias, normalisation, head, nor what groups share."""
    method = ApdNet(consolidate_every=1, clusters=1)
    plan, state, network = started(method)
    learned(plan, state, at_stage(2, 0))
    network.regroup(0, {(0, 1): torch.zeros_like(network.sigma(0))})
    moves = method.objective(network, state.memory, 2, 0, "mean").moves
    old = {name for name in moves if name.startswith("tasks.1.")}
    assert old == {network.name(1, layer, what) for layer in range(3) for what in ("addition", "mask")}
    assert not any("local" in name for name in moves)
    assert {name for name in moves if name.startswith("tasks.2.")} == set(
        dict(network.part(2).named_parameters("tasks.2"))
    )
    assert changed(network, moves, range(3)) == {0, 1, 2}


def drift_of_the_first_task(lambda_2: float) -> tuple[float, float]:
    """How far the first task's weights and sigma move while the second is learned, as shares of their size."""
    plan, state, network = started(ApdNet(lambda_1=0.0, lambda_2=lambda_2, drop_below=0.0))
    learned(plan, state, at_stage(1, 0))
    weights, sigma = torch.cat([w.flatten() for w in layer_weights(network, 0)]), shared(network)
    learned(plan, state, at_stage(2, 0))
    now = torch.cat([w.flatten() for w in layer_weights(network, 0)])
    return float((now - weights).norm() / weights.norm()), float((shared(network) - sigma).norm() / sigma.norm())


def shared(network: AdditiveNetwork) -> Tensor:
    return torch.cat([network.sigma(layer).detach().flatten() for layer in range(3)])


def test_old_weights_stay_while_sigma_moves() -> None:
    free, moved_free = drift_of_the_first_task(0.0)
    held, moved_held = drift_of_the_first_task(1000.0)
    assert moved_free > 0.01
    assert moved_held > 0.005, "sigma still learns"
    assert held < 0.3 * free


def test_old_answers_stay() -> None:
    far = []
    for lambda_2 in (0.0, 1000.0):
        plan, state, _ = started(ApdNet(lambda_1=0.0, lambda_2=lambda_2, drop_below=0.0), replace(ADAM, rate=1e-2))
        learned(plan, state, at_stage(1, 0))
        before = answers(plan, state, 0)
        learned(plan, state)
        far.append(float((answers(plan, state, 0) - before).abs().mean()))
    assert far[1] < 0.5 * far[0]


# ---------------------------------------------------------------- what is dropped, and what is counted


def test_small_entries() -> None:
    found = without_small(torch.tensor([0.3, -0.3, 0.1, -0.1, 0.0, 0.1001]), 0.1)
    assert found.tolist() == pytest.approx([0.3, -0.3, 0.0, 0.0, 0.0, 0.1001])


def test_small_additions_of_all_tasks_are_dropped_and_told() -> None:
    method = ApdNet(drop_below=0.1, consolidate_every=0)
    network = of_tasks(method, 2)
    with_tau(network, 0, [[0.2, 0.05, -0.1], [0.2, 0.3, -0.4]])
    with_tau(network, 1, [[0.05, 0.4], [0.5]])
    with_tau(network, 2, [[1.0], [-1.0]])
    moved = method.leave(network, {}, [1], {})
    assert moved == {network.name(0, 0, "addition"), network.name(0, 1, "addition")}
    assert first(network.tau(0, 0), 3) == [0.2, 0.0, 0.0]
    assert first(network.tau(1, 0), 3) == [0.2, 0.3, -0.4]


def test_counts_and_capacity() -> None:
    """One convolution of 4 x 1 x 3 x 3, linear layers of 12 x 64 and 8 x 12; heads of 8 x 2 + 2."""
    network = of_tasks(ApdNet(tau_start="zero"), 2)
    weights, biases, masks, norm, head = 36 + 768 + 96, 4 + 12 + 8, 24, 8, 18
    each = weights + masks + biases + norm
    assert network.counts() == {
        "shared": weights,
        "own": 2 * each,
        "head": 2 * head,
        "total": weights + 2 * (each + head),
    }
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.sigma(1).fill_(1.0)
    with_tau(network, 0, [[1.0, 2.0, 3.0], [1.0]])
    assert network.nonzero() == {"shared": (0, 768, 0), "local": (0, 0, 0), "own": (4, 0, 0)}
    assert network.capacity() == pytest.approx((768 + 4) / (weights + biases + norm + 2 * head))
    network.regroup(2, {(0, 1): torch.eye(8, 12)})
    assert network.nonzero()["local"] == (0, 0, 8)
    assert network.counts()["own"] == 2 * each + 96


# ---------------------------------------------------------------- consolidation


@pytest.mark.parametrize(
    ("centre", "middles"), [("mean", [0.104, -0.2, 0.0, 0.0]), ("middle", [0.105, -0.2, 0.0, 0.0])]
)
def test_what_a_group_shares_by_hand(centre: str, middles: list[float]) -> None:
    """Entries as far apart as beta = 0.0101, alike, farther apart, and on both sides of zero."""
    full = torch.tensor([[0.100, -0.2, 0.30, 0.02], [0.102, -0.2, 0.32, -0.02], [0.110, -0.2, 0.30, 0.0]])
    local, tau = shared_part(full, 0.0101, centre)
    assert local.tolist() == pytest.approx(middles, abs=1e-6)
    wanted = torch.tensor([[0, 0, 0.30, 0.02], [0, 0, 0.32, -0.02], [0, 0, 0.30, 0.0]])
    torch.testing.assert_close(tau, wanted)


def test_tasks_are_grouped_by_distance() -> None:
    points = torch.tensor([[0.0, 0.0], [5.0, 5.0], [0.1, 0.0], [5.0, 5.1], [9.0, -9.0]])
    labels = grouped(points, points[[0, 1, 4]], 0)
    assert labels[0] == labels[2]
    assert labels[1] == labels[3]
    assert len(set(labels)) == 3
    assert len(set(grouped(torch.ones(4, 2), torch.ones(2, 2), 0))) == 1


CONSOLIDATING = ApdNet(drop_below=0.0, consolidate_every=4, clusters=2, beta=0.01)


def consolidated(method: ApdNet, values: list[list[float]]) -> tuple[AdditiveNetwork, list[list[Tensor]], set[str]]:
    """A network whose first layer's tau have these first entries, after its last task; and its weights before."""
    network = of_tasks(method, len(values))
    with_tau(network, 0, values)
    before = [layer_weights(network, task) for task in range(len(values))]
    return network, before, method.leave(network, {}, [len(values) - 1], {})


def test_consolidation_by_hand() -> None:
    """Two groups: in tasks 0 and 2 the first and the third entry are common, in 1 and 3 the second and the third."""
    values = [[0.500, 0.30, 0.1, 0.2], [-0.5, 0.200, 0.4, -0.9], [0.506, 0.35, 0.1, 0.0], [-0.7, 0.202, 0.4, -0.9]]
    network, before, moved = consolidated(CONSOLIDATING, values)
    assert set(network.groups(0)) == {(0, 2), (1, 3)}
    groups = {members: network.get_parameter(name) for members, name in network.groups(0).items()}
    assert first(groups[0, 2], 5) == [0.503, 0.0, 0.1, 0.0, 0.0]
    assert first(groups[1, 3], 5) == [0.0, 0.201, 0.4, -0.9, 0.0]
    found = [first(network.tau(task, 0), 5) for task in range(4)]
    assert found == [[0, 0.3, 0, 0.2, 0], [-0.5, 0, 0, 0, 0], [0, 0.35, 0, 0, 0], [-0.7, 0, 0, 0, 0]]
    assert {network.name(task, 0, "addition") for task in range(4)} <= moved
    assert set(network.groups(0).values()) <= moved
    for task in range(4):
        far = float((layer_weights(network, task)[0] - before[task][0]).abs().max())
        assert 0 < far <= 0.003 + 1e-6, "half of how far a group's entries lay apart"


def test_the_function_stays_where_nothing_but_what_is_alike_is_shared() -> None:
    values = [[0.5, 0.30, 0.1], [-0.5, 0.2, 0.4], [0.5, 0.35, 0.1], [-0.7, 0.2, 0.4]]
    network, before, _ = consolidated(replace(CONSOLIDATING, beta=0.0), values)
    assert network.nonzero()["local"][0] == 4
    assert network.nonzero()["own"][0] == 4
    for task, layer in itertools.product(range(4), range(3)):
        torch.testing.assert_close(layer_weights(network, task)[layer], before[task][layer], rtol=1e-6, atol=1e-7)


def test_small_common_entries_are_dropped() -> None:
    values = [[0.5, 0.003], [-0.5, 0.9], [0.5, 0.003], [-0.5, 0.9]]
    network, _, _ = consolidated(replace(CONSOLIDATING, drop_below=0.004), values)
    assert network.nonzero()["local"][0] == 1 + 2


def test_groups_are_found_anew_and_grow_in_number() -> None:
    """After eight tasks 2 * 8 / 4 = 4 groups, of which two begin from those that were there."""
    values = [[0.5, 0.1], [-0.5, 0.2], [0.5, 0.15], [-0.5, 0.25]]
    network, _, _ = consolidated(CONSOLIDATING, values)
    assert set(network.groups(0)) == {(0, 2), (1, 3)}
    for _ in range(4):
        CONSOLIDATING.begin(network, {}, 2)
    with torch.no_grad():
        for task, start in zip(range(4, 8), (0.5, 3.0, 3.0, -7.0), strict=True):
            network.tau(task, 0).zero_().view(-1)[0] = start
    before = [layer_weights(network, task) for task in range(8)]
    CONSOLIDATING.leave(network, {}, [7], {})
    assert set(network.groups(0)) == {(0, 2, 4), (1, 3), (5, 6)}, "task 7 is like no other and shares with none"
    held = {name for name, _ in network.named_parameters() if "local0_" in name}
    assert held == set(network.groups(0).values()), "groups of before are gone"
    for task in range(8):
        torch.testing.assert_close(layer_weights(network, task)[0], before[task][0], rtol=0, atol=0.005 + 1e-6)


def test_between_consolidations_groups_stay() -> None:
    network, _, _ = consolidated(CONSOLIDATING, [[0.5], [-0.5], [0.5], [-0.5]])
    groups = network.groups(0)
    CONSOLIDATING.begin(network, {}, 2)
    assert CONSOLIDATING.leave(network, {}, [4], {}) == set()
    assert network.groups(0) == groups
    assert network.local(4, 0) is None


def test_a_groups_numbers_are_used_by_its_tasks_alone() -> None:
    network = of_tasks(CONSOLIDATING, 3)
    network.regroup(1, {(0, 2): torch.zeros_like(network.sigma(1))})
    name = network.groups(1)[0, 2]
    assert changed(network, {name}, range(3)) == {0, 2}
    before = [network(torch.ones(2, 1, 8, 8), task) for task in range(3)]
    with torch.no_grad():
        network.get_parameter(name).add_(1.0)
    after = [network(torch.ones(2, 1, 8, 8), task) for task in range(3)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False]


# ---------------------------------------------------------------- the whole


def test_a_task_can_be_taken_away() -> None:
    """Without a task's tau, v and head the others answer as before, to the bit."""
    plan, state, network = started(ApdNet(consolidate_every=3, clusters=1, beta=0.05))
    learned(plan, state)
    assert any(1 in members for layer in range(3) for members in network.groups(layer))
    before = [answers(plan, state, task) for task in range(3)]
    with torch.no_grad():
        for layer in range(3):
            network.tau(1, layer).zero_()
            network.mask(1, layer).zero_()
        for parameter in network.head(1).parameters():
            parameter.zero_()
    after = [answers(plan, state, task) for task in range(3)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    "options",
    [
        {"consolidate_every": 2, "clusters": 1, "beta": 0.05, "drop_below": 0.01},
        {"consolidate_every": 1, "clusters": 1, "tau_start": "zero", "centre": "middle"},
        {"lambda_2": 0.0},
        {"lambda_1": 0.0, "lambda_2": 0.0, "wd_rate": 0.0},
    ],
)
def test_options_keep_what_is_promised(options: dict[str, float | str]) -> None:
    check_method(make_method("apd-net", "digits", 3, options))


def test_without_consolidation() -> None:
    method = make_method("apd-net-flat", "digits", 3, {})
    assert method == ApdNet(consolidate_every=0)
    plan, state, network = started(ApdNet(consolidate_every=0))
    learned(plan, state)
    assert not any(network.groups(layer) for layer in range(3))


def images_of(classes: int, seed: int) -> Split:
    random = torch.Generator().manual_seed(seed)
    return Split(torch.rand(8, 3, 32, 32, generator=random), torch.arange(8) % classes)


def test_a_residual_network_resumes_with_its_groups(tmp_path: Path) -> None:
    """Layers deep inside blocks, normalisation, and groups found in the middle of the run."""
    tasks = tuple(Task(f"task {t}", ("a", "b"), *(images_of(2, 3 * t + i) for i in range(3))) for t in range(3))
    training = replace(ADAM, epochs=1, batch=4)
    method = ApdNet(consolidate_every=2, clusters=1, beta=0.05)

    def fresh() -> tuple[Plan, State]:
        return begun(method, TaskStream("made", 0, tasks), resnet18(3, width=4), training)

    plan, state = fresh()
    learned(plan, state, at_stage(2, 0))
    save_state(tmp_path / "state", state, {})
    learned(plan, state)
    again, resumed = fresh()
    load_state(tmp_path / "state", again, resumed)
    network = resumed.network
    assert isinstance(network, AdditiveNetwork)
    assert network.layers == 17
    assert any(network.groups(layer) for layer in range(17))
    assert network.nonzero()["local"] != (0,) * network.blocks
    learned(again, resumed)
    assert same(numbers(state), numbers(resumed))
    network.eval()
    images = plan.data[0]["test"].take(slice(None))
    for task in range(3):
        torch.testing.assert_close(network.export(task)(images), network(images, task), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"lambda_1": -1.0}, {"lambda_2": float("inf")}, {"beta": -0.1}, {"clusters": 0}, {"consolidate_every": -1}],
)
def test_numbers_out_of_range_are_told(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        make_method("apd-net", "digits", 3, options)


@pytest.mark.parametrize("options", [{"tau_start": "random"}, {"centre": "median"}])
def test_choices_that_do_not_exist_are_told(options: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError, match=next(iter(options.values()))):
        make_method("apd-net", "digits", 3, options)
