"""Squared gradients of a layer's weight for each example, summed, from what went in and the gradient of what came out.

With a_n what went in of example n, and g_n the gradient of the example's loss at what came out:

    Linear           sum_p g_np a_np^T                      over the positions p that the layer sees, mostly one
    Conv2d           sum_p g_np (the window of a_n at p)^T
    normalisation    sum_p g_np * (a_np normalised)         scale
    all of these     sum_p g_np                             bias, or shift
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

LAYERS = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
"""What is known here. Exactly these: what is derived from them may do something else."""

NUMBERS_AT_ONCE = 2**18
"""About so many numbers of one layer lie in memory at once, or one example's: what a processor's second cache holds."""


def fits(layer: nn.Module, inputs: Tensor, count: int) -> bool:
    """Whether the first side of what goes into a layer may be that of so many examples."""
    features = len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 1
    return len(inputs) == count and inputs.ndim >= (4 if isinstance(layer, nn.Conv2d) else 1 + features)


def keep(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What `squares` needs of what goes in: itself, or as a normalisation normalises it."""
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        mean, variance = layer.running_mean, layer.running_var
        return F.batch_norm(inputs, mean, variance, training=mean is None, eps=layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    return inputs


def squares(layer: nn.Module, name: str, a: Tensor, g: Tensor) -> Tensor:
    """The sum over examples of the squared gradients of one parameter.

    Args:
        layer: one of `LAYERS`.
        name: `weight` or `bias`.
        a: `[b, ...]`, as `keep` gives it.
        g: `[b, ...]`, the gradient of what came out.

    Returns:
        of the parameter's shape.
    """
    if name == "weight" and isinstance(layer, nn.Linear):
        return _linear(a, g)
    if name == "weight" and isinstance(layer, nn.Conv2d):
        return _convolution(layer, a, g) if layer.groups == 1 else _grouped_convolution(layer, a, g)
    terms = g * a if name == "weight" else g
    features = len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 1
    last = isinstance(layer, nn.Linear | nn.LayerNorm)
    positions = tuple(range(1, g.ndim - features) if last else range(2, g.ndim))
    return (terms.sum(positions) if positions else terms).square().sum(0)


def _linear(a: Tensor, g: Tensor) -> Tensor:
    if a.ndim == 2:
        return g.square().T @ a.square()  # the square of a product is the product of the squares
    a, g = a.flatten(1, -2), g.flatten(1, -2)
    total = a.new_zeros(g.shape[2], a.shape[2])
    for rows in _parts(len(a), total.numel()):
        _add_squares(total, torch.bmm(g[rows].transpose(1, 2), a[rows]))
    return total


def _convolution(layer: nn.Conv2d, a: Tensor, g: Tensor) -> Tensor:
    """One product of matrices for each example and each row of the filter.

    The rows of all windows, [row of the image, column of the result, column of the filter * inputs], are written out
    once; for row y of the filter, those that lie y further down are multiplied. With a stride of 1 this copies nothing.
    """
    outputs, inputs, height, width = layer.weight.shape
    rows, columns = g.shape[2:]
    total = a.new_zeros(height, outputs, width * inputs)
    lines = (rows - 1) * layer.stride[0] + (height - 1) * layer.dilation[0] + 1
    # One room for all parts: what the first leaves 0, the padding, stays so.
    numbers = max(total.numel(), lines * columns * width * inputs)
    room = a.new_zeros(min(len(a), _at_once(numbers)), lines, columns, width, inputs)
    for part in _parts(len(a), numbers):
        windows = room[: part.stop - part.start]
        _write_windows(layer, a[part], windows)
        gradients, windows = g[part].flatten(2), windows.flatten(3)
        for y in range(height):
            top = y * layer.dilation[0]
            here = windows[:, top : top + layer.stride[0] * (rows - 1) + 1 : layer.stride[0]].flatten(1, 2)
            _add_squares(total[y], torch.bmm(gradients, here))
    return total.view(height, outputs, width, inputs).permute(1, 3, 0, 2)


def _write_windows(layer: nn.Conv2d, a: Tensor, windows: Tensor) -> None:
    """Write the rows of all windows of images, `[b, inputs, H, W]`, into `[b, lines, columns, width, inputs]`."""
    left, _, above, _ = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        a, left, above = _padded(layer, a), 0, 0
    pixels, stride = a.permute(0, 2, 3, 1)[:, : windows.shape[1] - above], layer.stride[1]
    for x in range(layer.kernel_size[1]):
        start = x * layer.dilation[1] - left
        # The columns of the result for which this column of the filter lies on the image, from `first` up to `end`.
        first, end = max(0, -(start // stride)), min(windows.shape[2], (a.shape[3] - 1 - start) // stride + 1)
        if first < end:
            seen = pixels[:, :, start + first * stride : start + (end - 1) * stride + 1 : stride]
            windows[:, above : above + pixels.shape[1], first:end, x] = seen


def _grouped_convolution(layer: nn.Conv2d, a: Tensor, g: Tensor) -> Tensor:
    """Each example as further groups, in one image of all channels of all examples, so that no sum goes over these."""
    shape = layer.weight.shape
    total = a.new_zeros(shape)
    for part in _parts(len(a), total.numel()):
        count = part.stop - part.start
        image, gradient = (t.reshape(1, -1, *t.shape[2:]) for t in (_padded(layer, a[part]), g[part]))
        size = (count * shape[0], *shape[1:])
        # The annotations say that one number is wanted; torch takes one for each side.
        how = (layer.stride, 0, layer.dilation, count * layer.groups)
        each = conv2d_weight(image, size, gradient, *how)  # pyright: ignore[reportArgumentType]
        _add_squares(total, each.unflatten(0, (count, -1)))
    return total


def _padded(layer: nn.Conv2d, a: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(a, layer._reversed_padding_repeated_twice, mode)


def _at_once(numbers: int) -> int:
    """How many examples are looked at together, if each needs so many numbers."""
    return max(1, NUMBERS_AT_ONCE // numbers)


def _parts(count: int, numbers: int) -> Iterator[slice]:
    """Examples that are looked at together, if each needs so many numbers."""
    size = _at_once(numbers)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _add_squares(total: Tensor, each: Tensor) -> None:
    """Add to a total the squares of each example's gradient, `[b, ...]`, which are written over."""
    if len(each) == 1:
        total.addcmul_(each[0], each[0])
    else:
        total += each.square_().sum(0)
