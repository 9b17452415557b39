"""DF-CNN.direct: filters deconvolved from a shared knowledge base in one step, without a contraction.

Lee et al. 2019, App. A (a). For each layer and task t:

    D_t = deconv(L; V_t) + b_V,t                                  [k, k, inputs * outputs]
    W_t = D_t, reshaped                                           [k, k, inputs, outputs]

Details that change the numbers:
  * V_t has a channel for every pair of input and output, so a task holds far more than an ordinary layer: 9
    c^ + 1 numbers where an ordinary 3x3 layer holds 9.
  * The authors' reshaping is row-major, so their channel of input i and output o is i * outputs + o. Here it
    is o * inputs + i, which is nearer to PyTorch's weight; the channels are only numbered otherwise.
  * Biases, start and the missing nonlinearity are as in `everlearn.sharing.deconvolution`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from everlearn.sharing.deconvolving import (
    BiasStart,
    Start,
    as_weight,
    authors_sizes,
    bias_tf_shape,
    check_options,
    deconvolved_taps,
    glorot,
    kb_sides,
    of_layer,
    share_of,
)
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class DeconvolutionDirect(SharingRule):
    """W_t = deconv(L; V_t) + b_V,t; b_t = `bias`.

    L is `knowledge_base`, `[c^, h^, w^]` (the paper: `[h^, w^, c^]`); V_t is `deconvolution`,
    `[c^, 3, 3, outputs * inputs]` (`[3, 3, c^, inputs * outputs]`), its many channels last because that is
    fast; b_V,t is `deconvolution_bias`, `[outputs * inputs]`.

    Attributes:
        kb_channels: c^ of each layer, in the order of the layers; empty for two thirds of inputs + outputs,
            rounded up (the paper gives no rule; the authors' lists are those of DF-CNN's c, whose rule this
            is).
        bias_start: how b_t starts; as for `Deconvolution`.

    Raises:
        ConfigurationError: a number of channels below 1, or an unknown `bias_start`.

    Example:
        With c^ = 24, 3x3 convolutions of 3 to 32 share 2 * 2 * 24 = 96 numbers; each task holds 3 * 3 * 24 *
        96 of V, 96 of b_V and 32 of b: 20,864 in all.
    """

    kb_channels: tuple[int, ...] = ()
    bias_start: BiasStart = "df-cnn"
    name: ClassVar[str] = "deconvolution.direct"

    def __post_init__(self) -> None:
        check_options(self.name, self.bias_start, {"kb_channels": self.kb_channels})

    @classmethod
    def authors(cls, network: str, bias_start: BiasStart = "df-cnn") -> "DeconvolutionDirect":
        """With the authors' channels for a network of theirs; `AUTHORS_SIZES` names them."""
        return cls(authors_sizes(cls.name, network).kb_channels, bias_start)

    def check(self, layer: LayerShape) -> None:
        kb_sides(self.name, layer)
        self._channels(layer)

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        height, width = kb_sides(self.name, layer)
        kb = self._channels(layer)
        shape, tf_shape = (kb, height, width), (1, height, width, kb)
        return glorot({"knowledge_base": (shape, tf_shape)}, ordinary["weight"].dtype, generator)

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        self.check(layer)
        kb, pairs = self._channels(layer), layer.inputs * layer.outputs
        starts: dict[str, Start] = {
            "deconvolution": ((kb, 3, 3, pairs), (3, 3, pairs, kb)),
            "deconvolution_bias": ((pairs,), (1, 1, 1, pairs)),
        }
        if layer.bias:
            starts["bias"] = ((layer.outputs,), bias_tf_shape(self.bias_start, layer.outputs))
        return glorot(starts, ordinary["weight"].dtype, generator)

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        taps = deconvolved_taps(shared["knowledge_base"]).flatten(2).flatten(0, 1)  # [c^ * 9, kh * kw]
        filters, bias = (
            own["deconvolution"].flatten(0, 2),
            own["deconvolution_bias"],
        )  # [c^ * 9, o * i], [o * i]
        pixels = torch.addmm(bias, taps.t(), filters)  # [kh * kw, o * i]
        return {"weight": as_weight(pixels, layer)} | ({"bias": own["bias"]} if layer.bias else {})

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """h^ * w^ * c^; and (9 * c^ + 1) * inputs * outputs, and the bias."""
        height, width = kb_sides(self.name, layer)
        kb = self._channels(layer)
        return height * width * kb, (9 * kb + 1) * layer.inputs * layer.outputs + layer.biases

    def _channels(self, layer: LayerShape) -> int:
        """c^."""
        otherwise = share_of(layer.inputs + layer.outputs, 2, 3)
        return of_layer(self.name, "kb_channels", self.kb_channels, layer, otherwise)
