"""For the tests of sharing rules: layers, starts, and the transposed convolution from its definition."""

from itertools import product

import torch
from beartype import beartype
from jaxtyping import Float64, jaxtyped
from torch import Tensor

from everlearn.sharing.rule import LayerShape, SharingRule, Tensors

CIFAR = ((3, 32), (32, 32), (32, 64), (64, 64))


def conv_layers(channels: tuple[tuple[int, int], ...], kernels: tuple[int, ...]) -> list[LayerShape]:
    return [
        LayerShape((k, k), inputs, outputs, bias=True, index=i)
        for i, ((inputs, outputs), k) in enumerate(zip(channels, kernels, strict=True))
    ]


def ordinary(layer: LayerShape, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensors:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(layer.weight_shape, generator=random, dtype=dtype)
    return {"weight": weight} | (
        {"bias": torch.randn(layer.outputs, generator=random, dtype=dtype)} if layer.bias else {}
    )


def start(
    rule: SharingRule, layer: LayerShape, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensors, Tensors]:
    random = torch.Generator().manual_seed(seed)
    values = ordinary(layer, seed + 1000, dtype)
    return rule.shared(layer, values, random), rule.own(layer, values, random)


@jaxtyped(typechecker=beartype)
def scattered(
    base: Float64[Tensor, "kb h w"], filters: Float64[Tensor, "kb c 3 3"], bias: Float64[Tensor, " c"]
) -> Float64[Tensor, "c kh kw"]:
    """deconv(L; V) + b: every pixel of L stamps V, scaled, onto the result, two pixels from the next.

    A stride-2 SAME convolution of a side k = 2h - 1 with a filter of 3 has h outputs and pads
    (h - 1) * 2 + 3 - k = 2 pixels, one on each side: output r sees the inputs 2r - 1, 2r, 2r + 1. Its
    transpose writes to just these.
    """
    (kb, height, width), channels = base.shape, filters.shape[1]
    sides = (2 * height - 1, 2 * width - 1)
    result = [[[bias[c].item() for _ in range(sides[1])] for _ in range(sides[0])] for c in range(channels)]
    L, V = base.tolist(), filters.tolist()
    for a, r, s, c, p, q in product(range(kb), range(height), range(width), range(channels), range(3), range(3)):
        y, x = 2 * r - 1 + p, 2 * s - 1 + q
        if 0 <= y < sides[0] and 0 <= x < sides[1]:
            result[c][y][x] += L[a][r][s] * V[a][c][p][q]
    return torch.tensor(result, dtype=torch.float64)


def largest(rule: SharingRule, layer: LayerShape, seeds: int = 30) -> dict[str, float]:
    """The largest absolute value of every parameter over several starts."""
    found: dict[str, float] = {}
    for seed in range(seeds):
        for tensors in start(rule, layer, seed, torch.float32):
            for name, tensor in tensors.items():
                found[name] = max(found.get(name, 0.0), tensor.abs().max().item())
    return found
