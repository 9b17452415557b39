"""The steps of DEN worked out by hand: shrinking, selecting, splitting."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlearn.methods.proximal import connections, shrink_connections, shrink_units
from everlearn.methods.selection import leading_to, sparse_linear, used_units
from everlearn.methods.splitting import drifts, split_units
from everlearn.networks.growing import GrowingNetwork, Layer
from tests.networks.test_growing import images, learner, tiny, tiny_conv

# ------------------------------------------------------------------ proximal steps


def test_single_weights_are_shrunk_towards_zero_and_stop_there() -> None:
    weight = torch.tensor([[0.5, -0.5, 0.1], [-0.2, 0.0, 0.3]])
    shrink_connections(weight, 0.2)
    torch.testing.assert_close(weight, torch.tensor([[0.3, -0.3, 0.0], [0.0, 0.0, 0.1]]))
    assert (weight == 0).sum() == 3


def test_of_a_convolution_whole_kernels_are() -> None:
    weight = torch.zeros(1, 3, 1, 2)
    weight[0, :, 0] = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    shrink_connections(weight, 1.0)
    # Norms 5, 0.5 and 0: the first is four fifths of itself, the second is cut off.
    torch.testing.assert_close(weight[0, :, 0], torch.tensor([[2.4, 3.2], [0.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(connections(weight), torch.tensor([[4.0, 0.0, 0.0]]))


def test_units_are_shrunk_with_their_bias() -> None:
    weight, bias = torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([4.0, 0.4])
    shrink_units(weight, bias, 1.0)
    torch.testing.assert_close(weight, torch.tensor([[2.4, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(bias, torch.tensor([3.2, 0.0]))
    filters, biases = torch.full((1, 2, 1, 2), 1.5), torch.tensor([4.0])
    shrink_units(filters, biases, 2.5)
    torch.testing.assert_close(filters, torch.full((1, 2, 1, 2), 0.75))
    torch.testing.assert_close(biases, torch.tensor([2.0]))


# ------------------------------------------------------------------ selection


def problem(several: bool) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    features = F.relu(torch.randn(400, 12, generator=random, dtype=torch.float64)) + 0.1
    truth = features[:, :3] - features[:, :3].mean(0)
    return features, (truth > 0).double() if several else truth.argmax(1)


@pytest.mark.parametrize("several", [False, True], ids=["one class", "several labels"])
def test_the_sparse_model_is_where_no_step_goes_further_down(several: bool) -> None:
    """Eq. 3's conditions: the loss's gradient is -mu sign(w), or no larger than mu where w is zero."""
    features, labels = problem(several)
    mu = 0.02
    weight, bias = sparse_linear(features, labels, 3, mu)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    logits = F.linear(features, weight, bias)
    loss = (
        F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1).mean()
        if several
        else F.cross_entropy(logits, labels)
    )
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    used = weight.detach() != 0
    assert 3 <= used.sum() < weight.numel()
    torch.testing.assert_close(weight.grad[used], -mu * weight.detach()[used].sign(), atol=2e-3, rtol=0)
    assert weight.grad[~used].abs().max() <= mu + 1e-3
    assert bias.grad.abs().max() < 2e-3
    # What decides is found.
    assert used_units(weight.detach(), 1)[:3] == (0, 1, 2)


def test_the_stronger_the_norm_the_fewer_units() -> None:
    features, labels = problem(False)
    counts = [len(used_units(sparse_linear(features, labels, 3, mu)[0], 1)) for mu in (1e-4, 2e-2, 0.14)]
    assert counts[0] > counts[1] > counts[2] >= 1
    nothing, bias = sparse_linear(features, labels, 3, 10.0)
    assert (nothing == 0).all()
    torch.testing.assert_close(bias.softmax(0), torch.bincount(labels).double() / 400, atol=1e-3, rtol=0)


def test_which_units_a_model_uses() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    assert used_units(weight, 1) == (3, 5)
    assert used_units(weight, 2) == (1, 2)  # two features a unit
    assert used_units(weight, 1, first=True) == (3,)
    assert used_units(torch.zeros(2, 4), 1) == (0,)  # a layer needs a unit


@torch.no_grad()
def wired(network: GrowingNetwork, block: int, edges: dict[int, tuple[int, ...]]) -> None:
    weight = network.trunk(block).weight
    weight.zero_()
    for unit, below in edges.items():
        for one in below:
            weight[unit, one] = -0.5


def test_the_search_goes_down_along_weights_that_are_not_zero() -> None:
    network = learner(tiny())
    wired(network, 1, {0: (0, 1), 1: (3,), 2: (1,)})
    wired(network, 0, {0: (0,), 1: (0, 2), 2: (1,), 3: (2,)})
    assert leading_to(network, (1,), every_input=False) == ((2,), (3,), (1,))
    assert leading_to(network, (1, 2), every_input=False) == ((0, 2), (1, 3), (1, 2))
    assert leading_to(network, (0, 1, 2), every_input=False) == ((0, 2), (0, 1, 3), (0, 1, 2))
    assert leading_to(network, (1,), every_input=True) == ((0, 1, 2), (3,), (1,))


def test_a_connection_of_filters_is_a_kernel_and_a_flattened_filter_all_its_pixels() -> None:
    network = learner(tiny_conv())
    wired(network, 2, {0: (5,), 1: (0, 15)})  # pixel 1 of filter 1; pixels of filters 0 and 3
    wired(network, 1, {0: (0,), 1: (2,), 3: (1, 2)})
    wired(network, 0, {0: (0,), 1: (1,), 2: (1,)})
    assert leading_to(network, (0,), every_input=False) == ((1,), (2,), (1,), (0,))
    assert leading_to(network, (1,), every_input=False) == ((0, 1), (0, 1, 2), (0, 3), (1,))


def test_where_nothing_leads_up_one_unit_stays() -> None:
    network = learner(tiny())
    wired(network, 1, {})
    assert leading_to(network, (2,), every_input=True) == ((0, 1, 2), (0,), (2,))


# ------------------------------------------------------------------ splitting


def trained_part() -> tuple[GrowingNetwork, list[Layer]]:
    """A part of all inputs, units 0, 1, 3 and 1, 2, with a new unit in each layer; and what it was before."""
    network = learner(tiny())
    network.cut_out(1, ((0, 1, 2), (0, 1, 3), (1, 2)))
    old = [network.old(1, block) for block in range(2)]
    first = torch.cat([old[0].weight + torch.tensor([[0.0], [0.3], [0.0]]), torch.full((1, 3), 9.0)])
    second = torch.cat([old[1].weight, torch.full((2, 1), 0.7)], 1)
    second = torch.cat([second + torch.tensor([[0.0], [0.1]]), torch.full((1, 4), 8.0)])
    network.set_cut(1, [
        Layer(first, torch.cat([old[0].bias + 1, torch.ones(1)])),
        Layer(second, torch.cat([old[1].bias + 2, torch.ones(1)])),
    ])  # fmt: skip
    network.set_head(1, torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.zeros(2))
    return network, old


def test_drift_is_the_distance_over_the_weights_that_were_there() -> None:
    network, _ = trained_part()
    rho = drifts(network, 1)
    # Of new units, and of weights from them, there is none.
    torch.testing.assert_close(rho[0], torch.tensor([0.0, 0.3 * 3**0.5, 0.0]))
    torch.testing.assert_close(rho[1], torch.tensor([0.0, 0.1 * 3**0.5]))


def test_a_unit_that_is_split_goes_back_and_its_copy_takes_over() -> None:
    network, old = trained_part()
    now = [Layer(layer.weight.detach().clone(), layer.bias.detach().clone()) for layer in network.cut(1)]
    split_units(network, 1, [[1], [1]], old_copies=False, copied=False)
    first, second = network.cut(1)
    # Unit 1 of the first layer is what it was; its copy, the last, is what it had become. The others are untouched.
    assert torch.equal(first.weight[1], old[0].weight[1])
    assert torch.equal(first.bias[1], old[0].bias[1])
    assert torch.equal(first.weight[[0, 2, 3, 4]], now[0].weight[[0, 2, 3, 1]])
    assert torch.equal(first.bias[[0, 2, 3, 4]], now[0].bias[[0, 2, 3, 1]])
    # Second layer. Unit 0 stayed: it takes from the original as before, and nothing from the copy.
    assert torch.equal(second.weight[0], torch.cat([now[1].weight[0], torch.zeros(1)]))
    # Unit 1 went back: nothing from the new unit or the copy.
    assert torch.equal(second.weight[1], torch.cat([old[1].weight[1], torch.zeros(2)]))
    # The new unit and the copy of unit 1 take from the copy what they took from the original.
    for place, was in ((2, 2), (3, 1)):
        expected = torch.cat([now[1].weight[was], now[1].weight[was][1:2]])
        expected[1] = 0
        assert torch.equal(second.weight[place], expected)
    # So does the head.
    assert network.head_layer(1).weight.tolist() == [[1, 0, 3, 2], [4, 0, 6, 5]]


def test_where_all_that_took_from_it_moves_too_the_task_is_answered_as_before() -> None:
    network, _ = trained_part()
    before = network(images(), 1)
    split_units(network, 1, [[0, 1], [0, 1]], old_copies=False, copied=False)
    torch.testing.assert_close(network(images(), 1), before)
    assert [tuple(layer.weight.shape) for layer in network.cut(1)] == [(6, 3), (5, 6)]


def test_old_tasks_are_back_where_they_were_once_every_unit_that_moved_is_split() -> None:
    network, _ = trained_part()
    network.set_cut(1, [network.cut(1)[0], network.cut(1)[1]])
    untouched = GrowingNetwork(tiny(), 0)
    for _ in range(2):
        untouched.add(2)
    untouched.eval()
    assert not torch.allclose(network(images(), 0), untouched(images(), 0))
    split_units(network, 1, [[0, 1, 2], [0, 1]], old_copies=False, copied=False)
    assert torch.equal(network(images(), 0), untouched(images(), 0))
    network.close(1)
    assert torch.equal(network(images(), 0), untouched(images(), 0))
    assert network.stamps(0) == [0] * 4 + [1] * 4
    assert network.stamps(1) == [0] * 3 + [1] * 3


def test_copied_edges_are_taken_from_both() -> None:
    network, _ = trained_part()
    second = network.cut(1)[1].weight.detach().clone()
    split_units(network, 1, [[1], []], old_copies=False, copied=True)
    assert torch.equal(network.cut(1)[1].weight, torch.cat([second, second[:, 1:2]], 1))
    assert network.head_layer(1).weight.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_the_authors_copies_start_from_the_old_weights_and_all_go_back() -> None:
    network, old = trained_part()
    split_units(network, 1, [[1], []], old_copies=True, copied=True)
    first, second = network.cut(1)
    assert torch.equal(first.weight[:3], old[0].weight)
    assert torch.equal(first.weight[4], old[0].weight[1])
    assert torch.equal(first.bias[4], old[0].bias[1])
    assert torch.equal(second.weight[:2, :3], old[1].weight)
    torch.testing.assert_close(second.weight[:2, 3], torch.tensor([0.7, 0.8]))  # what is new did not drift


def test_filters_are_split_with_every_pixel_that_they_give() -> None:
    network = learner(tiny_conv())
    network.cut_out(1, ((0, 1), (0, 1, 2), (1, 3), (0, 2)))
    before = [layer.weight.detach().clone() for layer in network.cut(1)]
    split_units(network, 1, [[], [1], []], old_copies=False, copied=True)
    first, second, third = network.cut(1)
    assert torch.equal(first.weight, before[0])
    assert torch.equal(second.weight, torch.cat([before[1], before[1][1:]]))
    assert torch.equal(third.weight, torch.cat([before[2], before[2][:, 4:8]], 1))
