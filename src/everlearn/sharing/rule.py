"""What a sharing rule is: how one layer's weight and bias come from shared and own parameters.

    weights of a layer for task t  =  rule.weights(shared parameters, parameters of task t's own)

A rule knows a layer's shape and nothing else: no network, no task's data, no training. Every rule works on
`nn.Conv2d`; on `nn.Linear` where its mathematics is defined there.

Shapes are PyTorch's: a convolution's weight is `[outputs, inputs, kh, kw]`, a linear layer's `[outputs,
inputs]`, a bias `[outputs]`. The papers write filters as `[kh, kw, inputs, outputs]`; each rule says where it
transposes.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from everlearn.errors import LayerError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class LayerShape:
    """What a rule may know of a layer.

    Attributes:
        kernel: height and width of a convolution's filters; None for a linear layer.
        inputs: input channels (per group, if grouped) or features.
        outputs: output channels or features.
        bias: whether the layer adds one.
        index: its position among the trunk's shareable layers, from 0.
        name: how an error names it ("layer 3, a 5x5 convolution of 32 to 64 channels").
    """

    kernel: tuple[int, int] | None
    inputs: int
    outputs: int
    bias: bool
    index: int = 0

    @classmethod
    def of(cls, module: nn.Module, index: int = 0) -> "LayerShape":
        """The shape of an `nn.Conv2d` or `nn.Linear`.

        Raises:
            LayerError: the module is neither.
        """
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            inputs = module.in_channels // module.groups
            return cls((height, width), inputs, module.out_channels, _has_bias(module), index)
        if isinstance(module, nn.Linear):
            return cls(None, module.in_features, module.out_features, _has_bias(module), index)
        raise LayerError(f"sharing rules make the weights of Conv2d and Linear layers, not of {type(module).__name__}.")

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight, as PyTorch has it."""
        return (self.outputs, self.inputs, *(self.kernel or ()))

    @property
    def numbers(self) -> int:
        """How many numbers the weight and the bias hold."""
        return math.prod(self.weight_shape) + self.biases

    @property
    def biases(self) -> int:
        """How many numbers the bias holds: none, if the layer adds none."""
        return self.outputs if self.bias else 0

    @property
    def name(self) -> str:
        """How an error names the layer."""
        what = f"{self.kernel[0]}x{self.kernel[1]} convolution" if self.kernel else "linear layer"
        return f"layer {self.index + 1}, a {what} of {self.inputs} to {self.outputs}"


class SharingRule(ABC):
    """A way to make one layer's weights from shared parameters and a task's own.

    Subclasses are frozen dataclasses of hyper-parameters, each with its symbol in the paper. They hold no
    tensors: the parameters go in and the weights come out, so one rule serves every layer and every task.
    """

    name: ClassVar[str]
    shares_the_rest: ClassVar[bool] = False
    """Whether a block's other parameters (of normalisation layers) are shared as well; else they are the
    task's."""

    starts_as_given: ClassVar[bool] = False
    """Whether a new layer has the very weights that the backbone's layer came with."""

    def check(self, layer: LayerShape) -> None:
        """Raise `LayerError` if this rule cannot make the layer, saying which sizes it can; the default makes
        any."""

    @abstractmethod
    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        """New shared parameters, by name.

        Args:
            layer: whose weights are to be made.
            ordinary: `weight` (and `bias`) as an ordinary layer of the backbone starts; the result may hold
                them.
            generator: the source of every other random number.
        """

    @abstractmethod
    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        """New parameters of one task's own, by name; arguments as for `shared`."""

    @abstractmethod
    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        """The layer's `weight` (and `bias`, if it has one) for one task.

        Args:
            layer: whose weights are made.
            shared: as `shared` names them.
            own: as `own` names them.
            task: the task's position in the order of learning, from 0; most rules need not look.
        """

    def penalty(self, layer: LayerShape, shared: Tensors, own: Tensors) -> Tensor | None:
        """What the rule adds to the loss (a scalar), or None; the default adds nothing."""
        return None

    @abstractmethod
    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """How many numbers the shared parameters hold, and a task's own: the formula, not a measurement."""


def _has_bias(module: nn.Module) -> bool:
    return getattr(module, "bias", None) is not None  # torch's annotations say that there always is one
