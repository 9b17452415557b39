"""Copies of a network's numbers, and putting them back."""

import pytest
import torch
from torch import Tensor

from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.networks.snapshots import put_back, snapshot
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard

ALL = (True, True, True)
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def digits(tasks: int) -> LifelongNetwork:
    network = LifelongNetwork(make_backbone("digits", (1, 8, 8)), Factors(), seed=3)
    for _ in range(tasks):
        network.add_task(2, ALL)
    return network.eval()


def change(network: LifelongNetwork) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)


def numbers(network: LifelongNetwork) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in network.state_dict().items()}


def test_it_has_everything_below_the_parts_and_nothing_else() -> None:
    network = digits(12)
    names = set(network.state_dict())
    taken = snapshot(network, ["shared.1", "tasks.1"])
    assert set(taken) == {n for n in names if n.startswith(("shared.1.", "tasks.1."))}
    assert {"shared.1.conv|core", "tasks.1.own.0.conv|bias", "tasks.1.head.output.weight"} <= set(taken)
    assert not any(name.startswith(("tasks.10.", "tasks.11.")) for name in taken), "task 10 is not below task 1"
    assert set(snapshot(network, ["shared", *(f"tasks.{t}" for t in range(12))])) == names
    assert snapshot(network, []) == {}


def test_it_is_a_copy_without_a_graph() -> None:
    network = digits(1)
    before = numbers(network)
    taken = snapshot(network, ["shared", "tasks.0"])
    change(network)
    assert all(torch.equal(taken[name], before[name]) for name in before)
    assert not any(tensor.requires_grad for tensor in taken.values())


def test_what_is_put_back_is_as_it_was_and_the_rest_is_left_alone() -> None:
    network = digits(2)
    before = numbers(network)
    taken = snapshot(network, ["shared", "tasks.1"])
    change(network)
    changed = numbers(network)
    put_back(network, taken)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, changed[name] if name.startswith("tasks.0.") else before[name]), name
    change(network)
    assert torch.equal(taken["shared.0.conv|core"], before["shared.0.conv|core"]), "the snapshot can be used again"


def test_the_network_computes_with_what_was_put_back() -> None:
    """The parameters stay the same objects, so that the network, and whoever holds them, sees the numbers."""
    network = digits(1)
    logits = network(IMAGES, 0)
    held, taken = dict(network.named_parameters()), snapshot(network, ["shared", "tasks.0"])
    change(network)
    assert not torch.allclose(network(IMAGES, 0), logits)
    put_back(network, taken)
    assert torch.equal(network(IMAGES, 0), logits)
    assert all(p is held[name] and p.requires_grad and p.is_leaf for name, p in network.named_parameters())


def test_statistics_are_among_them() -> None:
    network = LifelongNetwork(resnet18(channels=1, width=4), Hard(), 0)
    network.add_task(3, (True,) * 9)
    network.train()
    taken = snapshot(network, ["tasks.0"])
    network(IMAGES + 5, 0)
    assert network.weights(0, 0)["1.running_mean"].abs().min() > 0
    put_back(network, taken)
    assert network.weights(0, 0)["1.running_mean"].abs().max() == 0


def test_a_snapshot_of_another_structure_is_refused() -> None:
    network = digits(1)
    taken = snapshot(network, ["tasks.0"])
    network.restart(0, (False, True, True))
    with pytest.raises(KeyError, match=r"tasks\.0\.own\.0\.conv"):
        put_back(network, taken)
