"""Tensor factorisation over all tasks at once: DMTRL with Tucker's decomposition.

Y. Yang and T. Hospedales, "Deep Multi-task Representation Learning: A Tensor Factorisation Approach", ICLR
2017; TF in Lee et al. 2019, App. C. The weights of one layer for all T tasks are one tensor, which is kept as
a core and one matrix for each of its sides:

    W[h, w, i, o, t] = sum_{a, b, c, d, e}  S[a, b, c, d, e] H[h, a] B[w, b] I[i, c] O[o, d] T[t, e]

S and the matrices are shared; task t's filter is the slice t. A linear layer's tensor has the sides i, o, t
alone.

Details that change the numbers:
  * T is fixed when the tensor is made: the rule is for learning a known number of tasks together.
  * The random start decomposes numbers uniform in [0, 1), as the authors' code does. Their mean is 0.5, not
    zero, so the outputs of a layer are large and alike in all channels and tasks. That is why the
    factorisation of Lee et al. learns well only from filters that single-task learning has trained
    (`from_trained`; their TF (Distillation)).
  * A side is cut to the singular values above `tolerance` times the largest. Random numbers fill every side,
    so the random start is not cut: its size is a formula and not a matter of luck. Trained filters are cut.
  * Nothing keeps the matrices orthogonal after the start. Biases are each task's own, never factorised.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Tensor

from everlearn.errors import ConfigurationError, LayerError
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class Tucker(SharingRule):
    """W_t = the slice `task` of S x H x B x I x O x T; b_t = `bias`, the task's own.

    S is `core`, H `height`, B `width`, I `inputs`, O `outputs`, T `tasks`. The core's sides lie in the order
    `[tasks, outputs, inputs, height, width]`, so that a slice is PyTorch's weight without a copy; the paper
    writes `[height, width, inputs, outputs, tasks]`.

    Attributes:
        tasks: T, how many tasks there will be.
        tolerance: epsilon, singular values of a side at or below this share of the largest are dropped by
            `from_trained`.

    Raises:
        ConfigurationError: fewer than one task, or a tolerance outside [0, 1).

    Example:
        For ten tasks, 3x3 convolutions of 3 to 32 share a core of 3 * 3 * 3 * 32 * 10 = 8,640 numbers and
        matrices of 9 + 9 + 9 + 1,024 + 100; each task holds a bias of 32.
    """

    tasks: int
    tolerance: float = 1e-3
    name: ClassVar[str] = "tucker"

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise ConfigurationError(f"tucker needs a number of tasks of at least 1, but came with {self.tasks}.")
        if not 0 <= self.tolerance < 1:
            raise ConfigurationError(f"tucker needs a tolerance of 0 to below 1, but came with {self.tolerance}.")

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        stacked = torch.empty(self._sides(layer), dtype=ordinary["weight"].dtype, device=generator.device).uniform_(
            generator=generator
        )
        return _decomposed(stacked, None)

    def from_trained(self, layer: LayerShape, weights: Sequence[Tensor]) -> Tensors:
        """The shared parameters that reproduce T trained layers, to within the tolerance.

        Args:
            layer: whose weights they are.
            weights: one a task, in the order of the tasks, each of the layer's weight shape.

        Raises:
            LayerError: another number of weights than tasks, a weight of another shape, or none but zeros.
        """
        if len(weights) != self.tasks:
            raise LayerError(
                f"tucker needs one trained weight for each of {self.tasks} tasks, but {len(weights)} came."
            )
        for weight in weights:
            if tuple(weight.shape) != layer.weight_shape:
                raise LayerError(
                    f"{layer.name}, needs trained weights of shape {list(layer.weight_shape)}, "
                    f"but one of {list(weight.shape)} came."
                )
        stacked = torch.stack([weight.detach() for weight in weights])
        if not stacked.any():
            raise LayerError(f"the trained weights of {layer.name}, are all zero and have no decomposition.")
        return _decomposed(stacked, self.tolerance)

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return {"bias": ordinary["bias"]} if layer.bias else {}

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        if not 0 <= task < self.tasks:
            raise LayerError(f"tucker was built for {self.tasks} tasks and has no slice for task {task + 1}.")
        core = shared["core"]
        # r_t .. r_w: the ranks of the sides (tasks, outputs, inputs, height, width).
        weight = shared["tasks"][task] @ core.flatten(1)  # [r_o * r_i * r_h * r_w]
        weight = shared["outputs"] @ weight.view(core.shape[1], -1)  # [o, r_i * r_h * r_w]
        weight = shared["inputs"] @ weight.view(layer.outputs, core.shape[2], -1)  # [o, i, r_h * r_w]
        if layer.kernel:
            weight = weight @ torch.kron(shared["height"], shared["width"]).t()  # [o, i, h * w]
        return {"weight": weight.view(layer.weight_shape), **own}

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """Core and matrices, prod(r) + sum(n * r), and the bias; r = min(n, product of the other sides)."""
        sides = self._sides(layer)
        ranks = [min(side, math.prod(sides) // side) for side in sides]
        matrices = sum(side * rank for side, rank in zip(sides, ranks, strict=True))
        return math.prod(ranks) + matrices, layer.biases

    def _sides(self, layer: LayerShape) -> tuple[int, ...]:
        return (self.tasks, *layer.weight_shape)


_SIDES = ("tasks", "outputs", "inputs", "height", "width")


def _decomposed(tensor: Tensor, tolerance: float | None) -> Tensors:
    """Tucker's decomposition by the singular vectors of each unfolding (De Lathauwer et al. 2000).

    Args:
        tensor: `[tasks, outputs, inputs]` or `[tasks, outputs, inputs, height, width]`.
        tolerance: the share of the largest singular value below which a side is cut; None to cut nothing.
    """
    whole = tensor.double()  # small singular values are lost in single precision
    core = whole
    tensors: Tensors = {}
    for side, name in enumerate(_SIDES[: tensor.ndim]):
        unfolded = whole.movedim(side, 0).flatten(1)
        vectors, values = _left_singular(unfolded)
        rank = len(values) if tolerance is None else int((values > tolerance * values[0]).sum())
        matrix = vectors[:, :rank]  # [side, rank]
        # The first side goes, its rank comes last; after every side had its turn they are in order again.
        core = core.movedim(0, -1) @ matrix
        tensors[name] = matrix.to(tensor.dtype).contiguous()
    return {"core": core.to(tensor.dtype).contiguous(), **tensors}


def _left_singular(matrix: Tensor) -> tuple[Tensor, Tensor]:
    svd = cast("Callable[..., tuple[Tensor, Tensor, Tensor]]", torch.linalg.svd)  # pyright: ignore[reportUnknownMemberType]
    vectors, values, _ = svd(matrix, full_matrices=False)
    return vectors, values
