"""The diagonal of the Fisher information, against a loop over examples and over every label that they could have."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.errors import DataError, UnknownNameError
from everlearn.methods.fisher import diagonal_fisher
from everlearn.methods.losses import task_loss
from everlearn.networks import layer_gradients
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.per_example import SquaredGradients
from everlearn.networks.resnet import resnet18
from everlearn.sharing import Hard, Own, SharingRule
from everlearn.sharing.deconvolution import Deconvolution

Pairs = list[tuple[float, Tensor]]
CLASSES = 3


class Positions(nn.Module):
    """A linear layer over every pixel, `[b, pixels, channels]`, with its normalisations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(self.norm(x.flatten(2).transpose(1, 2)))
        return hidden.transpose(1, 2).unflatten(2, x.shape[2:]).tanh()


def convolutions() -> Backbone:
    """Convolutions of all kinds, a linear layer over positions, and normalisations."""
    return Backbone.of(
        [
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(6), nn.ReLU()),
            nn.Sequential(nn.Conv2d(6, 4, (2, 3), dilation=(2, 1), padding="same"), nn.Tanh()),
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=(2, 1), padding_mode="circular", bias=False), nn.Tanh()),
            nn.Sequential(nn.Conv2d(4, 5, (1, 3), stride=(3, 2), padding=1, dilation=(1, 2)), nn.GroupNorm(1, 5)),
            Positions(5, 7),
        ],
        features=7 * 3,
    )


def made(backbone: Backbone, rule: SharingRule | None = None, dtype: torch.dtype = torch.float64) -> LifelongNetwork:
    """A network with two tasks, whose statistics and scales are not those of a new one."""
    network = LifelongNetwork(backbone, rule or Hard(), 0)
    for task in range(2):
        network.add_task(CLASSES, (True,) * network.blocks)
        assert network.structures[task].classes == CLASSES
    random = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if "running" in name or "norm" in name or "=" in name:
            tensor.copy_(torch.rand(tensor.shape, generator=random) + 0.5)
    return network.to(dtype)


def some(
    count: int, shape: tuple[int, ...] = (1, 8, 8), dtype: torch.dtype = torch.float64, multi_label: bool = False
) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    images = torch.randn(count, *shape, generator=random)
    if multi_label:
        return images.to(dtype), torch.randint(2, (count, CLASSES), generator=random).to(dtype)
    return images.to(dtype), torch.randint(CLASSES, (count,), generator=random)


def every_label(logits: Tensor, label: Tensor) -> Pairs:
    """Every label that an image could have, and its probability."""
    if label.ndim == 1:
        return [(float(p), torch.tensor([c])) for c, p in enumerate(logits.softmax(1)[0])]
    q = logits.sigmoid()[0]
    every = [torch.tensor(bits, dtype=logits.dtype) for bits in itertools.product((0, 1), repeat=CLASSES)]
    return [(float((q * bits + (1 - q) * (1 - bits)).prod()), bits[None]) for bits in every]


def by_hand(
    network: LifelongNetwork,
    images: Tensor,
    labels: Tensor,
    names: list[str],
    which: Callable[[Tensor, Tensor], Pairs] = lambda _, label: [(1.0, label)],
) -> dict[str, Tensor]:
    """The mean over images, one after the other, of the squared gradient, weighted over labels."""
    network.eval()
    parameters = [dict(network.named_parameters())[name].requires_grad_() for name in names]
    sums = [torch.zeros_like(p) for p in parameters]
    for n in range(len(images)):
        logits = network(images[n : n + 1], 1)
        for weight, label in which(logits.detach(), labels[n : n + 1]):
            loss = task_loss(logits, label, "sum")
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            sums = [s if g is None else s + weight * g.square() for s, g in zip(sums, found, strict=True)]
    return {name: s / len(images) for name, s in zip(names, sums, strict=True)}


def cut(images: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.split(size), labels.split(size), strict=True))


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-6) -> None:
    """Each tensor, by the length of the difference; in double precision number by number as well."""
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape, name
        assert tensor.dtype == expected[name].dtype, name
        difference = (tensor - expected[name]).norm() / expected[name].norm().clamp(min=1e-300)
        assert difference <= rtol, f"{name}: {difference}"
        if tensor.dtype == torch.float64:
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-18)


def no_loop(*_: Any) -> None:
    raise AssertionError("these parameters need no loop over examples")


# ---------------------------------------------------------------- equal to a loop


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rule", [Hard(), Own()], ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    ("backbone", "shape"),
    [
        (make_backbone("digits", (1, 8, 8)), (1, 8, 8)),
        (resnet18(channels=3, width=8), (3, 8, 8)),
        (convolutions(), (1, 8, 8)),
    ],
    ids=["digits", "resnet18", "convolutions"],
)
def test_layers_equal_a_loop(
    backbone: Backbone, shape: tuple[int, ...], rule: SharingRule, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SquaredGradients, "_add_one_by_one", no_loop)
    network, (images, labels) = made(backbone, rule, dtype), some(7, shape, dtype)
    statistics = {name: t.clone() for name, t in network.named_buffers()}
    names = list(network.used(1))
    found = diagonal_fisher(network, 1, cut(images, labels, 5), names)
    for name, tensor in network.named_buffers():
        assert torch.equal(tensor, statistics[name]), name
    # The loop is in double precision, so that single precision is asked how far it is off, and not how far from another
    # sum that is off as well.
    expected = by_hand(network.double(), images.double(), labels, names)
    assert_equal(found, {name: e.to(dtype) for name, e in expected.items()})
    assert len(statistics) == (2 * 3 * 17 if "resnet" in backbone.name else 6 if backbone.name == "custom" else 0)


@pytest.mark.parametrize("numbers", [1, 300])
def test_few_numbers_at_once_change_nothing(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, (images, labels) = made(convolutions()), some(7)
    names = list(network.used(1))
    expected = diagonal_fisher(network, 1, [(images, labels)], names)
    monkeypatch.setattr(layer_gradients, "NUMBERS_AT_ONCE", numbers)
    assert_equal(diagonal_fisher(network, 1, [(images, labels)], names), expected)


@pytest.mark.parametrize("kind", ["true", "sampled", "expected"])
def test_what_a_rule_makes_weights_from(kind: Any) -> None:
    """A knowledge base is found by the loop; the biases that the rule leaves as they are, and the head, by layers."""
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8)), Deconvolution()), some(5)
    names = list(network.used(1))
    assert any("knowledge_base" in name for name in names)
    found = diagonal_fisher(network, 1, cut(images, labels, 3), names, kind)
    if kind == "sampled":
        assert all(found[name].max() > 0 for name in names)
    else:
        which = every_label if kind == "expected" else lambda _, label: [(1.0, label)]
        assert_equal(found, by_hand(network, images, labels, names, which))


class Twice(nn.Module):
    """A layer that is called twice, and one whose weight is used outside of it too."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.outside = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.outside(self.twice(self.twice(x).tanh())) + F.linear(x, self.outside.weight).tanh()


class PositionsFirst(nn.Module):
    """A linear layer on `[pixels, b, channels]`, where there are as many pixels as examples."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.layer = nn.Conv2d(1, 6, 4, stride=4), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.narrow(x).flatten(2).permute(2, 0, 1)).permute(1, 2, 0).tanh()


class Scaled(nn.Module):
    """Unknown, and derived from something known."""

    class Layer(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * self.weight.square().mean()

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.ones(8)), self.Layer(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.scale)


@pytest.mark.parametrize("count", [4, 5, 1])
@pytest.mark.parametrize(
    ("block", "features"),
    [
        (Twice(), 64),
        (PositionsFirst(), 12),
        (Scaled(), 16),
        (
            nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3, track_running_stats=False), nn.Tanh()),
            108,
        ),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 3, bias=False)), 36),
    ],
    ids=["twice", "positions first", "derived", "batch statistics", "in place"],
)
def test_what_layers_cannot_give(block: nn.Module, features: int, count: int) -> None:
    network, (images, labels) = made(Backbone.of([block], features)), some(count)
    names, before = list(network.used(1)), images.clone()
    found = diagonal_fisher(network, 1, [(images, labels)], names)
    assert torch.equal(images, before)
    assert_equal(found, by_hand(network, images, labels, names))


# ---------------------------------------------------------------- which labels


@pytest.mark.parametrize("multi_label", [False, True])
def test_expected_is_over_every_label(multi_label: bool) -> None:
    """For a multi-label task all combinations of labels are gone through by hand."""
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(5, multi_label=multi_label)
    names = list(network.used(1))
    found = diagonal_fisher(network, 1, cut(images, labels, 2), names, "expected")
    assert_equal(found, by_hand(network, images, labels, names, every_label))


def test_true_labels_of_a_multi_label_task() -> None:
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(5, multi_label=True)
    names = list(network.used(1))
    found = diagonal_fisher(network, 1, cut(images, labels, 2), names)
    assert_equal(found, by_hand(network, images, labels, names))


@pytest.mark.parametrize("multi_label", [False, True])
def test_sampled_has_the_mean_of_expected(multi_label: bool) -> None:
    network = made(Backbone.of([nn.Sequential(nn.Linear(8, 2), nn.Tanh())], 16))
    images, labels = some(2, multi_label=multi_label)
    many = cut(images.repeat(4000, 1, 1, 1), torch.cat([labels] * 4000), 1000)
    names = list(network.used(1))
    expected = diagonal_fisher(network, 1, [(images, labels)], names, "expected")
    first, again, other = (diagonal_fisher(network, 1, many, names, "sampled", seed) for seed in (0, 0, 1))
    for name in names:
        torch.testing.assert_close(first[name], expected[name], rtol=0.15, atol=0.01 * float(expected[name].max()))
        assert torch.equal(first[name], again[name])
    assert any(not torch.equal(first[name], other[name]) for name in names)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", ["true", "sampled", "expected"])
def test_how_batches_are_cut_changes_nothing(kind: Any, multi_label: bool) -> None:
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(23, multi_label=multi_label)
    names = list(network.used(1))
    whole, *others = (diagonal_fisher(network, 1, cut(images, labels, n), names, kind) for n in (23, 1, 4, 17))
    for other in others:
        assert_equal(other, whole, rtol=1e-12)


def test_it_is_not_the_square_of_the_mean_gradient() -> None:
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(32)
    names = list(network.used(1))
    found = diagonal_fisher(network, 1, [(images, labels)], names)
    parameters = [dict(network.named_parameters())[name] for name in names]
    mean = torch.autograd.grad(task_loss(network.eval()(images, 1), labels), parameters)
    assert sum(f.sum() for f in found.values()) > 2 * sum(g.square().sum() for g in mean)


# ---------------------------------------------------------------- left alone


def state_of(network: LifelongNetwork) -> list[Any]:
    modules = [m for part in (network, *network.templates) for m in part.modules()]
    return [
        [module.training for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        [(name, p.requires_grad, p.grad) for name, p in network.named_parameters()],
        [(name, t.clone().tolist()) for name, t in network.state_dict().items()],
        torch.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize("kind", ["true", "sampled", "expected"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("rule", [Hard(), Deconvolution()], ids=lambda rule: rule.name)
def test_the_network_is_left_as_it_was(rule: SharingRule, fails: bool, kind: Any) -> None:
    network = made(make_backbone("digits", (1, 8, 8)), rule).train()
    network.templates[1].eval()
    network.head(0).eval()
    network.requires_grad_(False)
    network.shared[1].requires_grad_(True)
    before = state_of(network)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield some(4)
        if fails:
            raise OSError("the disk is gone")

    names = list(network.used(1))
    with torch.no_grad():
        if fails:
            with pytest.raises(OSError, match="the disk is gone"):
                diagonal_fisher(network, 1, batches(), names, kind)
        else:
            found = diagonal_fisher(network, 1, batches(), names, kind)
            assert not any(tensor.requires_grad for tensor in found.values())
    assert state_of(network) == before


def test_hooks_are_removed_when_a_layer_fails() -> None:
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(2)
    before = state_of(network)
    with pytest.raises(RuntimeError):
        diagonal_fisher(network, 1, [(images[..., :3, :3], labels)], list(network.used(1)))
    assert state_of(network) == before


def test_a_users_hook_is_heeded() -> None:
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(4)
    network.templates[1].conv.register_forward_hook(lambda _, inputs, output: output * 2)
    names = list(network.used(1))
    found = diagonal_fisher(network, 1, [(images, labels)], names)
    assert_equal(found, by_hand(network, images, labels, names))


# ---------------------------------------------------------------- names


def test_some_names_and_those_that_the_task_does_not_use() -> None:
    network, (images, labels) = made(make_backbone("digits", (1, 8, 8))), some(4)
    names = ["tasks.0.head.output.bias", "shared.1.conv|bias"]
    found = diagonal_fisher(network, 1, [(images, labels)], names)
    assert list(found) == names
    assert not found[names[0]].any()
    assert_equal({names[1]: found[names[1]]}, by_hand(network, images, labels, names[1:]))


def test_unknown_names_and_no_images() -> None:
    network = made(make_backbone("digits", (1, 8, 8)))
    with pytest.raises(UnknownNameError, match=r"no parameter named 'shared\.7\.conv\|weight'"):
        diagonal_fisher(network, 1, [some(2)], ["shared.7.conv|weight"])
    with pytest.raises(DataError, match="task 2 needs images"):
        diagonal_fisher(network, 1, [], list(network.used(1)))
