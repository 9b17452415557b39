"""Where parameters start: Glorot uniform by TensorFlow 1's rule, the cut normal, constants.

Glorot and Bengio 2010, Eq. 16: values uniform in [-limit, limit], limit = sqrt(6 / (fan_in + fan_out)).

Details that change the numbers:
  * The fans are taken from a shape in TensorFlow's order, `[kh, kw, inputs, outputs]`, which is not
    PyTorch's; so the shape for the fans is an argument of its own, apart from the shape of the tensor.
  * Of a vector of n, TensorFlow 1 takes fan_in = fan_out = n: biases that start this way are random and
    large.
  * "Truncated normal" cuts at two deviations, so that a nominal deviation of 0.05 is one of 0.044.

Every function draws from the generator that it is given, and from nothing else, on that generator's device.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn


def glorot_limit(tf_shape: Sequence[int]) -> float:
    """The largest value that TensorFlow 1's Glorot uniform can give a tensor of this shape.

    Of a shape `[..., a, b]` with more than two sides, fan_in = a * r and fan_out = b * r, where r is the
    product of the sides before; of a matrix the fans are its sides; of a vector both are its length.

    Args:
        tf_shape: in TensorFlow's order; at least one side.

    Example:
        >>> round(glorot_limit((3, 3, 24, 16)), 3)  # sqrt(6 / (9 * 24 + 9 * 16))
        0.129
    """
    if len(tf_shape) == 1:
        fan_in = fan_out = tf_shape[0]
    else:
        *receptive, inputs, outputs = tf_shape
        fan_in, fan_out = inputs * math.prod(receptive), outputs * math.prod(receptive)
    return math.sqrt(6 / (fan_in + fan_out))


def glorot_uniform(
    shape: Sequence[int], generator: Generator, tf_shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Tensor:
    """A tensor of `shape`, uniform within `glorot_limit(tf_shape)` of zero.

    Args:
        shape: of the tensor.
        generator: the source of the draw.
        tf_shape: of the same tensor in TensorFlow, whose order decides the fans.
        dtype: of the tensor.
    """
    limit = glorot_limit(tf_shape)
    return _empty(shape, generator, dtype).uniform_(-limit, limit, generator=generator)


def truncated_normal(
    shape: Sequence[int], generator: Generator, std: float = 0.05, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A tensor of `shape` from a normal of mean zero, what lies beyond two deviations being drawn again.

    Args:
        shape: of the tensor.
        generator: the source of the draw.
        std: of the normal before the cut; the result's is 0.88 times that.
        dtype: of the tensor.
    """
    tensor = _empty(shape, generator, dtype)
    return nn.init.trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std, generator=generator)


def constant(shape: Sequence[int], value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of `shape` that is `value` everywhere; the papers' biases are 0.2."""
    return torch.full(tuple(shape), value, dtype=dtype)


def _empty(shape: Sequence[int], generator: Generator, dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=generator.device)
