"""A trunk that grows: what is cut out, what a task sees of what is put back, and what it never sees."""

from collections import OrderedDict
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.experiments.checkpoint import load_tensors
from everlearn.methods.expanding import add_units, keep_needed, new_weights
from everlearn.networks.backbone import Backbone
from everlearn.networks.growing import GrowingNetwork, Layer
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.networks.units import expanded, narrowed, with_shared_hidden_layers


def tiny(sizes: Sequence[int] = (3, 4, 3)) -> Backbone:
    """Two fully connected layers, of 3 inputs, 4 and 3 units."""
    blocks = [
        nn.Sequential(nn.Flatten(), nn.Linear(sizes[0], sizes[1]), nn.ReLU()),
        nn.Sequential(nn.Linear(sizes[1], sizes[2]), nn.ReLU()),
    ]
    return Backbone("tiny", tuple(blocks), lambda classes: nn.Linear(sizes[2], classes), start="module")


def tiny_conv() -> Backbone:
    """A convolution of 2 to 3, another of 3 to 4 on 4 x 4, and a layer of 5 units on its flattened maps."""
    blocks = [
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU()),
    ]
    return Backbone("tiny-conv", tuple(blocks), lambda classes: nn.Linear(5, classes), start="module")


def learner(backbone: Backbone | None = None, stamped: bool = True, tasks: int = 2) -> GrowingNetwork:
    network = GrowingNetwork(backbone or tiny(), 0, stamped)
    for _ in range(tasks):
        network.add(2)
    return network.eval()


def images(count: int = 7, shape: tuple[int, ...] = (1, 1, 3)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def shake(network: GrowingNetwork, task: int, names: str = "") -> None:
    """Change what is cut out, as training would."""
    for place, (name, parameter) in enumerate(network.part(task).extra.items()):
        if name.startswith(names):
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place))


PARTS = {
    "fully connected": (tiny, ((0, 2), (0, 1, 3), (1, 2)), (1, 1, 3)),
    "convolutions": (tiny_conv, ((1,), (0, 2), (1, 2, 3), (0, 4)), (2, 4, 4)),
}
by_kind = pytest.mark.parametrize("kind", PARTS)


@torch.no_grad()
def disconnect(network: GrowingNetwork, units: Sequence[Sequence[int]]) -> None:
    """Let inputs that are not selected lead to no selected unit, as those are that a search from the top leaves out."""
    weight = network.trunk(0).weight
    for unit in units[1]:
        for channel in set(range(weight.shape[1])) - set(units[0]):
            weight[unit, channel] = 0


# ------------------------------------------------------------------ cutting out


@by_kind
def test_what_is_cut_out_is_small_and_answers_as_the_network_without_the_rest(kind: str) -> None:
    make, units, shape = PARTS[kind]
    network = learner(make())
    whole = [network.trunk(block) for block in range(network.blocks)]
    head = network.head_layer(1)
    hidden: Tensor = images(shape=shape)
    hidden = hidden.flatten(1) if kind == "fully connected" else hidden
    for block, layer in enumerate(whole):
        # Whatever is not selected counts nothing.
        mask = torch.zeros(hidden.shape[1])
        mask[
            list(units[block]) if block == 0 else expanded(units[block], hidden.shape[1] // len(whole[block - 1].bias))
        ] = 1
        hidden = hidden * mask.view(1, -1, *[1] * (hidden.ndim - 2))
        if layer.weight.ndim == 4:
            hidden = F.relu(F.conv2d(hidden, layer.weight, layer.bias, padding=1))
            hidden = F.max_pool2d(hidden, 2) if block == 0 else hidden.flatten(1)
        else:
            hidden = F.relu(F.linear(hidden, layer.weight, layer.bias))
    top = list(units[-1])
    expected = F.linear(hidden[:, top], head.weight[:, top], head.bias)

    network.cut_out(1, units)
    network.set_head(1, head.weight[:, top], head.bias)
    torch.testing.assert_close(network(images(shape=shape), 1), expected)
    sizes = [tuple(layer.weight.shape[:2]) for layer in network.cut(1)]
    each = [1, 1, 4] if kind == "convolutions" else [1, 1]
    assert sizes == [(len(up), len(low) * e) for low, up, e in zip(units, units[1:], each, strict=False)]


@by_kind
def test_putting_back_what_was_cut_out_changes_nothing(kind: str) -> None:
    make, units, shape = PARTS[kind]
    network = learner(make())
    before = {name: t.clone() for name, t in network.shared.named_parameters()}
    first, second = network(images(shape=shape), 0), network.head_layer(1)
    network.cut_out(1, units)
    network.set_head(1, second.weight[:, list(units[-1])], second.bias)
    cut = network(images(shape=shape), 1)
    network.close(1)
    assert {n: t.tolist() for n, t in network.shared.named_parameters()} == {n: t.tolist() for n, t in before.items()}
    assert torch.equal(network(images(shape=shape), 0), first)
    assert network.structures[1].widths == network.structures[0].widths == network.sizes()
    # What the rest gives the units above is back, so the task answers otherwise than its part alone did.
    if kind == "convolutions":
        assert not torch.allclose(network(images(shape=shape), 1), cut)


def test_an_old_task_sees_what_training_does_to_its_units_at_once_and_nothing_else() -> None:
    network = learner()
    network.cut_out(1, ((0, 2), (0, 1, 3), (1, 2)))
    network.set_head(1, torch.ones(2, 2), torch.zeros(2))
    shake(network, 1)
    during = network(images(), 0)
    by_hand = [network.trunk(0).weight.detach().clone(), network.trunk(1).weight.detach().clone()]
    kept = by_hand[0].clone()
    for row, unit in enumerate((0, 1, 3)):
        for column, below in enumerate((0, 2)):
            by_hand[0][unit, below] = network.cut(1)[0].weight[row, column]
    network.close(1)
    assert torch.equal(network(images(), 0), during)
    assert torch.equal(network.trunk(0).weight, by_hand[0])
    assert torch.equal(by_hand[0][2], kept[2])
    assert torch.equal(by_hand[0][:, 1], kept[:, 1])
    assert not torch.equal(by_hand[0], kept)


def test_which_parameters_an_old_task_depends_on_while_another_is_trained() -> None:
    network = learner()
    assert {name for name in network.used(0) if name.startswith("tasks.1.")} == set()
    network.cut_out(1, ((0, 1, 2), (0, 1), (0,)))
    add_units(network, 1, 2)
    names = {name for name in network.used(0) if name.startswith("tasks.1.")}
    assert names == {f"tasks.1.extra.{kind}{block}" for kind in ("weight", "bias") for block in range(2)}
    assert set(new_weights(network, 1)) == {"rows0", "row_bias0", "rows1", "row_bias1", "columns1"}
    assert set(network.used(1)) > {"tasks.1.extra.rows0", "tasks.1.head.weight"}


# ------------------------------------------------------------------ growing


def grown(stamped: bool = True) -> tuple[GrowingNetwork, Tensor]:
    """Task 1's part, with two new units in each layer, trained and put back; and task 0's answers before."""
    network = learner(stamped=stamped)
    before = network(images(), 0).detach()
    network.cut_out(1, ((0, 1, 2), (0, 3), (1, 2)))
    network.set_head(1, torch.ones(2, 2), torch.zeros(2))
    add_units(network, 1, 2)
    shake(network, 1, "row")
    shake(network, 1, "columns")
    network.set_head(1, torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), torch.zeros(2))
    keep_needed(network, 1)
    return network, before


@by_kind
def test_new_units_change_nothing_until_they_are_trained(kind: str) -> None:
    make, units, shape = PARTS[kind]
    network = learner(make())
    disconnect(network, units)
    head = network.head_layer(1)
    network.cut_out(1, units)
    network.set_head(1, head.weight[:, list(units[-1])], head.bias)
    before = network(images(shape=shape), 1)
    add_units(network, 1, 3)
    torch.testing.assert_close(network(images(shape=shape), 1), before)
    inputs = 3 if kind == "fully connected" else 2
    assert len(network.structures[1].cut[0]) == inputs
    rows = [tuple(new_weights(network, 1)[f"rows{block}"].shape[:2]) for block in range(network.blocks)]
    below = [inputs, *(len(one) + 3 for one in units[1:-1])]
    each = [1, 1, 4] if kind == "convolutions" else [1, 1]
    assert rows == [(3, count * e) for count, e in zip(below, each, strict=True)]
    # They start like the backbone's own layers, so that no two are alike.
    assert all(len({str(row.tolist()) for row in new_weights(network, 1)[f"rows{b}"]}) == 3 for b in range(len(rows)))


def test_with_random_edges_new_units_count_at_once() -> None:
    network = learner()
    network.cut_out(1, ((0, 1, 2), (0, 3), (1, 2)))
    network.set_head(1, torch.ones(2, 2), torch.zeros(2))
    before = network(images(), 1)
    add_units(network, 1, 2, random=True)
    assert not torch.allclose(network(images(), 1), before)
    assert (new_weights(network, 1)["columns1"] != 0).all()
    assert (network.head_layer(1).weight != 0).all()


def test_where_new_units_go_and_what_leads_into_them() -> None:
    network, _ = grown()
    cut = [layer.weight.detach().clone() for layer in network.cut(1)]
    before = network(images(), 1).detach()
    network.close(1)
    assert network.sizes() == (6, 5)
    assert network.stamps(0) == [0, 0, 0, 0, 1, 1]
    assert network.stamps(1) == [0, 0, 0, 1, 1]
    weight = network.trunk(1).weight.detach()
    # Units 4 and 5 of the first layer are new, as are 3 and 4 of the second. What was not selected (units 1 and 2 of
    # the first layer, unit 0 of the second) has no weight to or from them.
    assert torch.equal(weight[3:][:, [0, 3, 4, 5]], cut[1][2:])
    assert (weight[3:][:, [1, 2]] == 0).all()
    assert (weight[0, 4:] == 0).all()
    assert torch.equal(weight[[1, 2]][:, 4:], cut[1][:2, 2:])
    assert torch.equal(network.head_layer(1).weight, torch.tensor([[0.0, 1, 2, 3, 4], [0, 5, 6, 7, 8]]))
    # The task sees its part, and again what was not selected.
    assert not torch.allclose(network(images(), 1), before)


@pytest.mark.parametrize("kind", PARTS)
def test_a_task_from_before_an_expansion_answers_the_same_to_the_last_bit(kind: str) -> None:
    make, units, shape = PARTS[kind]
    network = learner(make())
    disconnect(network, units)
    before = [network(images(shape=shape), 0), network.export(0)(images(shape=shape))]
    network.cut_out(1, units)
    network.set_head(1, network.head_layer(1).weight[:, list(units[-1])], torch.zeros(2))
    add_units(network, 1, 3)
    for kind_of_weight in ("row", "columns"):
        shake(network, 1, kind_of_weight)
    keep_needed(network, 1)
    assert torch.equal(network(images(shape=shape), 0), before[0])
    network.close(1)
    assert torch.equal(network(images(shape=shape), 0), before[0])
    assert torch.equal(network.export(0)(images(shape=shape)), before[1])


@pytest.mark.parametrize("backbone", ["den-mnist", "den-cifar"])
def test_so_do_the_networks_of_the_paper(backbone: str) -> None:
    shape = (1, 28, 28) if backbone == "den-mnist" else (3, 32, 32)
    network = learner(with_shared_hidden_layers(make_backbone(backbone, shape)))
    before = network(images(9, shape), 0)
    sizes = network.sizes()
    inputs = network.sites[0][0].layer.inputs
    units = (tuple(range(inputs)), *(tuple(range(0, size, 2)) for size in sizes))
    network.cut_out(1, units)
    network.set_head(1, network.head_layer(1).weight[:, expanded(units[-1], network.each[-1])], torch.zeros(2))
    add_units(network, 1, 7)
    keep_needed(network, 1)
    network.close(1)
    assert network.sizes() == tuple(size + 7 for size in sizes)
    assert torch.equal(network(images(9, shape), 0), before)


def test_without_time_stamps_old_tasks_come_to_use_new_units() -> None:
    network, before = grown(stamped=False)
    assert torch.equal(network(images(), 0), before)
    network.close(1)
    assert not torch.allclose(network(images(), 0), before)
    assert network.structures[0].widths == (6, 5)
    # "Older heads get zero rows for new units": what reaches the old task comes through units that it had.
    assert (network.head_layer(0).weight[:, 3:] == 0).all()


def test_new_units_that_nothing_leads_into_are_removed() -> None:
    network = learner()
    network.cut_out(1, ((0, 1, 2), (0, 3), (1, 2)))
    network.set_head(1, torch.ones(2, 2), torch.zeros(2))
    add_units(network, 1, 3, random=True)
    with torch.no_grad():
        new = new_weights(network, 1)
        for name, unit in (("rows0", 1), ("row_bias0", 1), ("rows1", 0), ("row_bias1", 0), ("rows1", 2)):
            new[name][unit] = 0  # the last of the second layer keeps its bias
    before = network(images(), 1)
    kept = {name: tensor.detach().clone() for name, tensor in new.items()}
    head = network.head_layer(1).weight.detach().clone()
    assert keep_needed(network, 1) == [2, 2]
    torch.testing.assert_close(network(images(), 1), before)
    first, second = network.cut(1)
    assert torch.equal(first.weight[2:], kept["rows0"][[0, 2]])
    assert torch.equal(second.weight[:2, 2:], kept["columns1"][:, [0, 2]])
    assert torch.equal(second.weight[2:], kept["rows1"][[1, 2]][:, [0, 1, 2, 4]])
    assert torch.equal(network.head_layer(1).weight, head[:, [0, 1, 3, 4]])
    assert not new_weights(network, 1)


def test_how_many_units_a_task_uses_while_it_is_trained_and_after() -> None:
    network = learner()
    assert network.units(1) == (4, 3)
    network.cut_out(1, ((0, 1, 2), (0, 3), (1, 2)))
    assert (network.units(0), network.units(1)) == ((4, 3), (2, 2))
    network.set_head(1, torch.ones(2, 2), torch.zeros(2))
    add_units(network, 1, 3)
    assert network.units(1) == (5, 5)
    keep_needed(network, 1)
    assert network.units(1) == (5, 5)
    network.close(1)
    assert (network.units(0), network.units(1)) == ((4, 3), (7, 6))


def test_a_third_task_sees_what_the_second_added() -> None:
    network, _ = grown()
    network.close(1)
    task = network.add(3)
    assert network.structures[task].widths == (6, 5)
    assert network.head_layer(task).weight.shape == (3, 5)
    assert network(images(), task).shape == (7, 3)


def test_shapes_that_grew_come_back() -> None:
    network, _ = grown()
    saved, structures = {n: t.clone() for n, t in network.state_dict().items()}, list(network.structures)
    again = GrowingNetwork(tiny(), 5)
    for structure in structures:
        again.rebuild(structure)
    load_tensors(again, saved)
    again.eval()
    assert torch.equal(again(images(), 0), network(images(), 0))
    assert torch.equal(again(images(), 1), network(images(), 1))
    for one in (network, again):
        one.close(1)
    assert torch.equal(again(images(), 0), network(images(), 0))
    assert torch.equal(again(images(), 1), network(images(), 1))
    assert again.stamps(1) == network.stamps(1)


def test_a_plain_network_of_a_task_that_grew() -> None:
    network, _ = grown()
    network.close(1)
    plain = network.export(1)
    assert torch.equal(plain(images()), network(images(), 1))
    linear = [module for module in plain.modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(3, 6), (6, 5), (5, 2)]


# ------------------------------------------------------------------ what can grow


def test_the_hidden_layers_of_a_head_become_the_trunk_s() -> None:
    backbone = make_backbone("office-home", (3, 128, 128))
    deeper = with_shared_hidden_layers(backbone)
    assert len(deeper.blocks) == len(backbone.blocks) + 2
    assert [type(m).__name__ for m in deeper.blocks[-2]] == ["Flatten", "Dropout", "Linear", "ReLU"]
    assert [type(m).__name__ for m in deeper.blocks[-1]] == ["Linear", "ReLU"]
    assert [(m.in_features, m.out_features) for m in deeper.head(13).modules() if isinstance(m, nn.Linear)] == [
        (64, 13)
    ]
    # Nothing to move: a head of one layer, or one that is no sequence.
    for same in (make_backbone("den-mnist", (1, 28, 28)), resnet18(3)):
        assert len(with_shared_hidden_layers(same).blocks) == len(same.blocks)


def test_a_head_s_dropout_goes_with_the_layer_that_it_is_before() -> None:
    def head(classes: int) -> nn.Module:
        names = ("a", "relu", "drop", "b", "act", "drop2", "c")
        layers = (
            nn.Linear(3, 4),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4, 5),
            nn.Tanh(),
            nn.Dropout(),
            nn.Linear(5, classes),
        )
        return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))

    deeper = with_shared_hidden_layers(Backbone("x", tiny().blocks, head))
    named = [[name for name, _ in block.named_children()] for block in deeper.blocks[2:]]
    assert named == [["a", "relu"], ["drop", "b", "act"]]
    assert [name for name, _ in deeper.head(2).named_children()] == ["drop2", "c"]


def test_normalisation_is_refused_with_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"no normalisation, but block 1 of 'resnet18' is none"):
        GrowingNetwork(resnet18(3), 0)


def test_so_is_a_head_of_several_layers() -> None:
    def head(classes: int) -> nn.Module:
        inner = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, classes))
        return nn.Sequential(OrderedDict(inner=inner))

    with pytest.raises(ConfigurationError, match="heads of one linear layer, but that of 'two' has 2"):
        GrowingNetwork(with_shared_hidden_layers(Backbone("two", tiny().blocks, head)), 0)


@pytest.mark.parametrize("norm", [nn.LayerNorm(3), nn.BatchNorm1d(3, affine=False)])
def test_so_is_a_head_that_normalises(norm: nn.Module) -> None:
    """Its size would stay what it was while the layer below grows."""
    backbone = Backbone("normed", tiny().blocks, lambda classes: nn.Sequential(norm, nn.Linear(3, classes)))
    with pytest.raises(ConfigurationError, match="heads that learn nothing but one linear layer, but that of 'normed'"):
        GrowingNetwork(backbone, 0)


def test_columns_are_cut_off_or_filled_with_zeros() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0]])
    assert narrowed(weight, 2).tolist() == [[1, 2]]
    assert narrowed(weight, 5).tolist() == [[1, 2, 3, 0, 0]]
    assert expanded((0, 2), 3).tolist() == [0, 1, 2, 6, 7, 8]


def test_a_layer_that_is_set_is_a_copy() -> None:
    network = learner()
    network.cut_out(1, ((0, 1, 2), (0, 3), (1, 2)))
    weight = torch.zeros(2, 3)
    network.set_cut(1, [Layer(weight, torch.zeros(2)), network.cut(1)[1]])
    weight += 1
    assert (network.cut(1)[0].weight == 0).all()
