"""Nothing shared: single-task learning.

Each task has a layer of its own, as if there were no other (STL in Lee et al. 2019, Sec. 4).

    W_t, b_t = the task's own parameters

Details that change the numbers: none; the layer starts as the backbone's ordinary layers do.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class Own(SharingRule):
    """W_t = `weight`, b_t = `bias`, both the task's own.

    Example:
        A 3x3 convolution of 32 to 64 shares nothing; each task holds 3 * 3 * 32 * 64 + 64 = 18,496 numbers.
    """

    name: ClassVar[str] = "own"
    starts_as_given: ClassVar[bool] = True

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return {}

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return dict(ordinary)

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        return dict(own)

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        return 0, layer.numbers
