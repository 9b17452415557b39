"""What the deconvolution rules have in common: the transposed convolution, its sizes, the authors' lists.

Lee et al. 2019, Sec. 2.2 and App. A; stride, padding and channel lists from the authors' code. A knowledge
base of side h^ is deconvolved into filters of side k = 2 h^ - 1: 2 gives 3, 3 gives 5, 4 gives 7, 5 gives 9,
6 gives 11.

Details that change the numbers:
  * The filter V of the deconvolution is 3x3 and its stride 2. TensorFlow's SAME padding is then one pixel on
    every side for each of these k, so that `conv_transpose2d` with padding 1 is the same map, without a flip.
  * No nonlinearity follows the deconvolution; a bias of the task's own does.
  * The authors' channel lists are not the rule that Lee et al. 2021, App. A, gives (one third and two thirds
    of inputs + outputs): that rule makes DF-CNN on CIFAR-100 half a million numbers larger than published.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from everlearn.errors import ConfigurationError, LayerError, UnknownNameError
from everlearn.sharing.initialisers import glorot_uniform
from everlearn.sharing.rule import LayerShape, Tensors

BiasStart = Literal["df-cnn", "lasem"]
"""How the bias b_t starts, Glorot uniform over TensorFlow's shape `[1, 1, 1, outputs]`, as in the code of Lee
et al. 2019 ("df-cnn"), or `[outputs]`, as in that of Lee et al. 2021 ("lasem")."""


class Sizes(NamedTuple):
    """Channels of each layer of one network, by the names of the rules' hyper-parameters."""

    kb_channels: tuple[int, ...]
    deconv_channels: tuple[int, ...] = ()
    kb_slices: tuple[int, ...] = ()


AUTHORS_SIZES: dict[str, dict[str, Sizes]] = {
    "deconvolution": {
        "cifar": Sizes((16, 24, 32, 36), (24, 48, 64, 72)),
        # The reduced networks' lists were never published; these give the published numbers of parameters.
        "cifar-reduced": Sizes((8, 12, 16, 24), (16, 24, 32, 48)),
        "cifar10-reduced": Sizes((8, 8, 16, 16), (16, 16, 32, 32)),
        "office-home": Sizes((24, 64, 64, 64), (48, 128, 128, 128)),
        "mnist-10": Sizes((12, 40), (24, 64)),
        "mnist-5": Sizes((12, 24), (24, 48)),
        "stl10-6": Sizes((12, 24, 32, 48, 64, 96), (24, 48, 64, 96, 128, 192)),
        "stl10-9": Sizes((12, 24, 24, 32, 48, 48, 64, 96, 96), (24, 48, 48, 64, 96, 96, 128, 192, 192)),
    },
    "deconvolution.direct": {
        "cifar": Sizes((24, 48, 64, 72)),
        "mnist-10": Sizes((24, 64)),
        "mnist-5": Sizes((24, 48)),
    },
    "deconvolution.tc2": {
        "cifar": Sizes((12, 12, 24, 24), (24, 24, 48, 48), kb_slices=(2, 12, 12, 24)),
        "mnist-10": Sizes((12, 24), (24, 48), kb_slices=(1, 16)),
        "mnist-5": Sizes((12, 24), (24, 48), kb_slices=(1, 16)),
    },
}
"""The authors' channel lists by rule and network; "mnist-10" and "mnist-5" are by number of tasks."""


def authors_sizes(rule: str, network: str) -> Sizes:
    """The authors' channel lists of a rule for a network.

    Raises:
        UnknownNameError: the authors ran the rule on no network of this name.
    """
    if network not in AUTHORS_SIZES[rule]:
        raise UnknownNameError(f"network with published sizes for {rule}", network, AUTHORS_SIZES[rule])
    return AUTHORS_SIZES[rule][network]


def kb_sides(rule: str, layer: LayerShape) -> tuple[int, int]:
    """Height and width of the knowledge base from which a layer's filters are deconvolved.

    Raises:
        LayerError: a linear layer, or filters of a side that is even or less than 3.
    """
    if layer.kernel is None:
        raise LayerError(
            f"{rule} makes the filters of convolutions, but {layer.name}, has none; use another rule for it."
        )
    height, width = layer.kernel
    if height < 3 or width < 3 or height % 2 == 0 or width % 2 == 0:
        raise LayerError(
            f"{rule} makes filters of the odd sides 3, 5, 7, 9, 11 and so on, but {layer.name}, "
            f"has filters of {height}x{width}."
        )
    return (height + 1) // 2, (width + 1) // 2


def deconvolve(base: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
    """D = deconv(L; V) + b_V, Eq. 1.

    Args:
        base: L, `[kb channels, h^, w^]`, or several at once `[slices, kb channels, h^, w^]`.
        filters: V, `[kb channels, channels, 3, 3]`.
        bias: b_V, `[channels]`.

    Returns:
        `[channels, 2 h^ - 1, 2 w^ - 1]`, or one for each slice.
    """
    return F.conv_transpose2d(base, filters, bias, stride=2, padding=1)


def deconvolved_taps(base: Tensor) -> Tensor:
    """What each of the nine taps of a 3x3 filter would alone make of each channel of L.

    The deconvolution is linear in V, so that D is the product of this with V: the fast way to many channels.

    Args:
        base: L, `[kb channels, h^, w^]`.

    Returns:
        `[kb channels, 9, 2 h^ - 1, 2 w^ - 1]`; a tap is 3 * row + column.
    """
    taps = torch.eye(9, dtype=base.dtype, device=base.device).view(1, 9, 3, 3)
    return F.conv_transpose2d(base.unsqueeze(1), taps, stride=2, padding=1)


def as_weight(pixels: Tensor, layer: LayerShape) -> Tensor:
    """PyTorch's weight out of `[kh * kw, outputs * inputs]`, as a convolution wants it in memory."""
    assert layer.kernel is not None
    return laid(pixels.view(*layer.kernel, layer.outputs, layer.inputs).permute(2, 3, 0, 1))


def laid(weight: Tensor) -> Tensor:
    """A weight laid in memory as a convolution takes it; it would otherwise make a slower copy, there and back.

    With its channels last; on a GPU only in bfloat16, where images have theirs last as well.
    """
    last = not weight.is_cuda or torch.is_autocast_enabled("cuda")
    return weight.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def of_layer(rule: str, name: str, channels: tuple[int, ...], layer: LayerShape, otherwise: int) -> int:
    """A layer's entry in a list of channels, or `otherwise` where there is no list.

    Raises:
        LayerError: the list is too short for the network.
    """
    if not channels:
        return otherwise
    if layer.index >= len(channels):
        raise LayerError(
            f"{rule} has {name} for {len(channels)} layers, {list(channels)}, but the network has "
            f"{layer.name}; give one number for each layer, or none."
        )
    return channels[layer.index]


def share_of(channels: int, numerator: int, denominator: int) -> int:
    """A fraction of a number of channels, rounded up."""
    return -(-channels * numerator // denominator)


Start = tuple[tuple[int, ...], tuple[int, ...]]
"""The shape of a parameter, and its shape in TensorFlow."""


def glorot(starts: Mapping[str, Start], dtype: torch.dtype, generator: Generator) -> Tensors:
    """Parameters of these shapes, each Glorot uniform, drawn in this order."""
    return {name: glorot_uniform(shape, generator, tf, dtype) for name, (shape, tf) in starts.items()}


def check_options(rule: str, bias_start: str, lists: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ConfigurationError` where a rule's hyper-parameters cannot be meant."""
    if bias_start not in ("df-cnn", "lasem"):
        raise UnknownNameError("bias_start", bias_start, ("df-cnn", "lasem"))
    for name, channels in lists.items():
        if any(number < 1 for number in channels):
            raise ConfigurationError(f"{rule} needs {name} of at least 1 each, but they came as {list(channels)}.")


def bias_tf_shape(bias_start: BiasStart, outputs: int) -> tuple[int, ...]:
    """The shape in TensorFlow that decides the limit of b_t."""
    return (1, 1, 1, outputs) if bias_start == "df-cnn" else (outputs,)
