"""Network expansion: new nodes copy old ones, old ones are left as they were, and what then moves."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.experiments.checkpoint import load_state, save_state
from everlearn.methods.base import Method
from everlearn.methods.catalogue import make_method
from everlearn.methods.expansion import Expansion
from everlearn.methods.fine_tuning import ALL, HEAD
from everlearn.methods.lwf import Lwf
from everlearn.networks.backbone import Backbone
from everlearn.networks.expanded import ExpandedNetwork, first_layer
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.fit import State
from tests.methods.family import answers, at_stage, begun, learned, numbers, same, small

NODES = 3


def by_hand() -> Backbone:
    """Three pixels, two nodes, two nodes; all numbers differ, and all nodes answer to some images."""
    first, second = nn.Linear(3, 2), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.25, 1.0, -1.0]]))
        first.bias.copy_(torch.tensor([0.1, 0.2]))
        second.weight.copy_(torch.tensor([[1.0, 0.5], [-0.75, 2.0]]))
        second.bias.copy_(torch.tensor([0.3, 0.4]))
    blocks = nn.Sequential(nn.Flatten(), first, nn.ReLU()), nn.Sequential(second, nn.ReLU())
    return Backbone.of(blocks, 2, start="given")


def convolutional() -> Backbone:
    """Two convolutions with pooling, and a linear layer on what they leave, 2 x 2 pixels of 4 channels."""
    blocks = (
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU()),
    )
    return Backbone.of(blocks, 5, start="module")


def grown(backbone: Backbone, layers: int, whole: bool, tasks: int = 2, nodes: int = NODES) -> ExpandedNetwork:
    """A network of so many tasks, each after the first with its new nodes; in evaluation mode."""
    network = ExpandedNetwork(backbone, 0, layers, whole)
    for task in range(tasks):
        network.add_task(2, (True,) * network.blocks)
        if task:
            network.expand(task, nodes)
    return network.eval()


def made_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def after_each_block(network: LifelongNetwork, images: Tensor, task: int) -> list[Tensor]:
    found: list[Tensor] = []
    for block in range(network.blocks):
        images = network.run_block(block, network.weights(block, task), images)
        found.append(images.detach())
    return found


def copied(new: Tensor, old: Tensor) -> list[int]:
    """For each new node, which old one has its activations over all images."""
    found = []
    for node in new.unbind(1):
        equal = [k for k, other in enumerate(old.unbind(1)) if torch.allclose(node, other, rtol=1e-5, atol=1e-6)]
        assert equal, "a new node that copies none"
        found.append(equal[0])
    return found


@pytest.mark.parametrize("whole", [True, False])
def test_new_nodes_answer_as_those_that_they_copy(whole: bool) -> None:
    backbone, images = by_hand(), made_images(40, 1, 1, 3)
    network = grown(backbone, 2, whole)
    alone = grown(backbone, 2, whole, tasks=1)
    hidden = images
    for block, (mine, before) in enumerate(
        zip(after_each_block(network, images, 1), after_each_block(alone, images, 0), strict=True)
    ):
        hidden = backbone.blocks[block](hidden)  # what the network gave before there was any learner
        assert torch.equal(before, hidden)
        assert mine.shape == (40, 2 + NODES)
        torch.testing.assert_close(mine[:, :2], before, msg="the nodes that there were")
        assert (before > 0).any(0).all(), "a node that never answers tells nothing"
        copied(mine[:, 2:], before)


def test_what_a_copied_node_gave_is_divided_among_its_copies() -> None:
    """Each number of N_2, by a loop over the nodes below and their copies."""
    backbone = by_hand()
    extra = grown(backbone, 2, whole=True).part(1).extra
    first, second = backbone.blocks[0][1], backbone.blocks[1][0]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    below = [first.bias.tolist().index(bias) for bias in extra["bias0"].tolist()]
    above = [second.bias.tolist().index(bias) for bias in extra["bias1"].tolist()]
    assert max(below.count(k) for k in range(2)) > 1, "three copies of two nodes"
    torch.testing.assert_close(extra["rows0"], first.weight[below], rtol=0, atol=0)
    expected = torch.zeros(NODES, 2 + NODES)
    for node, row in enumerate(above):
        for place, source in enumerate([0, 1, *below]):
            expected[node, place] = second.weight[row, source] / (1 + below.count(source))
    torch.testing.assert_close(extra["rows1"].detach(), expected)


def test_old_nodes_take_nothing_from_new_ones_at_the_start_or_ever() -> None:
    whole, apart = (grown(by_hand(), 2, whole) for whole in (True, False))
    extra = dict(whole.part(1).extra)
    assert set(extra) == {"rows0", "bias0", "rows1", "bias1", "columns1"}
    assert extra["columns1"].shape == (2, NODES)
    assert not extra["columns1"].any()
    assert set(dict(apart.part(1).extra)) == {"rows0", "bias0", "rows1", "bias1"}
    with torch.no_grad():
        for network in (whole, apart):
            for name, parameter in network.part(1).extra.items():
                parameter.fill_(0.5 if name.startswith("columns") else 1.0)
    weight = whole.weights(1, 0)["0.weight"]
    assert torch.equal(weight[:2, 2:], torch.full((2, NODES), 0.5)), "Z is part of the weights, of old tasks' too"
    assert apart.weights(1, 0)["0.weight"].shape == (2, 2), "an old task sees no new node"
    assert not apart.weights(1, 1)["0.weight"][:2, 2:].any()


@pytest.mark.parametrize("whole", [True, False])
def test_a_second_expansion_goes_on_from_the_first(whole: bool) -> None:
    images = made_images(40, 1, 1, 3)
    network, before = grown(by_hand(), 2, whole, tasks=3), grown(by_hand(), 2, whole, tasks=2)
    for mine, earlier in zip(after_each_block(network, images, 2), after_each_block(before, images, 1), strict=True):
        torch.testing.assert_close(mine[:, : 2 + NODES], earlier)
        copied(mine[:, 2 + NODES :], earlier)
    extra = network.part(2).extra
    assert extra["rows1"].shape == (NODES, 2 + 2 * NODES)
    assert extra["rows1"][:, 2 : 2 + NODES].any(), "new nodes take from the first expansion's"
    assert extra["rows1"][:, 2 + NODES :].any(), "and from each other"
    if whole:
        assert extra["columns1"].shape == (2 + NODES, NODES)
    sizes = [first_layer(network.head(task)).weight.shape[1] for task in range(3)]
    assert sizes == ([8, 8, 8] if whole else [2, 5, 8])
    assert [network.features(images, task).shape[1] for task in range(3)] == sizes


def test_the_new_heads_weights_from_new_nodes_are_random() -> None:
    network, plain = grown(by_hand(), 2, whole=False), LifelongNetwork(by_hand(), grown(by_hand(), 2, False).rule, 0)
    for _ in range(2):
        plain.add_task(2, (True, True))
    mine, usual = first_layer(network.head(1)).weight, first_layer(plain.head(1)).weight
    assert torch.equal(mine[:, :2], usual), "those from old nodes are the usual ones"
    assert len(set(mine[:, 2:].flatten().tolist())) == 2 * NODES, "each drawn by itself"
    assert mine[:, 2:].all()


@pytest.mark.parametrize("whole", [True, False])
def test_convolutions_widen_too_below_a_flattening_layer(whole: bool) -> None:
    images = made_images(10, 1, 8, 8)
    network, before = grown(convolutional(), 3, whole, tasks=3), grown(convolutional(), 3, whole, tasks=2)
    alone = grown(convolutional(), 3, whole, tasks=1)
    counts = (3, 4, 5)
    mine, earlier, first = (
        after_each_block(one, images, task) for one, task in ((network, 2), (before, 1), (alone, 0))
    )
    for block, count in enumerate(counts):
        assert mine[block].shape[1] == count + 2 * NODES
        torch.testing.assert_close(mine[block][:, : count + NODES], earlier[block])
        torch.testing.assert_close(mine[block][:, :count], first[block])
        copied(mine[block][:, count + NODES :], earlier[block])
        copied(earlier[block][:, count:], first[block])


def test_a_convolution_below_heads_that_flatten() -> None:
    blocks = convolutional().blocks[:2]
    backbone = Backbone.of(blocks, 16)
    network, alone = grown(backbone, 1, whole=True, tasks=3), grown(backbone, 1, whole=True, tasks=1)
    images = made_images(6, 1, 8, 8)
    torch.testing.assert_close(network(images, 0), alone(images, 0))
    assert [first_layer(network.head(task)).weight.shape for task in range(3)] == [(2, 4 * (4 + 2 * NODES))] * 3
    assert "rows0" not in network.part(1).extra, "one layer was to grow"


def test_old_answers_stay_to_the_bit_and_only_new_nodes_and_head_move() -> None:
    plan, state = begun(Expansion(nodes=NODES), backbone=small(norm=True))
    learned(plan, state, at_stage(1, HEAD))
    kept = [answers(plan, state, 0)]
    for task in (1, 2):
        learned(plan, state, at_stage(task, HEAD))
        before = numbers(state)
        learned(plan, state, lambda state, task=task: state.phase > task)  # type: ignore[misc]
        moved = {n for n, t in numbers(state).items() if not torch.equal(t, before[n]) and ".statistics." not in n}
        head, extra = f"tasks.{task}.head.1", f"tasks.{task}.extra"
        assert moved == {
            f"{head}.weight", f"{head}.bias",
            *(f"{extra}.{kind}{block}" for kind in ("rows", "bias") for block in (1, 2)),
        }  # fmt: skip
        kept.append(answers(plan, state, task))
        for old, wanted in enumerate(kept):
            assert torch.equal(answers(plan, state, old), wanted)


def test_with_lwf_old_answers_are_equal_right_after_and_then_everything_moves() -> None:
    plan, state = begun(Lwf(nodes=NODES))
    for task in (1, 2):
        learned(plan, state, lambda state, task=task: state.phase == task)  # type: ignore[misc]
        assert len(state.network.tasks) == task
        before = [answers(plan, state, old) for old in range(task)]
        learned(plan, state, at_stage(task, HEAD))
        for old, wanted in enumerate(before):
            torch.testing.assert_close(answers(plan, state, old), wanted)
            weight = first_layer(state.network.head(old)).weight
            assert weight.shape == (2, 8 + task * NODES)
            assert weight[:, : 8 + (task - 1) * NODES].all()
            assert not weight[:, 8 + (task - 1) * NODES :].any()
        assert not state.network.part(task).extra["columns2"].any()
    learned(plan, state, at_stage(2, ALL))
    start = numbers(state)
    learned(plan, state)
    unmoved = {name for name, tensor in numbers(state).items() if torch.equal(tensor, start[name])}
    assert unmoved == set()
    assert {f"tasks.{task}.extra.columns2" for task in (1, 2)} <= start.keys()
    assert first_layer(state.network.head(0)).weight[:, 8:].any(), "an old head comes to use new nodes"


def test_lwf_without_nodes_is_plain() -> None:
    assert type(Lwf().network(small(), 2, 0)) is LifelongNetwork
    method = make_method("expansion-lwf", "small", 2, {})
    assert isinstance(method, Lwf)
    assert (method.nodes, method.layers) == (1024, 2)


@pytest.mark.parametrize("whole", [True, False])
def test_how_many_numbers_there_are(whole: bool) -> None:
    """W and its biases, N_e, Z_e and the heads, by their sizes: layers of 64 to 12 to 8 below heads of two classes."""
    network = grown(small(), 2, whole, tasks=3)
    own = sum(
        NODES * (64 + 1) + NODES * (12 + e * NODES + 1) + (NODES * (8 + (e - 1) * NODES) if whole else 0)
        for e in (1, 2)
    )
    heads = sum(2 * (8 + (2 if whole else e) * NODES) + 2 for e in range(3))
    shared = (9 * 4 + 4) + (64 * 12 + 12) + (12 * 8 + 8)
    assert network.counts() == {"shared": shared, "own": own, "head": heads, "total": shared + own + heads}
    names = set(network.used(0))
    assert ("tasks.2.extra.columns2" in names) == whole, "an old task is evaluated again where it sees new nodes"
    assert ("tasks.2.extra.rows1" in names) == whole
    assert "tasks.1.extra.rows1" in network.used(2)


@pytest.mark.parametrize("method", [Expansion(nodes=NODES, layers=3), Lwf(nodes=NODES, layers=3)])
def test_every_task_is_exported_with_its_true_sizes(method: Method) -> None:
    plan, state = begun(method, backbone=convolutional())
    learned(plan, state)
    images = plan.data[0]["test"].take(slice(None))
    for task in range(3):
        plain = state.network.export(task)
        torch.testing.assert_close(plain(images), answers_to(state, images, task))
        more = NODES * (2 if isinstance(method, Lwf) else task)
        first, second, third, head = (layer for layer in plain.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
        assert (first.in_channels, first.out_channels) == (1, 3 + more)
        assert (second.in_channels, second.out_channels) == (3 + more, 4 + more)
        assert (third.in_features, third.out_features) == (4 * (4 + more), 5 + more)
        assert (head.in_features, head.out_features) == (5 + more, 2)
        for layer in (first, second, third, head):
            assert layer.weight.shape[0] == layer.bias.shape[0]


def answers_to(state: State, images: Tensor, task: int) -> Tensor:
    state.network.eval()
    with torch.no_grad():
        return state.network(images, task)


STOPS = [(1, HEAD, 0), (1, ALL, 2), (2, HEAD, 1), (2, ALL, 1)]


@pytest.mark.parametrize(
    "method",
    [Expansion(nodes=NODES), Lwf(nodes=NODES), Lwf(nodes=NODES, responses="live")],
    ids=["alone", "lwf", "live"],
)
def test_saved_and_taken_up_it_is_the_same_to_the_bit(tmp_path: Path, method: Method) -> None:
    plan, state = begun(method)
    expected = learned(plan, state)
    wanted = numbers(state)
    plan, state = begun(method)
    found = []
    for task, stage, epoch in STOPS:
        found += learned(plan, state, at_stage(task, stage, epoch))
        assert (state.phase, state.stage, state.epoch) == (task, stage, epoch)
        held = numbers(state)
        save_state(tmp_path / "state", state, {})
        plan, state = begun(method)
        load_state(tmp_path / "state", plan, state)
        assert same(numbers(state), held)
    assert found + learned(plan, state) == expected
    assert same(numbers(state), wanted)


@pytest.mark.parametrize(
    ("method", "backbone", "message"),
    [
        (Expansion(nodes=1, layers=3), small(norm=True), "one layer with a bias.* block 1 of 'small' is more"),
        (Expansion(nodes=1, layers=4), small(), "whole number from 1 to 3, the blocks of 'small'; it is 4"),
        (Expansion(nodes=1, layers=0), small(), "it is 0"),
        (Lwf(nodes=1, layers=4), small(), "it is 4"),
        (Expansion(nodes=0), small(), "nodes of at least 1.* nodes=0"),
        (Lwf(nodes=-1), small(), "nodes=-1"),
        (Expansion(configuration="top-2"), small(), "every block shared.* 'top-2'"),
        (Lwf(nodes=4, configuration="none"), small(), "every block shared.* 'none'"),
        (Expansion(layers=1), Backbone.of([nn.Linear(4, 3), nn.ReLU()], 3), "block 2 of 'custom' is none"),
        (Expansion(layers=1), Backbone.of([nn.Linear(4, 3, bias=False)], 3), "one layer with a bias"),
        (Expansion(layers=1), Backbone.of([nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))], 3), "is more"),
        (Expansion(layers=1), Backbone.of([nn.Conv2d(4, 4, 3, groups=2)], 3), "no groups"),
        (Expansion(layers=1), Backbone.of([nn.Sequential(nn.Linear(4, 3), nn.PReLU())], 3), "is more"),
    ],
)  # fmt: skip
def test_what_cannot_be_widened_is_told(method: Method, backbone: Backbone, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        method.network(backbone, 2, 0)


def test_a_normalised_block_may_lie_below_those_that_grow() -> None:
    assert Expansion(nodes=1, layers=2).network(small(norm=True), 2, 0).blocks == 3
