"""A parameter count that equals the published one is the strongest sign that a structure is understood."""

from itertools import pairwise

import pytest
import torch

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.plan import with_changes
from everlearn.experiments.presets import preset_of
from everlearn.methods.catalogue import make_method, network_name
from everlearn.methods.static import StaticTransfer
from everlearn.networks.backbone import Backbone
from everlearn.networks.papers import BACKBONES, make_backbone
from everlearn.tasks import Value, stream_outline

SHAPES = {"cifar": (3, 32, 32), "office-home": (3, 128, 128), "mnist": (1, 28, 28), "stl10-6": (3, 96, 96)}


def total(method: str, backbone: str, tasks: int, classes: int) -> int:
    """Parameters after all tasks, from the rule's formula, so that nothing large is made."""
    built = make_method(method, backbone, tasks, {})
    network = built.network(make_backbone(network_name(method, backbone), SHAPES[backbone]), tasks, 0)
    built.begin(network, {}, classes)
    counts = network.counts()
    return counts["shared"] + tasks * (counts["own"] + counts["head"])


@pytest.mark.parametrize(
    ("method", "backbone", "tasks", "classes", "published"),
    [
        # Lee et al. 2019, Sec. 4.2 and Figs. 4 and 6: 3.28M, 9.35M, 2.69M, 7.96M, 3.00M, 2.80M
        ("stl", "cifar", 10, 10, 3_284_260),
        ("stl-large", "cifar", 10, 10, 9_345_860),
        ("hps", "cifar", 10, 10, 2_694_148),
        ("df-cnn", "cifar", 10, 10, 7_963_252),
        ("df-cnn.tc2", "cifar", 10, 10, 2_995_168),
        ("df-cnn-reduced", "cifar", 10, 10, 2_801_060),
        ("df-cnn.direct", "cifar", 10, 10, 45_673_572),
        # Fig. 5: 26.8M, 129.3M, 12.3M, 201.8M
        ("stl", "office-home", 10, 13, 26_794_370),
        ("stl-large", "office-home", 10, 13, 129_285_250),
        ("hps", "office-home", 10, 13, 12_274_562),
        ("df-cnn", "office-home", 10, 13, 201_827_202),
        # Table 1: 1.5M, 1.1M, 12.9M, 2.6M; 0.8M, 0.6M, 5.0M, 1.1M
        ("stl", "mnist", 10, 2, 1_525_460),
        ("hps", "mnist", 10, 2, 1_056_596),
        ("df-cnn.direct", "mnist", 10, 2, 12_892_652),
        ("df-cnn", "mnist", 10, 2, 2_581_528),
        ("stl", "mnist", 5, 2, 762_730),
        ("hps", "mnist", 5, 2, 554_346),
        ("df-cnn.direct", "mnist", 5, 2, 4_972_018),
        ("df-cnn", "mnist", 5, 2, 1_063_574),
        # Table 2: 3.3M, 2.7M, 8.0M; 1.6M, 1.4M, 22.8M, 4.0M
        ("stl", "cifar", 10, 2, 3_279_060),
        ("hps", "cifar", 10, 2, 2_688_948),
        ("df-cnn", "cifar", 10, 2, 7_958_052),
        ("stl", "cifar", 5, 2, 1_639_530),
        ("hps", "cifar", 5, 2, 1_377_258),
        ("df-cnn.direct", "cifar", 5, 2, 22_834_602),
        ("df-cnn", "cifar", 5, 2, 3_979_242),
        ("df-cnn.direct", "cifar", 10, 2, 45_668_372),
        # The authors' lists of DF-CNN.tc2 are smaller than what Tables 1 and 2 report (1.5M, 0.8M, 3.3M, 1.6M)
        ("df-cnn.tc2", "mnist", 10, 2, 1_182_874),
        ("df-cnn.tc2", "mnist", 5, 2, 593_219),
        ("df-cnn.tc2", "cifar", 10, 2, 2_989_968),
        ("df-cnn.tc2", "cifar", 5, 2, 1_497_048),
        # The tensor factorisation of Lee et al. 2021, from its authors' code
        ("tf", "cifar", 10, 10, 2_860_526),
        ("tf", "office-home", 10, 13, 15_644_140),
        ("stl", "stl10-6", 20, 3, 11_027_900),
        ("hps", "stl10-6", 20, 3, 5_574_748),
        ("df-cnn", "stl10-6", 20, 3, 106_959_404),
    ],
)
def test_parameters_are_as_published(method: str, backbone: str, tasks: int, classes: int, published: int) -> None:
    assert total(method, backbone, tasks, classes) == published


@pytest.mark.parametrize(
    ("backbone", "tasks", "published"),
    [("mnist", 10, 1_531_905), ("mnist", 5, 769_025), ("cifar", 10, 3_295_925), ("cifar", 5, 1_656_095)],
)
def test_tensor_factorisation_over_all_tasks(backbone: str, tasks: int, published: int) -> None:
    """Tables 1 and 2 of Lee et al. 2019: 1.5M, 0.8M, 3.3M, 1.7M; the last tells full rank from reduced."""
    assert total("dmtrl", backbone, tasks, 2) == published


def sizes_of(stream: str, **options: Value) -> dict[str, int]:
    """The parameters of each method of a stream's preset after all its tasks; of stl and hps for those that choose."""
    outline, preset = stream_outline(stream, options), preset_of(stream)
    tasks, found = len(outline.classes), {}
    for text in preset.methods:
        name, changes = with_changes(text)
        method = make_method(name, preset.backbone, tasks, changes)
        if isinstance(method, StaticTransfer):
            network = method.network(make_backbone(network_name(name, preset.backbone), outline.image_shape), tasks, 0)
            method.begin(network, {}, outline.classes[0])
            counts = network.counts()
            found[name] = counts["shared"] + tasks * (counts["own"] + counts["head"])
    return found


def test_the_presets_are_of_the_published_sizes() -> None:
    """Lee et al. 2019, Tables 1 and 2, and Fig. 5; Lee et al. 2021."""
    mnist, pairs = sizes_of("mnist"), sizes_of("mnist", tasks="heterogeneous")
    assert [mnist[name] for name in ("stl", "hps", "dmtrl", "df-cnn")] == [1_525_460, 1_056_596, 1_531_905, 2_581_528]
    assert [pairs[name] for name in ("stl", "hps", "dmtrl", "df-cnn")] == [762_730, 554_346, 769_025, 1_063_574]
    cifar10, fewer = sizes_of("cifar10"), sizes_of("cifar10", tasks="heterogeneous")
    # 2.3M and 1.2M: smaller in proportion than the 2.8M of CIFAR-100.
    names = ("stl", "hps", "dmtrl", "df-cnn", "df-cnn-reduced")
    assert [cifar10[name] for name in names] == [3_279_060, 2_688_948, 3_295_925, 7_958_052, 2_311_412]
    assert [fewer[name] for name in names] == [1_639_530, 1_377_258, 1_656_095, 3_979_242, 1_155_802]
    # Of these the table above has the sizes: 20 million parameters a task are not made once more.
    for stream, backbone, tasks, classes, side in (
        ("office-home", "office-home", 10, 13, 128),
        ("stl10", "stl10-6", 20, 3, 96),
        ("stl10-five-way", "stl10-9", 15, 5, 96),
    ):
        outline = stream_outline(stream)
        assert (preset_of(stream).backbone, outline.classes) == (backbone, (classes,) * tasks)
        assert outline.image_shape == (3, side, side)


def test_the_presets_train_as_published() -> None:
    """The facts' table of schedules: rate, decay, epochs, batch; and trials."""
    for stream, rate, decay, epochs, batch, trials in (
        ("mnist", 1e-3, 1 / 250, 500, 10, 10),
        ("cifar10", 2.5e-4, 1 / 1000, 2000, 20, 10),
        ("cifar100", 1e-4, 1 / 4000, 2000, 10, 5),
        ("office-home", 5e-6, 1 / 1000, 1000, 16, 5),
        ("office-home-incremental", 2e-5, 1e-4, 1000, 16, 5),
        ("stl10", 1e-4, 0.0, 500, 10, 5),
        ("stl10-five-way", 1e-4, 0.0, 500, 10, 5),
    ):
        preset = preset_of(stream)
        training = preset.training
        assert (training.rate, training.epochs, training.batch, preset.trials) == (rate, epochs, batch, trials)
        assert (
            training.schedule == "constant"
            if decay == 0
            else (training.schedule, training.decay) == ("hyperbolic", decay)
        )
        assert training.protocol == ("multi-task" if stream in ("mnist", "cifar10") else "lifelong")
        early = stream in ("mnist", "cifar10", "cifar100", "office-home")
        assert (training.optimiser, training.reduction) == ("tf1-rmsprop", "sum" if early else "mean")


@pytest.mark.parametrize("name", [name for name in BACKBONES if "large" not in name])
def test_every_backbone_runs(name: str) -> None:
    base = name.removesuffix("-reduced")
    shape = {
        "digits": (1, 8, 8), "planted": (16, 8, 8), "stl10-9": (3, 96, 96), "resnet18": (3, 16, 16),
        "alex-32": (3, 32, 32), "alex-64": (3, 64, 64), "den-mnist": (1, 28, 28), "den-cifar": (3, 32, 32),
        **SHAPES,
    }[base]  # fmt: skip
    network = make_method("stl", name, 1, {}).network(make_backbone(name, shape), 1, 0).eval()
    network.add_task(3, (True,) * network.blocks)
    assert network(torch.zeros(2, *shape), 0).shape == (2, 3)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean cifar"):
        make_backbone("cifr", (3, 32, 32))


def test_a_backbone_of_the_users_own_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\nfrom everlearn import Backbone\n"
        "def net(shape):\n"
        "    return Backbone.of([nn.Conv2d(shape[0], 2, 3, padding=1), nn.ReLU()], 2 * shape[1] * shape[2])\n"
        "five = 5\n"
    )
    assert len(make_backbone(f"{file}:net", (1, 8, 8)).blocks) == 2
    with pytest.raises(ConfigurationError, match=r"gives no everlearn\.Backbone, but a int"):
        make_backbone(f"{file}:five", (1, 8, 8))
    with pytest.raises(UnknownNameError, match="did you mean net"):
        make_backbone(f"{file}:nets", (1, 8, 8))
    with pytest.raises(ConfigurationError, match="there is no file"):
        make_backbone(f"{tmp_path / 'none.py'}:net", (1, 8, 8))


def test_a_backbone_of_the_users_own_that_does_not_fit_the_images_is_told(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Before anything is written, and with the block that does not fit."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\nfrom everlearn import Backbone\n"
        "blocks = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), nn.Conv2d(2, 4, 5)]\n"
        "wide = Backbone.of(blocks, 10)\n"
        "right = Backbone.of(blocks, 4 * 2 * 2)\n"
    )
    right = make_backbone(f"{file}:right", (1, 8, 8))
    assert all(module.training for block in right.blocks for module in block.modules())
    assert int(right.blocks[0][1].num_batches_tracked) == 0  # type: ignore[index]
    with pytest.raises(
        ConfigurationError, match=r":wide: the head does not take what it gets, 4 x 2 x 2 of an image of"
    ):
        make_backbone(f"{file}:wide", (1, 8, 8))
    with pytest.raises(ConfigurationError, match=r"block 1 does not take what it gets, 3 x 8 x 8 of an image of 3 x 8"):
        make_backbone(f"{file}:right", (3, 8, 8))
    with pytest.raises(ConfigurationError, match=r"block 2 does not take what it gets, 2 x 3 x 3"):
        make_backbone(f"{file}:right", (1, 5, 5))


def test_the_papers_start_and_dropout() -> None:
    """Weights: normal of deviation 0.05 cut at two deviations (0.044 is left); biases 0.2; dropout of one half."""
    network = make_method("stl", "cifar", 1, {}).network(make_backbone("cifar", (3, 32, 32)), 1, 0)
    network.add_task(10, (True,) * 4)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert bool((parameter == 0.2).all()), name
        elif parameter.numel() > 5000:
            assert parameter.std().item() == pytest.approx(0.044, abs=0.001), name
            assert parameter.abs().max().item() <= 0.1, name
    features = torch.ones(200, 64, 8, 8)
    dropped = network.head(0)[:2].train()(features)  # type: ignore[index]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert bool((network.head(0)[:2].eval()(features) == 1).all())  # type: ignore[index]


def test_a_new_start_leaves_the_users_modules_as_they_were() -> None:
    block = torch.nn.BatchNorm2d(3)
    torch.nn.init.constant_(block.weight, 7.0)
    backbone = Backbone.of([block], 3, start="module")
    assert bool((backbone.ordinary(0, torch.Generator().manual_seed(0))["weight"] == 1).all())
    assert bool((block.weight == 7).all())


def test_hidden_layers_may_belong_to_the_trunk() -> None:
    """In AlexNet's manner: two fully connected blocks are shared, and a head is one layer."""
    backbone = make_backbone("alex-32", (3, 32, 32))
    network = make_method("hps", "alex-32", 2, {}).network(backbone, 2, 0)
    network.add_task(100, (True,) * 6)
    convolutions = (25 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + 2 * (9 * 64 * 64 + 64)
    hidden = (4 * 4 * 64 * 256 + 256) + (256 * 256 + 256)
    assert network.counts() == {
        "shared": convolutions + hidden, "own": 0, "head": 25_700, "total": convolutions + hidden + 25_700,
    }  # fmt: skip


def test_the_feedforward_network_of_yoon_has_two_shared_layers_and_nothing_else() -> None:
    """312-128 after 784 pixels: 784 * 312 + 312 + 312 * 128 + 128 = 284,984, and 128 * 10 + 10 = 1,290 a head."""
    network = make_method("hps", "den-mnist", 2, {}).network(make_backbone("den-mnist", (1, 28, 28)), 2, 0)
    network.add_task(10, (True,) * 2)
    assert network.counts() == {"shared": 284_984, "own": 0, "head": 1_290, "total": 286_274}
    images = torch.randn(4, 1, 28, 28)
    parameters = [*network.parameters()]
    hidden = images.flatten(1)
    for weight, bias in zip(parameters[:4:2], parameters[1:4:2], strict=True):
        hidden = torch.relu(hidden @ weight.T + bias)
    # No dropout, so that training and evaluation give one answer.
    for mode in (True, False):
        torch.testing.assert_close(network.train(mode)(images, 0), hidden @ parameters[4].T + parameters[5])


def test_features_are_images_of_one_pixel_for_it() -> None:
    network = make_method("hps", "den-mnist", 1, {}).network(make_backbone("den-mnist", (500, 1, 1)), 1, 0)
    network.add_task(2, (True,) * 2)
    assert network.counts()["shared"] == (500 * 312 + 312) + (312 * 128 + 128)


def test_the_convolutional_network_of_yoon() -> None:
    """64-128-256-256-128 filters of 5 x 5, 384-192 units; pooled three times, so 32 pixels end as 4 x 4."""
    network = make_method("hps", "den-cifar", 2, {}).network(make_backbone("den-cifar", (3, 32, 32)), 2, 0)
    network.add_task(100, (True,) * 7)
    channels = (3, 64, 128, 256, 256, 128)
    convolutions = sum(25 * one * other + other for one, other in pairwise(channels))
    hidden = (4 * 4 * 128 * 384 + 384) + (384 * 192 + 192)
    assert network.counts()["shared"] == convolutions + hidden
    assert network.counts()["head"] == 192 * 100 + 100
