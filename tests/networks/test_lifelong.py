import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.sharing.own import Own

ALL = (True, True, True)
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def digits(rule: object, tasks: int = 2, configuration: tuple[bool, ...] = ALL) -> LifelongNetwork:
    network = LifelongNetwork(make_backbone("digits", (1, 8, 8)), rule, seed=3)  # type: ignore[arg-type]
    for _ in range(tasks):
        network.add_task(2, configuration)
    return network.eval()


def test_the_function_is_that_of_a_plain_network_with_the_same_weights() -> None:
    network = digits(Hard())
    own = {name: p for name, p in network.named_parameters() if name.startswith("tasks.1.head")}
    x = IMAGES
    for block, pool in enumerate((1, 2, 2)):
        weights = network.weights(block, 1)
        x = F.relu(F.conv2d(x, weights["conv.weight"], weights["conv.bias"], padding=1))
        x = F.max_pool2d(x, pool)
    x = F.relu(x.flatten(1) @ own["tasks.1.head.hidden1.weight"].T + own["tasks.1.head.hidden1.bias"])
    x = x @ own["tasks.1.head.output.weight"].T + own["tasks.1.head.output.bias"]
    torch.testing.assert_close(network(IMAGES, 1), x)


def test_hard_sharing_gives_all_tasks_one_trunk_and_own_gives_each_its_own() -> None:
    shared, own = digits(Hard()), digits(Own())
    for block in range(3):
        assert shared.weights(block, 0)["conv.weight"] is shared.weights(block, 1)["conv.weight"]
        assert not torch.equal(own.weights(block, 0)["conv.weight"], own.weights(block, 1)["conv.weight"])


def test_blocks_that_do_not_transfer_are_ordinary_and_the_tasks_own() -> None:
    network = digits(Hard(), configuration=(True, False, True))
    assert network.weights(0, 0)["conv.weight"] is network.weights(0, 1)["conv.weight"]
    assert network.weights(1, 0)["conv.weight"] is not network.weights(1, 1)["conv.weight"]
    names = set(network.used(1))
    assert {"shared.0.conv|weight", "shared.2.conv|bias", "tasks.1.own.1.=|conv/weight"} <= names
    assert not any(name.startswith(("shared.1", "tasks.0")) for name in names)


def test_every_used_parameter_gets_a_gradient_and_no_other() -> None:
    network = digits(Factors(), configuration=(True, False, True))
    network(IMAGES, 1).square().sum().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == set(network.used(1))


def test_a_tasks_start_depends_on_seed_and_position_alone() -> None:
    first, second = digits(Own(), tasks=3), digits(Hard(), tasks=3)
    for name, p in first.named_parameters():
        if ".head." in name:
            assert torch.equal(p, dict(second.named_parameters())[name])
    assert torch.equal(first.weights(0, 2)["conv.weight"], digits(Own(), tasks=3).weights(0, 2)["conv.weight"])


@pytest.mark.parametrize("rule", [Own(), Hard(), Factors()])
def test_an_exported_network_is_plain_and_the_same(rule: object) -> None:
    network = digits(rule, configuration=(True, False, True))
    plain = network.export(1)
    torch.testing.assert_close(plain(IMAGES), network(IMAGES, 1), rtol=0, atol=0)
    before = network(IMAGES, 1)
    with torch.no_grad():
        for p in plain.parameters():
            p.zero_()
    assert torch.equal(network(IMAGES, 1), before), "the exported network must not share memory"


def test_one_head_for_all_tasks() -> None:
    network = LifelongNetwork(make_backbone("digits", (1, 8, 8)), Hard(), 0, shared_head=True).eval()
    network.add_task(2, ALL)
    network.add_task(2, ALL)
    assert torch.equal(network(IMAGES, 0), network(IMAGES, 1))
    assert network.counts()["own"] == 0
    with pytest.raises(ConfigurationError, match="task 3 has 3 and the first 2"):
        network.add_task(3, ALL)


def test_transferring_a_block_later() -> None:
    network = digits(Hard(), configuration=(False, False, False))
    trained = network.weights(1, 0)
    shared = {"conv": {"weight": trained["conv.weight"] * 2, "bias": trained["conv.bias"]}}
    network.transfer_block(1, shared, {0: {"conv": {}}})
    assert network.configurations == [(False, True, False), (False, False, False)]
    assert torch.equal(network.weights(1, 0)["conv.weight"], trained["conv.weight"] * 2)
    assert "shared.1.conv|weight" in network.used(0)
    assert not any("own.1" in name for name in network.used(0))


def test_normalisation_keeps_each_tasks_statistics_apart() -> None:
    backbone = resnet18(channels=1, width=4)
    network = LifelongNetwork(backbone, Hard(), 0)
    for _ in range(2):
        network.add_task(3, (True,) * 9)
    network.train()
    network(IMAGES + 5, 0)
    first, second = network.weights(0, 0), network.weights(0, 1)
    assert first["1.running_mean"].abs().sum() > 0
    assert second["1.running_mean"].abs().sum() == 0
    assert first["1.weight"] is second["1.weight"], "hard sharing shares the scale as well"
    own = LifelongNetwork(backbone, Factors(), 0)
    for _ in range(2):
        own.add_task(3, (True,) * 9)
    assert own.weights(0, 0)["1.weight"] is not own.weights(0, 1)["1.weight"]


def test_moving_the_network_moves_what_it_computes_with() -> None:
    network = LifelongNetwork(resnet18(channels=1, width=4), Factors(), 0).eval()
    network.add_task(3, (True,) * 9)
    network(IMAGES, 0)
    assert network.double()(IMAGES.double(), 0).dtype == torch.float64


def test_a_copy_is_independent() -> None:
    network = digits(Hard())
    before = network(IMAGES, 0)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert torch.equal(network(IMAGES, 0), before)
    assert other(IMAGES, 0).abs().sum() == 0


def test_given_weights_are_where_a_task_starts() -> None:
    block = nn.Conv2d(1, 2, 3, padding=1)
    backbone = Backbone.of([block, nn.ReLU()], features=2 * 64, start="given")
    network = LifelongNetwork(backbone, Hard(), 0)
    network.add_task(2, (True, True))
    assert torch.equal(network.weights(0, 0)["weight"], block.weight)
    assert network.weights(0, 0)["weight"] is not block.weight


def test_making_a_network_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    network = LifelongNetwork(make_backbone("resnet18", (1, 8, 8)), Hard(), 0)
    network.add_task(3, (True,) * 9)
    assert torch.equal(torch.rand(3), expected)


def test_a_configuration_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has 3 entries, but 2 came"):
        digits(Hard(), tasks=0).add_task(2, (True, True))
