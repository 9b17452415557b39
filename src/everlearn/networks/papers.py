"""The networks of the papers: plain convolutions with SAME padding, some max-pooling, then fully connected layers.

Lee et al. 2019, App. B.3; Lee et al. 2021, Fig. 6 and App. A; sizes and pooling as the authors' code has them. Every
convolution is a block: convolution, ReLU, pooling if any (computed as convolution, pooling, ReLU, which is the same).
What follows the last block is a task's own head: flatten, dropout of one half, fully connected layers with ReLU between
them, one output a class.

Details that change the numbers:
  * Pooling pads (SAME), so that 128 pixels pooled by 3, 3, 2, 2 end as 4 x 4; without padding they would be 3 x 3.
  * The only dropout is on the flattened output of the last convolution.
  * The networks of Yoon et al. 2018 (`den-mnist`, `den-cifar`; sec. 4) have no dropout, and their hidden layers are
    blocks. The paper does not say where `den-cifar` pools: after convolutions 1, 2 and 5, as AlexNet does, by 2.
  * Weights start from a normal of deviation 0.05 cut at two deviations, biases from 0.2.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn

from everlearn.errors import ConfigurationError, LayerError, UnknownNameError
from everlearn.networks.backbone import Backbone
from everlearn.networks.resnet import resnet18
from everlearn.networks.same import SameMaxPool2d, same_size
from everlearn.networks.timm_models import PREFIX, timm_backbone
from everlearn.plugins import is_plugin, load_plugin


@dataclass(frozen=True)
class ConvNet:
    """A network of the papers' kind.

    Attributes:
        about: one line for people.
        channels: of each convolution.
        kernels: side of each convolution's filters.
        pools: window and stride of the pooling after each convolution; 1 is none.
        hidden: units of the fully connected layers before the last.
        dropout: share of a fully connected layer's inputs that is dropped in training: of the first one's where all
            belong to the head, of each where the trunk has some.
        shared: how many of the hidden layers belong to the trunk, a block each, rather than to the head.
    """

    about: str
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    pools: tuple[int, ...]
    hidden: tuple[int, ...]
    dropout: float = 0.5
    shared: int = 0


_CIFAR = ConvNet("CIFAR-10 and CIFAR-100 (Lee 2019, App. B.3)", (32, 32, 64, 64), (3,) * 4, (1, 2, 1, 2), (64,))
_OFFICE = ConvNet("Office-Home (Lee 2019, App. B.3)", (64, 256, 256, 256), (11, 5, 3, 3), (3, 3, 2, 2), (256, 64))
_STL6 = ConvNet("STL-10, 20 tasks (Lee 2021)", (32, 32, 64, 64, 128, 128), (3,) * 6, (1, 3, 1, 3, 1, 3), (128, 16))
_STL9 = ConvNet(
    "STL-10, 15 tasks in groups (Lee 2021)",
    (32, 32, 32, 64, 64, 64, 128, 128, 128),
    (3,) * 9,
    (1, 1, 3, 1, 1, 3, 1, 1, 3),
    (128, 16),
)
_DIGITS = ConvNet("8 x 8 digits: small enough for a demonstration", (16, 16, 32), (3,) * 3, (1, 2, 2), (32,))
_PLANTED = ConvNet("made images whose filters are known (the stream planted)", (2, 8), (1, 3), (1, 8), (), 0.0)
_LWF_32 = ConvNet(
    "32 x 32 images, in AlexNet's manner: hidden fully connected layers are shared, a head is one layer (LwF)",
    (32, 64, 64, 64), (5, 3, 3, 3), (2, 2, 1, 2), (256, 256), dropout=0.2, shared=2,
)  # fmt: skip
_LWF_64 = ConvNet(
    "64 x 64 images, in AlexNet's manner (LwF)",
    (32, 64, 64, 64), (5, 3, 3, 3), (4, 2, 1, 2), (256, 256), dropout=0.2, shared=2,
)  # fmt: skip
_DEN_MNIST = ConvNet(
    "two hidden layers and no convolution, for MNIST and features: all shared, a head is one layer (DEN)",
    (), (), (), (312, 128), dropout=0.0, shared=2,
)  # fmt: skip
_DEN_CIFAR = ConvNet(
    "32 x 32 images, AlexNet with five convolutions of 5 x 5: hidden layers are shared, a head is one layer (DEN)",
    (64, 128, 256, 256, 128), (5,) * 5, (2, 2, 1, 1, 2), (384, 192), dropout=0.0, shared=2,
)  # fmt: skip
_MNIST = ConvNet("MNIST (Lee 2019, App. B.3)", (32, 64), (5, 5), (2, 2), (32,))


def _sized(net: ConvNet, size: str, channels: tuple[int, ...], hidden: tuple[int, ...]) -> ConvNet:
    return replace(net, about=f"{net.about}, {size}", channels=channels, hidden=hidden)


CONV_NETS: dict[str, ConvNet] = {
    "digits": _DIGITS,
    "digits-large": _sized(_DIGITS, "large", (24, 24, 48), (64,)),
    "digits-reduced": _sized(_DIGITS, "reduced", (12, 12, 24), (16,)),
    "planted": _PLANTED,
    "planted-large": _sized(_PLANTED, "large", (3, 12), ()),
    "planted-reduced": _sized(_PLANTED, "reduced", (2, 6), ()),
    "alex-32": _LWF_32,
    "alex-32-large": _sized(_LWF_32, "large", (48, 96, 96, 96), (512, 512)),
    "alex-32-reduced": _sized(_LWF_32, "reduced", (24, 48, 48, 48), (128, 128)),
    "alex-64": _LWF_64,
    "alex-64-large": _sized(_LWF_64, "large", (48, 96, 96, 96), (512, 512)),
    "alex-64-reduced": _sized(_LWF_64, "reduced", (24, 48, 48, 48), (128, 128)),
    "den-mnist": _DEN_MNIST,
    "den-mnist-large": _sized(_DEN_MNIST, "large", (), (624, 256)),
    "den-mnist-reduced": _sized(_DEN_MNIST, "reduced", (), (156, 64)),
    "den-cifar": _DEN_CIFAR,
    "den-cifar-large": _sized(_DEN_CIFAR, "large", (96, 192, 384, 384, 192), (768, 384)),
    "den-cifar-reduced": _sized(_DEN_CIFAR, "reduced", (48, 96, 192, 192, 96), (192, 96)),
    "mnist": _MNIST,
    "mnist-large": _sized(_MNIST, "large", (48, 96), (64,)),
    "mnist-reduced": _sized(_MNIST, "reduced", (24, 48), (16,)),
    "cifar": _CIFAR,
    "cifar-large": _sized(_CIFAR, "large", (48, 48, 96, 96), (128,)),
    "cifar-reduced": _sized(_CIFAR, "reduced", (24, 24, 48, 48), (32,)),
    "office-home": _OFFICE,
    "office-home-large": _sized(_OFFICE, "large", (128, 256, 512, 512), (1024, 128)),
    "office-home-reduced": _sized(_OFFICE, "reduced", (48, 192, 192, 192), (128, 32)),
    "stl10-6": _STL6,
    "stl10-6-large": _sized(_STL6, "large", (48, 48, 96, 96, 192, 192), (256, 32)),
    "stl10-6-reduced": _sized(_STL6, "reduced", (24, 24, 48, 48, 96, 96), (64, 8)),
    "stl10-9": _STL9,
    "stl10-9-large": _sized(_STL9, "large", (48,) * 3 + (96,) * 3 + (192,) * 3, (256, 32)),
    "stl10-9-reduced": _sized(_STL9, "reduced", (24,) * 3 + (48,) * 3 + (96,) * 3, (64, 8)),
}
"""The papers give a large variant for CIFAR-100 and Office-Home, and a reduced one for the CIFAR sets; the other
variants are in their proportion: three halves, or three quarters, of the channels; twice or half the hidden units."""

BACKBONES: tuple[str, ...] = (*CONV_NETS, "resnet18")


def make_backbone(name: str, image_shape: tuple[int, int, int]) -> Backbone:
    """A backbone by name, for images of `(channels, height, width)`.

    `file.py:Name` is the user's own: a `Backbone`, or a function of the image shape that returns one. `timm:NAME` is a
    trained network of timm.

    Raises:
        UnknownNameError: no backbone has this name.
        ConfigurationError: the user's file does not give a backbone.
    """
    check_name(name)
    if is_plugin(name):
        return _plugin(name, image_shape)
    if name.startswith(PREFIX):
        return timm_backbone(name.removeprefix(PREFIX), image_shape)
    with torch.random.fork_rng(devices=[]):  # modules draw their first values, which nobody uses, from the global one
        return resnet18(image_shape[0]) if name == "resnet18" else conv_net(name, CONV_NETS[name], image_shape)


def check_name(name: str) -> None:
    """Raise `UnknownNameError` for what names no backbone: none here, none of timm, and nothing in a file."""
    if not is_plugin(name) and not name.startswith(PREFIX) and name not in BACKBONES:
        raise UnknownNameError("backbone", name, BACKBONES)


def conv_net(name: str, net: ConvNet, image_shape: tuple[int, int, int]) -> Backbone:
    """The backbone that a `ConvNet` describes.

    Raises:
        LayerError: a filter of even side, whose SAME padding no experiment of the papers uses.
    """
    inputs, height, width = image_shape
    blocks: list[nn.Module] = []
    for channels, kernel, pool in zip(net.channels, net.kernels, net.pools, strict=True):
        if kernel % 2 == 0:
            raise LayerError(f"backbone {name!r} needs filters of odd side to keep the image's size, but has {kernel}.")
        parts: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(inputs, channels, kernel, padding=kernel // 2))
        if pool > 1:  # the papers pool after ReLU: the maximum and its gradient are the same to the bit, and cost more
            parts["pool"] = SameMaxPool2d(pool)
        parts["relu"] = nn.ReLU(inplace=True)
        blocks.append(nn.Sequential(parts))
        inputs, height, width = channels, same_size(height, pool), same_size(width, pool)
    features = inputs * height * width
    for units in net.hidden[: net.shared]:
        blocks.append(
            nn.Sequential(nn.Flatten(), nn.Dropout(net.dropout), nn.Linear(features, units), nn.ReLU(inplace=True))
        )
        features = units

    def head(classes: int) -> nn.Module:
        sizes = (features, *net.hidden[net.shared :], classes)
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten(), dropout=nn.Dropout(net.dropout))
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
            last = i == len(sizes) - 1
            layers["output" if last else f"hidden{i}"] = nn.Linear(fan_in, fan_out)
            if not last:
                layers[f"relu{i}"] = nn.ReLU()
        return nn.Sequential(layers)

    return Backbone(name, tuple(blocks), head)


def _plugin(name: str, image_shape: tuple[int, int, int]) -> Backbone:
    found = load_plugin("backbone", name)
    backbone = found if isinstance(found, Backbone) or not callable(found) else found(image_shape)
    if not isinstance(backbone, Backbone):
        raise ConfigurationError(f"{name} gives no everlearn.Backbone, but a {type(backbone).__name__}.")
    _try(name, backbone, image_shape)
    return backbone


def _try(name: str, backbone: Backbone, image_shape: tuple[int, int, int]) -> None:
    """Send an image through a backbone; raise `ConfigurationError` where a part does not take what it gets."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        head = backbone.head(2)
        hidden = torch.zeros(2, *image_shape)
        named = [(f"block {place}", block) for place, block in enumerate(backbone.blocks, start=1)]
        for what, part in [*named, ("the head", head)]:
            modes = [(module, module.training) for module in part.modules()]
            came = " x ".join(map(str, hidden.shape[1:]))
            try:
                hidden = part.eval()(hidden)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise ConfigurationError(
                    f"{name}: {what} does not take what it gets, {came} of an image of "
                    f"{' x '.join(map(str, image_shape))} ({' '.join(str(error).split())})."
                ) from error
            finally:
                for module, training in modes:
                    module.training = training
