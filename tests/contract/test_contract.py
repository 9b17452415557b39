"""Every method of the table, and every rule under every configuration, keeps what everlearn promises."""

import itertools
from dataclasses import dataclass

import pytest
import torch

from everlearn.methods.base import Objective
from everlearn.methods.catalogue import METHODS, make_method
from everlearn.methods.static import StaticTransfer
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.sharing import RULES, Hard, Tucker
from everlearn.testing import check_method
from everlearn.testing.methods import CHECKS, TRAINING, MethodFault

TOGETHER = {"dmtrl", "dmtrl-from-stl"}
RULE_OBJECTS = {name: Tucker(3) if rule is Tucker else rule() for name, rule in RULES.items()}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    # Brute force has four configurations to try with two groups of blocks, which takes half as long as eight.
    options: dict[str, str] = (
        {"groups": "1/2,3"} if name.startswith("brute-force") and name != "brute-force-hps" else {}
    )
    if METHODS[name].grows:
        options = {"nodes": "5"}
    check_method(make_method(name, "digits", 3, options), "multi-task" if name in TOGETHER else "lifelong")


@pytest.mark.parametrize("rule", RULE_OBJECTS)
@pytest.mark.parametrize("configuration", ["".join(c) for c in itertools.product("01", repeat=3)])
def test_rules_under_configurations(rule: str, configuration: str) -> None:
    """A transferred block's parameters are the rule's, another's are an ordinary layer's; all get gradients."""
    network = LifelongNetwork(make_backbone("digits", (1, 8, 8)), RULE_OBJECTS[rule], 0)
    for _ in range(2):
        network.add_task(2, tuple(c == "1" for c in configuration))
    counts = network.counts()
    shared = own = 0
    for sites, transfer in zip(network.sites, configuration, strict=True):
        layer = sites[0].layer
        shared_here, own_here = network.rule.counts(layer) if transfer == "1" else (0, layer.numbers)
        shared, own = shared + shared_here, own + 2 * own_here
    assert (counts["shared"], counts["own"]) == (shared, own)


@dataclass(frozen=True)
class HeadOnly(StaticTransfer):
    """A method that opens less than a task uses."""

    def objective(self, network, memory, task, stage, reduction):  # type: ignore[no-untyped-def]
        whole = super().objective(network, memory, task, stage, reduction)
        return Objective({name: p for name, p in whole.moves.items() if ".head." in name}, whole.loss)


@dataclass(frozen=True)
class MovesMore(StaticTransfer):
    """A faulty method: a loss changes a parameter that is not open."""

    def objective(self, network, memory, task, stage, reduction):  # type: ignore[no-untyped-def]
        whole = super().objective(network, memory, task, stage, reduction)

        def loss(batch):  # type: ignore[no-untyped-def]
            with torch.no_grad():
                next(iter(network.tasks[0].head.parameters())).add_(1)
            return whole.loss(batch)

        return Objective(whole.moves, loss)


@dataclass(frozen=True)
class KeepsImages(StaticTransfer):
    """A faulty method: it remembers what it was shown."""

    def objective(self, network, memory, task, stage, reduction):  # type: ignore[no-untyped-def]
        whole = super().objective(network, memory, task, stage, reduction)

        def loss(batch):  # type: ignore[no-untyped-def]
            memory["seen"] = batch.images.clone()
            return whole.loss(batch)

        return Objective(whole.moves, loss)


def test_a_method_may_open_a_part() -> None:
    check_method(HeadOnly(Hard()))


def test_the_suite_finds_faults() -> None:
    with pytest.raises(MethodFault, match="MovesMore"):
        CHECKS["moves"](MovesMore(Hard()), TRAINING)
    with pytest.raises(MethodFault, match="changes the network"):
        CHECKS["objective only reads"](MovesMore(Hard()), TRAINING)
    with pytest.raises(MethodFault, match="keeps an image in 'seen'"):
        CHECKS["keeps no images"](KeepsImages(Hard()), TRAINING)
