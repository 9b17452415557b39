from itertools import product
from math import exp

import pytest
import torch
from torch import nn

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.sharing import Additive, LayerShape, SharingRule
from tests.sharing.loops import largest, ordinary, start

CONV = LayerShape((3, 2), 4, 5, bias=True)
SQUARE = LayerShape((4, 4), 4, 4, bias=True)  # where a mask along a wrong side would go unnoticed by its shape
LINEAR = LayerShape(None, 3, 3, bias=True)
NO_BIAS = LayerShape(None, 3, 2, bias=False)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


@pytest.mark.parametrize("mask", ["full", "outputs"])
@pytest.mark.parametrize("layer", [CONV, SQUARE], ids=["3x2", "square"])
def test_convolution_is_the_masked_shared_weight_and_the_addition(mask, layer):
    rule = Additive(mask=mask)
    shared, own = start(rule, layer)
    own["mask"] *= 40  # as large as after training: up to 4
    S, M, A = shared["weight"].tolist(), own["mask"].tolist(), own["addition"].tolist()
    wanted = torch.zeros(layer.weight_shape, dtype=torch.float64)
    for o, i, h, w in product(*map(range, layer.weight_shape)):
        m = M[o] if mask == "outputs" else M[o][i][h][w]
        wanted[o, i, h, w] = S[o][i][h][w] * sigmoid(m) + A[o][i][h][w]
    torch.testing.assert_close(rule.weights(layer, shared, own, 0)["weight"], wanted)


@pytest.mark.parametrize("mask", ["full", "outputs"])
def test_linear_is_the_masked_shared_weight_and_the_addition(mask):
    rule = Additive(mask=mask)
    shared, own = start(rule, LINEAR)
    own["mask"] *= 40
    S, M, A = shared["weight"].tolist(), own["mask"].tolist(), own["addition"].tolist()
    wanted = [[S[o][i] * sigmoid(M[o] if mask == "outputs" else M[o][i]) + A[o][i] for i in range(3)] for o in range(3)]
    made = rule.weights(LINEAR, shared, own, 0)["weight"]
    torch.testing.assert_close(made, torch.tensor(wanted, dtype=torch.float64))


def test_weights_by_hand():
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3 / (1 + 3) = 3/4: 4 * 1/2 + 1 = 3 and 8 * 3/4 - 2 = 4.
    layer = LayerShape(None, 1, 2, bias=True)
    shared = {"weight": torch.tensor([[4.0], [8.0]]), "bias": torch.tensor([5.0, 6.0])}
    own = {"mask": torch.tensor([[1.0], [3.0]]).log(), "addition": torch.tensor([[1.0], [-2.0]])}
    made = Additive().weights(layer, shared, own, 0)
    torch.testing.assert_close(made["weight"], torch.tensor([[3.0], [4.0]]))
    assert made["bias"].tolist() == [5.0, 6.0]


def test_a_mask_of_outputs_holds_one_number_a_row_of_the_weight():
    rule = Additive(mask="outputs")
    shared, own = start(rule, SQUARE)
    assert own["mask"].shape == (4,)
    own["mask"][2] = -1e3  # shuts the third output
    weight = rule.weights(SQUARE, shared, own, 0)["weight"]
    assert torch.equal(weight[2], own["addition"][2])
    assert not torch.isclose(weight[[0, 1, 3]], own["addition"][[0, 1, 3]]).any()


def test_the_shared_weight_and_bias_start_as_the_ordinary_layer():
    shared, own = start(Additive(), CONV)
    wanted = ordinary(CONV, 1000)
    assert set(shared) == {"weight", "bias"}
    assert torch.equal(shared["weight"], wanted["weight"])
    assert torch.equal(shared["bias"], wanted["bias"])
    assert set(own) == {"mask", "addition"}
    assert own["mask"].shape == own["addition"].shape == CONV.weight_shape


def test_the_tasks_own_start_from_the_cut_normal():
    # Beyond two deviations of 0.05 everything is drawn again; what is left has 0.8796 times the deviation.
    layer = LayerShape((5, 5), 20, 40, bias=True)
    found = largest(Additive(), layer, seeds=3)
    for name in ("mask", "addition"):
        assert 0.099 < found[name] <= 0.1
        values = start(Additive(), layer)[1][name]
        assert values.std().item() == pytest.approx(0.05 * 0.8796, rel=0.02)
        assert abs(values.mean().item()) < 0.001
    own = start(Additive(), layer)[1]
    assert not torch.equal(own["mask"], own["addition"])


@pytest.mark.parametrize("mask", ["full", "outputs"])
@pytest.mark.parametrize("layer", [CONV, LINEAR, NO_BIAS], ids=["conv", "linear", "no bias"])
def test_gradients_by_hand(mask, layer):
    # The sum of W_t has the slope sigmoid(M) in S, S * sigmoid(M) * (1 - sigmoid(M)) in M (summed over an output's
    # weights, if they have one M), and 1 in A.
    rule = Additive(mask=mask)
    shared, own = start(rule, layer)
    tensors = [shared["weight"], own["mask"], own["addition"]]
    made = rule.weights(layer, *({n: t.requires_grad_() for n, t in ts.items()} for ts in (shared, own)), 0)
    S, M, A = torch.autograd.grad(made["weight"].sum(), tensors)
    with torch.no_grad():
        gate = 1 / (1 + torch.exp(-own["mask"]))
        slope = gate * (1 - gate)
        if mask == "outputs":
            wanted = slope * shared["weight"].flatten(1).sum(1)
            gate = torch.stack([torch.full(layer.weight_shape[1:], g.item(), dtype=torch.float64) for g in gate])
        else:
            wanted = slope * shared["weight"]
    torch.testing.assert_close(S, gate)
    torch.testing.assert_close(M, wanted)
    torch.testing.assert_close(A, torch.ones_like(A))


def test_the_bias_is_shared():
    shared, first = start(Additive(), CONV)
    _, second = start(Additive(), CONV, seed=1)
    for own in (first, second):
        assert torch.equal(Additive().weights(CONV, shared, own, 0)["bias"], shared["bias"])
        assert "bias" not in own
    assert Additive.shares_the_rest
    assert set(Additive().weights(NO_BIAS, *start(Additive(), NO_BIAS), 0)) == {"weight"}


@pytest.mark.parametrize(
    ("norm", "wanted"),
    [
        ("mean", 0.5 * 1.75),  # |A| = 1, 2, 0, 4: the sum is 7 and the mean 7 / 4 = 1.75
        ("sum", 0.5 * 7),
    ],
)
def test_penalty_by_hand(norm, wanted):
    layer = LayerShape(None, 2, 2, bias=True)
    shared = {"weight": torch.full((2, 2), 11.0), "bias": torch.full((2,), 13.0)}
    own = {"mask": torch.full((2, 2), 17.0), "addition": torch.tensor([[1.0, -2.0], [0.0, 4.0]])}
    penalty = Additive(sparsity=0.5, sparsity_norm=norm).penalty(layer, shared, own)
    assert penalty is not None
    assert penalty.item() == pytest.approx(wanted)


@pytest.mark.parametrize(("norm", "slope"), [("mean", 4e-4 / 120), ("sum", 4e-4)])
def test_penalty_pulls_the_addition_alone(norm, slope):
    # CONV has 3 * 2 * 4 * 5 = 120 weights; the slope of |A| is A's sign.
    rule = Additive(sparsity_norm=norm)
    shared, own = start(rule, CONV)
    tensors = [shared["weight"], shared["bias"], own["mask"], own["addition"]]
    for tensor in tensors:
        tensor.requires_grad_()
    penalty = rule.penalty(CONV, shared, own)
    assert penalty is not None
    *others, addition = torch.autograd.grad(penalty, tensors, allow_unused=True)
    assert others == [None, None, None]
    torch.testing.assert_close(addition, slope * own["addition"].detach().sign())


def test_no_penalty_without_a_strength():
    assert Additive(sparsity=0).penalty(CONV, *start(Additive(), CONV)) is None


def small_network(rule: SharingRule) -> LifelongNetwork:
    blocks = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)]
    return LifelongNetwork(Backbone.of(blocks, features=2), rule, 0)


def test_a_network_sums_the_penalties_of_its_transferred_layers():
    network = small_network(Additive(sparsity=2.0))
    task = network.add_task(2, (True, False, True))
    additions = [p for name, p in network.named_parameters() if name.endswith("addition")]
    assert [tuple(p.shape) for p in additions] == [(2, 1, 3, 3), (2, 3, 3, 3)]
    # |A| = 1 everywhere in the first layer and 3 in the other: 2 * (1 + 3), where a mean would be 2 * 2.
    with torch.no_grad():
        additions[0].fill_(-1)
        additions[1].fill_(3)
    penalty = network.penalty(task)
    assert penalty is not None
    assert penalty.item() == pytest.approx(8)


def test_a_blocks_other_parameters_are_shared():
    # Batch normalisation's scale and shift of 2 channels, beside 2 * 1 * 9 weights and 2 biases; own: 2 * 18.
    network = small_network(Additive())
    for _ in range(2):
        network.add_task(2, (True, False, False))
    assert network.counts()["shared"] == 18 + 2 + 2 + 2
    # A task's other blocks: 3 * 2 * 9 + 3 and 2 * 3 * 9 + 2.
    assert network.counts()["own"] == 2 * (2 * 18 + 57 + 56)


def test_counts_by_hand():
    # shared 3 * 2 * 4 * 5 and a bias of 5; own twice 120, or a mask of 5 and 120
    assert Additive().counts(CONV) == (125, 240)
    assert Additive(mask="outputs").counts(CONV) == (125, 125)
    # shared 3 * 2; own twice 6, or 2 and 6
    assert Additive().counts(NO_BIAS) == (6, 12)
    assert Additive(mask="outputs").counts(NO_BIAS) == (6, 8)


@pytest.mark.parametrize("rule", [Additive(), Additive(mask="outputs", sparsity_norm="sum")], ids=["lee", "yoon"])
@pytest.mark.parametrize("layer", [CONV, SQUARE, LINEAR, NO_BIAS], ids=["3x2", "square", "linear", "no bias"])
def test_counts_are_the_real_sizes(rule, layer):
    shared, own = start(rule, layer)
    assert rule.counts(layer) == tuple(sum(t.numel() for t in tensors.values()) for tensors in (shared, own))


def test_defaults_are_those_of_lee_et_al():
    rule = Additive()
    assert (rule.mask, rule.sparsity, rule.sparsity_norm) == ("full", 4e-4, "mean")


@pytest.mark.parametrize("sparsity", [-0.1, float("nan"), float("inf")])
def test_impossible_strengths(sparsity):
    with pytest.raises(ConfigurationError, match=f"a sparsity of at least 0, but came with {sparsity}"):
        Additive(sparsity=sparsity)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mask", "output", "no mask named 'output'; did you mean outputs"),
        ("mask", 1, "no mask named '1'; there are full, outputs"),
        ("sparsity_norm", "l1", "no sparsity_norm named 'l1'; there are mean, sum"),
    ],
)
def test_unknown_names(name, value, words):
    rule = Additive()
    object.__setattr__(rule, name, value)  # past the type checker of the tests, which would be first
    with pytest.raises(UnknownNameError, match=words):
        rule.__post_init__()
