import torch

from everlearn.sharing import Hard, LayerShape, Own
from tests.sharing.loops import ordinary, start

LAYER = LayerShape((3, 3), 2, 4, bias=True)


def test_own_shares_nothing_and_starts_from_the_ordinary_layer():
    shared, own = start(Own(), LAYER)
    weights = Own().weights(LAYER, shared, own, 0)
    wanted = ordinary(LAYER, 1000)
    assert shared == {}
    assert torch.equal(weights["weight"], wanted["weight"])
    assert torch.equal(weights["bias"], wanted["bias"])
    assert not Own.shares_the_rest


def test_hard_shares_everything_and_starts_from_the_ordinary_layer():
    shared, own = start(Hard(), LAYER)
    wanted = ordinary(LAYER, 1000)
    assert own == {}
    for task in range(3):
        weights = Hard().weights(LAYER, shared, own, task)
        assert torch.equal(weights["weight"], wanted["weight"])
        assert torch.equal(weights["bias"], wanted["bias"])
    assert Hard.shares_the_rest


def test_counts():
    # 3 * 3 * 2 * 4 + 4
    assert Own().counts(LAYER) == (0, 76)
    assert Hard().counts(LAYER) == (76, 0)
    assert Hard().counts(LayerShape(None, 5, 3, bias=False)) == (15, 0)
