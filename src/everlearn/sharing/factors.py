"""Tensor factorisation with a shared core and each task's own matrices.

A. Bulat, J. Kossaifi, G. Tzimiropoulos and M. Pantic, "Incremental multi-domain learning with network latent
tensor factorization", AAAI 2020; TF in Lee et al. 2021, whose authors' code sets the details:

    W_t[h', w', i', o'] = sum_{h, w, i, o}  S[h, w, i, o] H_t[h, h'] B_t[w, w'] I_t[i, i'] O_t[o, o']

and the loss grows by lambda * sum over A in {H_t, B_t, I_t, O_t} of ||A^T A - 1||_F. A linear layer has I_t
and O_t alone.

Details that change the numbers:
  * The core is as large as the weight and the matrices are square: nothing is compressed.
  * The Frobenius norm of the penalty is not squared, so its gradient does not vanish as a matrix nears an
    orthogonal one; at an exactly orthogonal one it is taken as zero.
  * Everything starts Glorot uniform, the bias too, which is then random and larger than usual.
  * The penalty holds back the task's own matrices only; the core carries none.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from everlearn.errors import ConfigurationError
from everlearn.sharing.initialisers import glorot_uniform
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class Factors(SharingRule):
    """W_t = S x H_t x B_t x I_t x O_t, with S shared; b_t = `bias`, the task's own.

    S is `core`, H_t `height`, B_t `width`, I_t `inputs`, O_t `outputs`. The core's sides lie as in PyTorch's
    weight, `[outputs, inputs, height, width]`; the authors have `[height, width, inputs, outputs]`.

    Attributes:
        orthogonality: lambda, the weight of the penalty; the papers' grid is 0.1, 0.05, 0.01, 0.005, 0.001.

    Raises:
        ConfigurationError: a negative `orthogonality`.

    Example:
        3x3 convolutions of 3 to 32 share a core of 3 * 3 * 3 * 32 = 864 numbers; each task holds matrices of
        9 + 9 + 9 + 1,024 and a bias of 32.
    """

    orthogonality: float = 0.1
    name: ClassVar[str] = "factors"

    def __post_init__(self) -> None:
        if not 0 <= self.orthogonality < math.inf:
            raise ConfigurationError(
                f"factors needs an orthogonality of at least 0, but came with {self.orthogonality}."
            )

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        tf_shape = (*(layer.kernel or ()), layer.inputs, layer.outputs)
        return {"core": glorot_uniform(layer.weight_shape, generator, tf_shape, ordinary["weight"].dtype)}

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        shapes = {name: (side, side) for name, side in _sides(layer).items()}
        shapes |= {"bias": (layer.outputs,)} if layer.bias else {}
        dtype = ordinary["weight"].dtype
        return {name: glorot_uniform(shape, generator, shape, dtype) for name, shape in shapes.items()}

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        weight = own["outputs"].t() @ shared["core"].flatten(1)  # [o', i * h * w]
        weight = own["inputs"].t() @ weight.view(layer.outputs, layer.inputs, -1)  # [o', i', h * w]
        if layer.kernel:
            weight = weight @ torch.kron(own["height"], own["width"])  # [o', i', h' * w']
        return {"weight": weight.view(layer.weight_shape)} | ({"bias": own["bias"]} if layer.bias else {})

    def penalty(self, layer: LayerShape, shared: Tensors, own: Tensors) -> Tensor | None:
        if self.orthogonality == 0:
            return None
        # torch gives the norm of a zero matrix the gradient zero, so an orthogonal A does no harm.
        norms = torch.stack([torch.dist(_gram(own[name]), _one(own[name])) for name in _sides(layer)])
        return self.orthogonality * norms.sum()

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """The core; and the squares of the weight's sides, and the bias."""
        return math.prod(layer.weight_shape), sum(side**2 for side in _sides(layer).values()) + layer.biases


def _sides(layer: LayerShape) -> dict[str, int]:
    kernel = dict(zip(("height", "width"), layer.kernel or (), strict=False))
    return kernel | {"inputs": layer.inputs, "outputs": layer.outputs}


def _gram(matrix: Tensor) -> Tensor:
    return matrix.t() @ matrix


def _one(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
