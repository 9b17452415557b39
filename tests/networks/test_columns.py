"""Columns: the lateral paths against a loop written out, the published counts, and what stays as it was."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, LayerError
from everlearn.methods.catalogue import make_method
from everlearn.methods.progressive import ProgressiveNet
from everlearn.networks.backbone import Backbone
from everlearn.networks.columns import ColumnNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.testing import check_method
from tests.methods.family import answers, at_stage, begun, learned, small


@pytest.mark.parametrize(
    ("backbone", "shape", "classes", "published"),
    [("cifar", (3, 32, 32), 10, 3_508_637), ("office-home", (3, 128, 128), 13, 32_718_543)],
)
def test_the_published_counts(backbone: str, shape: tuple[int, int, int], classes: int, published: int) -> None:
    """Lee et al. 2019, Fig. 3 and 5: 3.51M and 32.7M."""
    network = ColumnNetwork(make_backbone(backbone, shape), 0)
    for _ in range(10):
        network.add_column(classes, 2.0)
    assert network.counts()["total"] == published


@pytest.mark.parametrize(
    ("scale", "together", "total"), [(1.0, False, 3_763_595), (2.0, True, 3_713_515), (1.0, True, 4_142_635)]
)
def test_other_readings_count_otherwise(scale: float, together: bool, total: int) -> None:
    """Paths twice as wide, and those of Rusu et al. of half the channels and of all: none rounds to 3.51M."""
    network = ColumnNetwork(make_backbone("cifar", (3, 32, 32)), 0, together)
    for _ in range(10):
        network.add_column(10, scale)
    assert network.counts()["total"] == total


def by_hand(network: ColumnNetwork, images: Tensor, task: int) -> Tensor:
    """Every column of a network of convolution, ReLU and perhaps pooling, layer by layer."""
    below = [images] * (task + 1)
    for block, template in enumerate(network.templates):
        after = []
        for column in range(task + 1):
            weights, extra = network.weights(block, column), network.part(column).extra
            total = F.conv2d(below[column], weights["conv.weight"], weights["conv.bias"], padding=1)
            for j in range(column if block else 0):
                path = f"{block}_{j}"
                narrow = F.relu(F.conv2d(extra[f"a{path}"] * below[j], extra[f"v{path}"], extra[f"b{path}"]))
                total = total + F.conv2d(narrow, extra[f"u{path}"], padding=1)
            hidden = F.relu(total)
            after.append(F.max_pool2d(hidden, 2) if "pool" in dict(template.named_children()) else hidden)
        below = after
    return network.head(task)(below[task])


def digits(together: bool = False) -> ColumnNetwork:
    network = ColumnNetwork(make_backbone("digits", (1, 8, 8)), 0, together)
    for _ in range(3):
        network.add_column(2, 1.0)
    with torch.no_grad():  # starts are small: make every path tell
        for parameter in network.parameters():
            parameter.mul_(3.0)
    return network.eval()


def test_the_function_by_a_loop_written_out() -> None:
    network, images = digits(), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for task in range(3):
        torch.testing.assert_close(network(images, task), by_hand(network, images, task), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        network.part(2).extra["a1_0"].zero_()
    torch.testing.assert_close(network(images, 2), by_hand(network, images, 2), rtol=1e-5, atol=1e-5)


def test_one_path_from_all_columns_by_hand() -> None:
    network, images = digits(together=True), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = [network.run_block(0, network.weights(0, column), images) for column in range(3)]
    extra, weights = network.part(2).extra, network.weights(1, 2)
    scaled = torch.cat([extra["a1_0"][j] * first[j] for j in range(2)], 1)
    lateral = F.conv2d(F.relu(F.conv2d(scaled, extra["v1_0"], extra["b1_0"])), extra["u1_0"], padding=1)
    total = F.conv2d(first[2], weights["conv.weight"], weights["conv.bias"], padding=1) + lateral
    found = network._block(1, 2, first[2], first[:2])
    torch.testing.assert_close(found, F.max_pool2d(F.relu(total), 2), rtol=1e-5, atol=1e-5)


def test_channels_of_the_paths() -> None:
    """n / (2 (t + 1)), rounded down: of 16 channels 4 for the second task, 2 for the third; of 16 again, then 32."""
    network = ColumnNetwork(make_backbone("digits", (1, 8, 8)), 0)
    for _ in range(3):
        network.add_column(2, 2.0)
    shapes = {name: tuple(t.shape) for name, t in network.part(2).extra.items()}
    assert shapes["v1_0"] == shapes["v1_1"] == (2, 16, 1, 1)
    assert shapes["u2_1"] == (32, 2, 3, 3)
    assert network.part(1).extra["v1_0"].shape == (4, 16, 1, 1)
    assert not any(name[1] == "0" for name in shapes), "there is no path into the first layer"
    with pytest.raises(ConfigurationError, match="leaves no channel"):
        network.add_column(2, 40.0)


def test_starts() -> None:
    extra = ColumnNetwork(make_backbone("cifar", (3, 32, 32)), 0)
    extra.add_column(10, 2.0)
    extra.add_column(10, 2.0)
    tensors = {name: t.detach() for name, t in extra.part(1).extra.items()}
    assert all(float(t.min()) == float(t.max()) == pytest.approx(0.2) for n, t in tensors.items() if n[0] == "b")
    drawn = torch.cat([t.flatten() for n, t in tensors.items() if n[0] in "vu"])
    assert float(drawn.abs().max()) <= 0.1
    assert float(drawn.std()) == pytest.approx(0.044, abs=0.002)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("laterals", ["each", "together"])
def test_old_answers_stay_to_the_bit(norm: bool, laterals: str) -> None:
    """With convolutional and fully connected blocks, dropout in the trunk, and normalisation."""
    plan, state = begun(ProgressiveNet(1.0, laterals), backbone=small(norm=norm))
    learned(plan, state, at_stage(1, 0))
    first = answers(plan, state, 0)
    learned(plan, state, at_stage(2, 0))
    second = answers(plan, state, 1)
    learned(plan, state)
    assert torch.equal(answers(plan, state, 0), first)
    assert torch.equal(answers(plan, state, 1), second)


def test_earlier_columns_run_once_a_batch() -> None:
    network, runs = digits(), []
    for template in network.templates:
        template.register_forward_pre_hook(lambda module, args: runs.append(id(module)))
        for child in template.children():
            child.register_forward_pre_hook(lambda module, args: runs.append(id(module)))
    convolutions = {id(template.get_submodule("conv")) for template in network.templates}
    network(torch.zeros(1, 1, 8, 8), 2)
    assert (
        len([one for one in runs if one in convolutions]) == 3 + 2 * 2
    )  # what goes into the last layer suffices of earlier columns


def test_the_gradient_ends_at_earlier_columns() -> None:
    network = digits().requires_grad_(True).train()
    network(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), 2).sum().backward()
    assert {n.split(".")[1] for n, p in network.named_parameters() if p.grad is not None} == {"2"}
    names = [n for n, p in network.named_parameters() if n.startswith("tasks.2.extra") and p.grad is not None]
    assert len(names) == 2 * 2 * 4


def test_export_holds_the_columns_it_reads() -> None:
    network, images = digits(), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = network(images, 1)
    plain = network.export(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    torch.testing.assert_close(plain(images), wanted)
    assert len(plain.get_submodule("columns").network.tasks) == 2


def test_a_method_of_the_table() -> None:
    for options in ({"laterals": "together"}, {"scale": 1.0}):
        check_method(make_method("prognn", "digits", 3, options))
    with pytest.raises(ConfigurationError, match="each or together"):
        make_method("prognn", "digits", 3, {"laterals": "all"})
    with pytest.raises(ConfigurationError, match="no configuration to choose"):
        make_method("prognn@all", "digits", 3, {})


def test_a_block_of_several_layers_is_refused() -> None:
    with pytest.raises(LayerError, match="block 2 of 'resnet18'"):
        ColumnNetwork(resnet18(3, width=8), 0)
    plain = Backbone.of([nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)], 64)
    with pytest.raises(LayerError, match=r"needs to be an nn\.Sequential"):
        ColumnNetwork(plain, 0)


def test_a_norm_before_a_block_s_layer_is_refused_if_it_keeps_statistics() -> None:
    """It would learn what earlier columns give as well as its own; in the first block there are none."""

    def backbone(norm: nn.Module, before: bool) -> Backbone:
        layers = [nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]
        second = nn.Sequential(norm, *layers) if before else nn.Sequential(*layers, norm)
        return Backbone.of([nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3, padding=1)), second], 4)

    with pytest.raises(LayerError, match="but block 2 of 'custom' has a BatchNorm2d before its layer"):
        ColumnNetwork(backbone(nn.BatchNorm2d(4), True), 0)
    ColumnNetwork(backbone(nn.BatchNorm2d(4), False), 0)
    ColumnNetwork(backbone(nn.GroupNorm(2, 4), True), 0)


def test_paths_into_a_grouped_convolution_see_every_channel() -> None:
    first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1, groups=2)
    network = ColumnNetwork(Backbone.of([nn.Sequential(first), nn.Sequential(second, nn.Flatten())], 6 * 64), 0).eval()
    for _ in range(2):
        network.add_column(3, 1.0)
    weights, extra = network.weights(1, 1), network.part(1).extra
    assert extra["v1_0"].shape == (2, 4, 1, 1)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    below = [F.conv2d(x, network.weights(0, t)["0.weight"], network.weights(0, t)["0.bias"], padding=1) for t in (0, 1)]
    narrow = F.relu(F.conv2d(extra["a1_0"] * below[0], extra["v1_0"], extra["b1_0"]))
    total = F.conv2d(below[1], weights["0.weight"], weights["0.bias"], padding=1, groups=2)
    total = total + F.conv2d(narrow, extra["u1_0"], padding=1)
    torch.testing.assert_close(network.features(x, 1), total.flatten(1))


def test_each_task_has_longer_columns() -> None:
    network = digits()
    sizes = [len(network.used(task)) for task in range(3)]
    assert all(first < second for first, second in pairwise(sizes))
