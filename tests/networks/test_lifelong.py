import copy
import gc
import itertools
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import Configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.parts import Starts, TaskStructure
from everlearn.networks.resnet import resnet18
from everlearn.networks.sites import under
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.sharing.own import Own
from everlearn.sharing.rule import SharingRule

ALL = (True, True, True)
EVERY = list(itertools.product((True, False), repeat=3))
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


def test_transferring_a_block_again_replaces_what_all_tasks_share() -> None:
    network = digits(Hard(), configuration=(False, True, False))
    before = [network(IMAGES, task) for task in (0, 1)]  # the way the weights are made is known by now
    weights = network.weights(1, 0)
    shared = {"conv": {"weight": weights["conv.weight"] * 2, "bias": weights["conv.bias"]}}
    network.transfer_block(1, shared, {1: {"conv": {}}})
    for task in (0, 1):
        assert torch.equal(network.weights(1, task)["conv.weight"], shared["conv"]["weight"])
        assert not torch.allclose(network(IMAGES, task), before[task])


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


# ---------------------------------------------------------------- open tasks


def opened(rule: object, configuration: tuple[bool, ...] = ALL) -> LifelongNetwork:
    """A closed task, and an open one."""
    network = digits(rule, tasks=1)
    network.add_task(2, configuration, open=True)
    return network.eval()


def shaken(network: LifelongNetwork) -> dict[str, torch.Tensor]:
    """Move every number, as training would; copies of what they were."""
    before = {name: t.clone() for name, t in network.state_dict().items()}
    random = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.rand(p.shape, generator=random))
    return before


@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_an_open_task_holds_both_alternatives_and_answers_with_the_chosen(rule: object) -> None:
    network = opened(rule)
    shaken(network)
    for configuration in EVERY:
        network.choose(1, configuration)
        assert network.configurations == [ALL, configuration]
        x = IMAGES
        for block, transfer in enumerate(configuration):
            made, ordinary = network.weights(block, 1, True), network.weights(block, 1, False)
            assert not torch.equal(made["conv.weight"], ordinary["conv.weight"])
            assert ordinary["conv.weight"] is network.part(1).spare.own[block].get_parameter("=|conv/weight")
            if isinstance(rule, Hard):
                assert made["conv.weight"] is network.shared[block].get_parameter("conv|weight")
            x = network.run_block(block, made if transfer else ordinary, x)
        torch.testing.assert_close(network(IMAGES, 1), network.head(1)(x), rtol=0, atol=0)


@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_both_alternatives_start_as_those_of_a_task_that_is_not_open(rule: object) -> None:
    for configuration in EVERY:
        closed = digits(rule, tasks=1)
        closed.add_task(2, configuration)
        assert torch.equal(opened(rule, configuration)(IMAGES, 1), closed(IMAGES, 1))


def test_the_function_of_an_open_task_depends_on_everything_it_holds() -> None:
    network = opened(Factors(), (False, False, True))
    names = set(network.used(1))
    held = {n for n, _ in network.named_parameters() if n.startswith(("shared.", "tasks.1."))}
    assert names == held
    assert {"shared.0.conv|core", "tasks.1.own.0.conv|height", "tasks.1.spare.own.2.=|conv/weight"} <= names


@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_settling_keeps_what_the_configuration_needs_and_no_more(rule: object) -> None:
    for configuration in EVERY:
        network = opened(rule)
        shaken(network)
        network.choose(1, configuration)
        expected = network(IMAGES, 1)
        network.choose(1, tuple(not c for c in configuration))
        network.settle(1, configuration)
        assert torch.equal(network(IMAGES, 1), expected)
        closed = digits(rule, tasks=1)
        closed.add_task(2, configuration)
        assert network.state_dict().keys() == closed.state_dict().keys()
        assert network.structures == closed.structures
        assert set(network.used(1)) == set(closed.used(1))


def test_settling_lets_go_of_what_is_dropped() -> None:
    network = opened(Hard())
    network(IMAGES, 1)
    network.choose(1, (False, False, False))
    network(IMAGES, 1)
    spare = network.part(1).spare
    assert spare is not None
    dropped, kept = (weakref.ref(spare.own[block].get_parameter("=|conv/weight")) for block in (0, 1))
    del spare
    network.settle(1, (True, False, True))
    gc.collect()
    assert dropped() is None
    assert kept() is network.weights(1, 1)["conv.weight"]


def test_counts_of_a_task_before_and_after_it_is_settled() -> None:
    # Convolutions of 3x3: 1 to 16, 16 to 16, 16 to 32 channels: 160, 2,320 and 4,640 numbers, 7,120 together. The head:
    # 2 x 2 x 32 = 128 to 32 and 32 to 2: 4,128 + 66 = 4,194.
    network = LifelongNetwork(make_backbone("digits", (1, 8, 8)), Hard(), 3)
    network.add_task(2, (False, False, False), open=True)
    assert network.counts() == {"shared": 7120, "own": 7120, "head": 4194, "total": 18434}
    network.choose(0, (True, False, True))
    assert network.counts()["total"] == 18434
    network.settle(0, (True, False, True))
    assert network.counts() == {"shared": 160 + 4640, "own": 2320, "head": 4194, "total": 11314}


def test_settling_keeps_the_statistics_of_the_alternative_that_stays() -> None:
    network = LifelongNetwork(resnet18(channels=1, width=4), Hard(), 0)
    network.add_task(3, (True,) * 9, open=True)
    network.train()
    network(IMAGES + 5, 0)
    network.choose(0, (False,) * 9)
    network(IMAGES - 9, 0)
    made, ordinary = (network.weights(0, 0, transfer)["1.running_mean"].clone() for transfer in (True, False))
    assert made.abs().min() > 0
    assert not torch.allclose(made, ordinary)
    network.settle(0, (True,) + (False,) * 8)
    assert torch.equal(network.weights(0, 0)["1.running_mean"], made)
    other = LifelongNetwork(resnet18(channels=1, width=4), Hard(), 0)
    other.add_task(3, (True,) * 9, open=True)
    other.train()
    other(IMAGES + 5, 0)
    other.choose(0, (False,) * 9)
    other(IMAGES - 9, 0)
    other.settle(0, (False,) * 9)
    assert torch.equal(other.weights(0, 0)["1.running_mean"], ordinary)


@pytest.mark.parametrize("open", [False, True])
def test_restarting_a_task_gives_its_first_numbers_again(open: bool) -> None:
    network = digits(Factors(), tasks=2)
    network.add_task(2, ALL, open=open)
    first = shaken(network)
    moved = {name: t.clone() for name, t in network.state_dict().items()}
    network(IMAGES, 1)  # the way its weights are made is known by now
    network.restart(1, ALL)
    now = network.state_dict()
    assert now.keys() == first.keys()
    for name, tensor in now.items():
        assert torch.equal(tensor, first[name] if name.startswith("tasks.1.") else moved[name]), name
    network.restart(1, (False, True, False))
    other = digits(Factors(), tasks=1)
    other.add_task(2, (False, True, False))
    assert network.configurations[1] == (False, True, False)
    assert all(torch.equal(t, network.part(1).state_dict()[n]) for n, t in other.part(1).state_dict().items())
    network.restart(2, ALL)
    assert network.structures[2] == TaskStructure(2, ALL), "a restarted task is open no more"


@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_a_block_taken_for_its_own_stays_as_it_is(rule: object) -> None:
    network = digits(rule)
    shaken(network)
    logits, others = network(IMAGES, 0), network(IMAGES, 1)
    network.own_block(1, 0)
    torch.testing.assert_close(network(IMAGES, 0), logits, rtol=1e-5, atol=1e-6)
    assert network.configurations == [(True, False, True), ALL]
    assert not any(name.startswith("shared.1") for name in network.used(0))
    ordinary = digits(rule, tasks=1, configuration=(True, False, True))
    assert set(dict(network.part(0).named_parameters())) == set(dict(ordinary.part(0).named_parameters()))
    with torch.no_grad():
        for p in network.shared[1].parameters():
            p.add_(1)
    torch.testing.assert_close(network(IMAGES, 0), logits, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(network(IMAGES, 1), others), "the other task goes on sharing it"


@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_a_block_with_normalisation_taken_for_its_own_stays_as_it_is(rule: object) -> None:
    network = LifelongNetwork(resnet18(channels=1, width=4), rule, 0)  # type: ignore[arg-type]
    network.add_task(3, (True,) * 9)
    network.train()
    network(IMAGES + 5, 0)
    shaken(network)
    logits = network.eval()(IMAGES, 0)
    for block in (0, 3, 8):
        network.own_block(block, 0)
    torch.testing.assert_close(network(IMAGES, 0), logits, rtol=1e-4, atol=1e-5)
    assert "tasks.0.own.0.=|1/weight" in network.used(0)
    assert not any("running" in name for name in network.used(0))


@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_what_replaces_a_block_lies_in_the_order_in_which_a_network_is_built_anew(rule: SharingRule) -> None:
    """A checkpoint keeps an optimiser's state by position, and a convolution's bias is as large as a norm's scale."""

    def network(configuration: Configuration) -> LifelongNetwork:
        block = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2))
        made = LifelongNetwork(Backbone.of([block], 16), rule, 0)
        made.add_task(3, configuration)
        return made

    def order(made: LifelongNetwork) -> list[str]:
        return [name for name, _ in made.named_parameters()]

    plain = network((True,))
    started = Starts(plain.backbone, rule, plain.sites, 0)
    shared = {"0": under("0", started.shared(0))}
    own = {"0": under("0", started.own(0, 0, True)[0])}
    changed = network((False,))
    changed.transfer_block(0, shared, {0: own})
    assert order(changed) == order(plain)
    changed.own_block(0, 0)
    assert order(changed) == order(network((False,)))


@torch.no_grad()
def test_the_penalty_is_that_of_the_blocks_that_transfer() -> None:
    network = opened(Factors(0.5), (True, False, True))
    each = []
    for block in range(3):
        own = dict(network.part(1).own[block].named_parameters())
        total = 0.0
        for name in ("height", "width", "inputs", "outputs"):
            matrix = own[f"conv|{name}"]
            total += 0.5 * float((matrix.T @ matrix - torch.eye(len(matrix))).square().sum().sqrt())
        each.append(total)
        penalty = network.penalty_of(block, 1)
        assert penalty is not None
        assert float(penalty) == pytest.approx(total), "of any block that may transfer"
    whole = network.penalty(1)
    assert whole is not None
    assert float(whole) == pytest.approx(each[0] + each[2])
    network.choose(1, (False, False, False))
    assert network.penalty(1) is None
    assert opened(Hard()).penalty_of(0, 1) is None


def test_a_task_is_built_again_with_what_a_method_added() -> None:
    network = digits(Hard(), tasks=1)
    structure = TaskStructure(2, ALL, open=True, extra={"alpha": (3, 2), "beta": ()})
    assert network.rebuild(structure) == 1
    assert network.structures[1] == structure
    extra = network.part(1).extra
    assert {name: tuple(p.shape) for name, p in extra.items()} == {"alpha": (3, 2), "beta": ()}
    assert all(not p.any() and p.requires_grad for p in extra.values())
    assert {"tasks.1.extra.alpha", "tasks.1.extra.beta"} <= set(network.used(1))
    network.choose(1, (False, True, False))
    assert network.structures[1] == TaskStructure(2, (False, True, False), True, structure.extra)
    network.settle(1, ALL)
    assert network.structures[1] == TaskStructure(2, ALL)
    assert not any("extra" in name or "spare" in name for name in network.state_dict())
    with pytest.raises(ConfigurationError, match="has 3 entries, but 1 came"):
        network.rebuild(TaskStructure(2, (True,)))
