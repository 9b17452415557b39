"""Hard parameter sharing: one layer for all tasks.

R. Caruana, "Multitask Learning: A Knowledge-Based Source of Inductive Bias", ICML 1993; HPS in Lee et al.
2019.

    W_t = W,   b_t = b     for every task t

Details that change the numbers:
  * The bias is shared as well as the weight.
  * What else the block holds (scale and shift of a normalisation layer) is shared too; running statistics are
    not.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class Hard(SharingRule):
    """W_t = `weight`, b_t = `bias`, both shared; a task has nothing of its own in the layer.

    Example:
        A 3x3 convolution of 32 to 64 shares 3 * 3 * 32 * 64 + 64 = 18,496 numbers, however many tasks there
        are.
    """

    name: ClassVar[str] = "hard"
    starts_as_given: ClassVar[bool] = True
    shares_the_rest: ClassVar[bool] = True

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return dict(ordinary)

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return {}

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        return dict(shared)

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        return layer.numbers, 0
