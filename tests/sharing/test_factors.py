from itertools import product

import pytest
import torch

from everlearn.errors import ConfigurationError
from everlearn.sharing import Factors, LayerShape
from tests.sharing.loops import largest, start

CONV = LayerShape((3, 2), 4, 5, bias=True)
LINEAR = LayerShape(None, 2, 1, bias=True)


def test_convolution_is_the_product_over_the_first_index_of_each_matrix():
    shared, own = start(Factors(), CONV)
    weight = Factors().weights(CONV, shared, own, 0)["weight"]
    S = shared["core"].tolist()
    Out, In, H, B = (own[name].tolist() for name in ("outputs", "inputs", "height", "width"))
    wanted = torch.zeros(5, 4, 3, 2, dtype=torch.float64)
    for o2, i2, h2, w2 in product(range(5), range(4), range(3), range(2)):
        wanted[o2, i2, h2, w2] = sum(
            S[o][i][h][w] * H[h][h2] * B[w][w2] * In[i][i2] * Out[o][o2]
            for o, i, h, w in product(range(5), range(4), range(3), range(2))
        )
    torch.testing.assert_close(weight, wanted)


def test_linear_is_the_product_over_the_first_index_of_each_matrix():
    layer = LayerShape(None, 3, 2, bias=True)
    shared, own = start(Factors(), layer)
    S, Out, In = shared["core"].tolist(), own["outputs"].tolist(), own["inputs"].tolist()
    wanted = [
        [sum(S[o][i] * In[i][i2] * Out[o][o2] for o, i in product(range(2), range(3))) for i2 in range(3)]
        for o2 in range(2)
    ]
    torch.testing.assert_close(
        Factors().weights(layer, shared, own, 0)["weight"], torch.tensor(wanted, dtype=torch.float64)
    )


def test_bias_is_the_tasks_own():
    shared, own = start(Factors(), CONV)
    assert torch.equal(Factors().weights(CONV, shared, own, 0)["bias"], own["bias"])
    assert set(shared) == {"core"}


def test_penalty_by_hand():
    # A = 2 * 1 of side 2: A^T A - 1 = 3 * 1, of norm sqrt(9 + 9) = 4.2426; A = [3]: 9 - 1 = 8. Not squared.
    own = {"inputs": 2 * torch.eye(2), "outputs": torch.tensor([[3.0]]), "bias": torch.tensor([5.0])}
    penalty = Factors(orthogonality=0.1).penalty(LINEAR, {"core": torch.ones(1, 2)}, own)
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.1 * (18**0.5 + 8))


def test_penalty_takes_all_four_matrices():
    # A = [[1, 1], [0, 1]] has A^T A - 1 = [[0, 1], [1, 1]], of norm sqrt 3; [2], [3] and [1] give 3, 8 and 0.
    layer = LayerShape((2, 1), 1, 1, bias=False)
    own = {
        "height": torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
        "width": torch.tensor([[2.0]]),
        "inputs": torch.tensor([[3.0]]),
        "outputs": torch.tensor([[1.0]]),
    }
    penalty = Factors(orthogonality=1.0).penalty(layer, {}, own)
    assert penalty is not None
    assert penalty.item() == pytest.approx(3**0.5 + 3 + 8 + 0)


def test_penalty_has_a_finite_gradient_where_it_is_zero():
    own = {name: torch.eye(side).requires_grad_() for name, side in (("inputs", 2), ("outputs", 1))}
    penalty = Factors().penalty(LINEAR, {}, own)
    assert penalty is not None
    assert penalty.item() == 0
    gradients = torch.autograd.grad(penalty, [own["inputs"], own["outputs"]])
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_penalty_leaves_the_core_and_the_bias_alone():
    shared, own = start(Factors(), CONV)
    tensors = [shared["core"].requires_grad_(), own["bias"].requires_grad_(), own["width"].requires_grad_()]
    penalty = Factors().penalty(CONV, shared, own)
    assert penalty is not None
    core, bias, width = torch.autograd.grad(penalty, tensors, allow_unused=True)
    assert core is None
    assert bias is None
    assert width is not None


def test_no_penalty_without_a_strength():
    shared, own = start(Factors(), CONV)
    assert Factors(orthogonality=0).penalty(CONV, shared, own) is None


def test_starts_within_tensorflows_limits():
    layer = LayerShape((3, 3), 16, 24, bias=True)
    wanted = {
        "core": (6 / (9 * 16 + 9 * 24)) ** 0.5,
        "height": (6 / 6) ** 0.5,
        "width": (6 / 6) ** 0.5,
        "inputs": (6 / 32) ** 0.5,
        "outputs": (6 / 48) ** 0.5,
        "bias": (6 / 48) ** 0.5,  # a vector of 24 counts twice
    }
    found = largest(Factors(), layer)
    assert found == pytest.approx(wanted, rel=0.03)
    assert all(found[name] <= limit * (1 + 1e-6) for name, limit in wanted.items())


def test_counts_by_hand():
    # core 3 * 2 * 4 * 5; own 9 + 4 + 16 + 25 and a bias of 5
    assert Factors().counts(CONV) == (120, 59)
    # core 1 * 2; own 4 + 1 and a bias of 1
    assert Factors().counts(LINEAR) == (2, 6)


def test_negative_strength():
    with pytest.raises(ConfigurationError, match=r"at least 0, but came with -0\.1"):
        Factors(orthogonality=-0.1)
