"""Additive parameter decomposition: a shared weight behind a task's mask, plus a task's own weight (APD).

J. Yoon, S. Kim, E. Yang and S. J. Hwang, "Scalable and Order-robust Continual Learning with Additive Parameter
Decomposition", ICLR 2020; APD-Net in Lee et al. 2021, whose authors' code sets the details. For each layer and
task t, element by element:

    W_t = S * sigmoid(M_t) + A_t,   b_t = b

and the loss grows by lambda_1 * mean |A_t|. S and b are shared; M_t, whose sigmoid is the mask, and the addition
A_t are the task's own. Yoon et al. write sigma for S, tau_t for A_t and M_t for the mask itself.

Details that change the numbers:
  * M_t has the weight's shape, so a task's own numbers are twice the weight's. Yoon et al. have one number an
    output (`mask="outputs"`).
  * The penalty is a mean over the entries of A_t. Yoon et al. take the sum (`sparsity_norm="sum"`): in a layer of
    n weights the same lambda_1 is then n times as strong.
  * A network sums the penalties of its transferred layers, as Yoon et al. do. Lee et al. take the mean over the L
    layers: their strength is a `sparsity` of lambda_1 / L.
  * M_t and A_t start from a normal of deviation 0.05 cut at two deviations, S and b as the backbone's ordinary
    layers: in the papers' networks from the same normal, and at 0.2. A new mask is near one half everywhere. In
    Yoon et al.'s code A_t starts as a copy of S.
  * The bias is shared, and so is what else the block holds. In Yoon et al.'s code the bias is the task's own.
  * Nothing is cut to zero: A_t is small, not sparse. Yoon et al.'s code drops what lies within lambda_1 of zero
    when it tests.
  * The term with lambda_2, which holds S near its former value, and the later updates of earlier tasks' A_t need
    more than one task's parameters. They belong to a method; this rule has neither.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Generator, Tensor

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.sharing.initialisers import truncated_normal
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors

Mask = Literal["full", "outputs"]
SparsityNorm = Literal["mean", "sum"]


@dataclass(frozen=True)
class Additive(SharingRule):
    """W_t = S * sigmoid(M_t) + A_t, with S shared; b_t = `bias`, shared.

    S is `weight`, M_t `mask`, A_t `addition`. `addition` has the weight's shape, `mask` that or `[outputs]`.

    Attributes:
        mask: "full", M_t has a number for each weight (Lee et al. 2021); "outputs", one for each output channel
            or feature (Yoon et al. 2020).
        sparsity: lambda_1, the weight of the penalty.
        sparsity_norm: "mean", the penalty is lambda_1 * mean |A_t| (Lee et al. 2021); "sum", lambda_1 * sum |A_t|
            (Yoon et al. 2020).

    Raises:
        UnknownNameError: an unknown `mask` or `sparsity_norm`.
        ConfigurationError: a `sparsity` that is negative or not finite.

    Example:
        3x3 convolutions of 3 to 32 share a weight of 3 * 3 * 3 * 32 = 864 numbers and a bias of 32; each task
        holds 864 of M_t and 864 of A_t, or with `mask="outputs"` 32 and 864.
    """

    mask: Mask = "full"
    sparsity: float = 4e-4
    sparsity_norm: SparsityNorm = "mean"
    name: ClassVar[str] = "additive"
    shares_the_rest: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.mask not in get_args(Mask):
            raise UnknownNameError("mask", str(self.mask), get_args(Mask))
        if self.sparsity_norm not in get_args(SparsityNorm):
            raise UnknownNameError("sparsity_norm", str(self.sparsity_norm), get_args(SparsityNorm))
        if not 0 <= self.sparsity < math.inf:
            raise ConfigurationError(f"additive needs a sparsity of at least 0, but came with {self.sparsity}.")

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return dict(ordinary)

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        shapes = {"mask": self._mask_shape(layer), "addition": layer.weight_shape}
        dtype = ordinary["weight"].dtype
        return {name: truncated_normal(shape, generator, dtype=dtype) for name, shape in shapes.items()}

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        gate = own["mask"].sigmoid()
        if self.mask == "outputs":
            gate = gate.view(-1, *[1] * (len(layer.weight_shape) - 1))  # [o, 1, 1, 1] or [o, 1]
        return {**shared, "weight": shared["weight"] * gate + own["addition"]}

    def penalty(self, layer: LayerShape, shared: Tensors, own: Tensors) -> Tensor | None:
        if self.sparsity == 0:
            return None
        sizes = own["addition"].abs()
        return self.sparsity * (sizes.mean() if self.sparsity_norm == "mean" else sizes.sum())

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """The weight and the bias; and the mask, as large as the weight or `outputs`, and the weight again."""
        return layer.numbers, math.prod(self._mask_shape(layer)) + math.prod(layer.weight_shape)

    def _mask_shape(self, layer: LayerShape) -> tuple[int, ...]:
        return (layer.outputs,) if self.mask == "outputs" else layer.weight_shape
