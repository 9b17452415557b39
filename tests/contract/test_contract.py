"""Every method of the table, and every rule under every configuration, keeps what everlearn promises."""

import itertools

import pytest

from everlearn.methods.catalogue import METHODS, make_method
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.sharing import RULES, Tucker
from everlearn.testing import check_method

TOGETHER = {"dmtrl", "dmtrl-from-stl"}
RULE_OBJECTS = {name: Tucker(3) if rule is Tucker else rule() for name, rule in RULES.items()}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    check_method(make_method(name, "digits", 3, {}), "multi-task" if name in TOGETHER else "lifelong")


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
