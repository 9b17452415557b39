"""One trunk for several tasks: what it gives is what each task's network gives by itself."""

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import parse_configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.trunks import at_rest, copy_own, copy_statistics, features_of, logits_of_tasks
from everlearn.sharing.hard import Hard
from tests.methods.family import small

SHARED = [
    ("111", "111", "111"),
    ("110", "110", "110"),
    ("100", "100", "100"),
    ("011", "011", "011"),
    ("000", "000", "000"),
    ("111", "011", "101"),
    ("110", "101", "100"),
    ("001", "111", "110"),
]


def network_of(configurations: Sequence[str], backbone: Backbone | None = None, classes: int = 2) -> LifelongNetwork:
    network = LifelongNetwork(backbone or small(), Hard(), 0)
    for text in configurations:
        network.add_task(classes, parse_configuration(text, network.blocks))
    return network


def made_images(count: int = 6) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("configurations", SHARED)
def test_features_are_those_of_each_task_alone(configurations: Sequence[str]) -> None:
    network, images = network_of(configurations).eval(), made_images()
    for tasks in ([0, 1, 2], [2, 0, 1], [1, 2], [1]):
        found = features_of(network, images, tasks)
        assert set(found) == set(tasks)
        for task in tasks:
            assert torch.equal(found[task], network.features(images, task))


@pytest.mark.parametrize(
    ("configurations", "runs"),
    [(("111",) * 3, 3), (("110",) * 3, 5), (("011",) * 3, 9), (("000",) * 3, 9), (("111", "111", "110"), 4)],
)
def test_a_block_that_is_shared_runs_once(
    configurations: Sequence[str], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(configurations).eval()
    run, ran = network.run_block, list[int]()

    def counted(block: int, weights: dict[str, Tensor], images: Tensor) -> Tensor:
        ran.append(block)
        return run(block, weights, images)

    monkeypatch.setattr(network, "run_block", counted)
    found = features_of(network, made_images(), [0, 1, 2])
    assert len(ran) == runs
    if configurations[0] == configurations[1] == "111":
        assert found[0] is found[1], "a head can know by this that the features are the same"


@pytest.mark.parametrize("configurations", SHARED)
@pytest.mark.parametrize("lead", [0, 2])
def test_the_leading_task_drops_what_it_would_drop_alone(configurations: Sequence[str], lead: int) -> None:
    network, images = network_of(configurations).train(), made_images()
    others = [task for task in range(3) if task != lead]
    torch.manual_seed(3)
    alone = network.features(images, lead)
    torch.manual_seed(3)
    together = features_of(network, images, [lead, *others])[lead]
    assert torch.equal(together, alone)
    assert not torch.equal(alone, network.features(images, lead)), "nothing is dropped, so nothing is compared"


def test_the_first_task_leads_with_its_statistics() -> None:
    network, images = network_of(("111", "111", "011"), small(norm=True)), 2 + 3 * made_images()
    before = [{n: t.clone() for n, t in network.part(task).statistics.named_buffers()} for task in range(3)]
    features_of(network.train(), images, [1, 0])
    changed = [
        any(not torch.equal(t, before[task][n]) for n, t in network.part(task).statistics.named_buffers())
        for task in range(3)
    ]
    assert changed == [False, True, False]
    network.eval()
    assert torch.equal(features_of(network, images, [1, 0])[0], network.features(images, 1))
    assert torch.equal(features_of(network, images, [0, 1])[1], network.features(images, 0))


# ---------------------------------------------------------------- heads

HEADS: dict[int, Callable[[int], nn.Module]] = {
    2: lambda classes: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, classes)),
    3: lambda classes: nn.Linear(8, classes),
    4: lambda classes: nn.Linear(8, classes, bias=False),
    5: lambda classes: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, classes)),
    6: lambda classes: nn.Sequential(nn.Dropout(0.25), nn.Dropout(0.25), nn.Linear(8, classes)),
    7: lambda classes: nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, classes)),
}


def headed(classes: Sequence[int], configurations: Sequence[str]) -> LifelongNetwork:
    blocks = small().blocks
    backbone = Backbone("headed", blocks, lambda count: HEADS[count](count), start="module")
    network = LifelongNetwork(backbone, Hard(), 0)
    for count, text in zip(classes, configurations, strict=True):
        network.add_task(count, parse_configuration(text, 3))
    return network.eval()


@pytest.mark.parametrize("configuration", ["111", "110"])
@pytest.mark.parametrize(
    "classes",
    [(2, 2, 2), (2, 7, 2), (3, 3), (2, 3, 2, 3), (5, 5), (4, 4, 3), (6, 6), (2, 3, 4, 5, 6, 7), (3, 2, 7, 5, 5, 2, 2)],
)
def test_logits_are_those_of_each_head(classes: Sequence[int], configuration: str) -> None:
    network, images = headed(classes, [configuration] * len(classes)), made_images()
    for tasks in (range(len(classes)), range(len(classes) - 1, -1, -1)):
        found = logits_of_tasks(network, features_of(network, images, list(tasks)), list(tasks))
        assert [logits.shape[1] for logits in found] == [classes[task] for task in tasks]
        for task, logits in zip(tasks, found, strict=True):
            torch.testing.assert_close(logits, network(images, task))


def test_heads_on_the_same_features_drop_the_same_and_no_other_does() -> None:
    network = headed((2, 7, 2, 3, 6), ["111"] * 5).train()
    with torch.no_grad():
        for task in range(3):
            network.head(task)[-1].weight.fill_(1.0)  # type: ignore[index,operator,union-attr]
            network.head(task)[-1].bias.zero_()  # type: ignore[index,operator,union-attr]
    features = dict.fromkeys(range(5), torch.rand(20, 8) + 0.5)
    first, second, third, plain, _ = logits_of_tasks(network, features, [0, 1, 2, 3, 4])
    assert torch.equal(first, third)
    torch.testing.assert_close(first[:, 0], second[:, 0])
    assert not torch.allclose(first[:, 0], features[0].sum(1)), "dropout is on"
    torch.testing.assert_close(plain, network.head(3)(features[3])), "this head has none"
    kept = first[:, 0] / 2  # what is kept is doubled
    assert not torch.allclose(kept, kept[0]), "each image drops for itself"


def test_a_head_that_drops_twice_is_run_by_itself() -> None:
    network, features = headed((6, 6), ["111"] * 2).train(), dict.fromkeys(range(2), torch.ones(20, 8))
    torch.manual_seed(3)
    found = logits_of_tasks(network, features, [0, 1])
    torch.manual_seed(3)
    for task in range(2):
        assert torch.equal(found[task], network.head(task)(features[task]))


def test_gradients_reach_every_head() -> None:
    network = headed((2, 7, 3), ["111"] * 3)
    logits = logits_of_tasks(network, features_of(network, made_images(), [0, 1, 2]), [0, 1, 2])
    sum(part.square().sum() for part in logits[:2]).backward()  # type: ignore[union-attr]
    gradients = [[p.grad for p in network.head(task).parameters()] for task in range(3)]
    assert all(grad is not None and grad.any() for task in (0, 1) for grad in gradients[task])
    assert gradients[2] == [None, None]


# ---------------------------------------------------------------- at rest, and copies


@pytest.mark.parametrize("training", [True, False])
def test_at_rest_nothing_moves_and_the_mode_comes_back(training: bool) -> None:
    network, images = network_of(("111", "111"), small(norm=True)).train(training), made_images()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def modes() -> set[bool]:
        return {
            module.training for module in [*network.modules(), *(m for t in network.templates for m in t.modules())]
        }

    with at_rest(network):
        assert modes() == {False}
        first, second = network(images, 0), network(images, 0)
    assert not first.requires_grad
    assert torch.equal(first, second)
    assert modes() == {training}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(KeyError), at_rest(network):
        raise KeyError
    assert modes() == {training}
    assert network(images, 0).requires_grad


def normed() -> Backbone:
    """Two blocks with running statistics, the second below heads of three features."""
    blocks = (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)),
    )
    return Backbone.of(blocks, 3)


def statistics(network: LifelongNetwork, task: int, block: int) -> list[float]:
    return torch.cat([t.flatten().float() for t in network.part(task).statistics[block].buffers()]).tolist()


def test_statistics_are_copied_where_both_share() -> None:
    network = network_of(("11", "11", "10", "01"), normed()).train()
    for task, shift in enumerate((0.0, 5.0, 10.0, 15.0)):
        network(shift + made_images(), task)
    before = [[statistics(network, task, block) for block in range(2)] for task in range(4)]
    assert copy_statistics(network, 1, range(4))
    after = [[statistics(network, task, block) for block in range(2)] for task in range(4)]
    assert after == [before[1], before[1], [before[1][0], before[2][1]], [before[3][0], before[1][1]]]
    network(made_images(), 1)
    assert statistics(network, 0, 0) == before[1][0], "a copy, not the same numbers"
    assert not copy_statistics(network, 2, [3]), "they share no block"
    assert not copy_statistics(network, 2, [2])
    assert not copy_statistics(network_of(("111", "111")), 0, [1]), "no statistics at all"


def test_what_a_task_has_for_itself_is_copied_from_what_another_has_there() -> None:
    network = network_of(("01", "01", "00", "10"), normed()).train()
    for task, shift in enumerate((0.0, 5.0, 10.0, 15.0)):
        network(shift + made_images(), task)

    def held(task: int, block: int) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in network.weights(block, task).items()}

    before = [[held(task, block) for block in (0, 1)] for task in range(4)]
    for target in (1, 2, 3):
        copy_own(network, 0, target)
    for task, block in itertools.product(range(4), (0, 1)):
        own = not network.structures[task].configuration[block]
        wanted = before[0][block] if own else before[task][block]
        assert all(torch.equal(wanted[name], tensor) for name, tensor in held(task, block).items()), (task, block)
    assert not torch.equal(before[2][1]["0.weight"], before[0][1]["0.weight"]), "there was something to copy"
    network(made_images(), 1)
    network(made_images(), 2)
    with torch.no_grad():
        network.weights(1, 3)["0.weight"].add_(1)
    kept = (held(0, block) for block in (0, 1))
    assert all(torch.equal(b[n], a[n]) for a, b in zip(before[0], kept, strict=True) for n in a), "copies"
