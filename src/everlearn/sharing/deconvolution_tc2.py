"""DF-CNN.tc2: filters deconvolved from a shared knowledge base, then contracted twice, once for each side.

Lee et al. 2019, App. A (b). For each layer and task t, with s over the slices of the knowledge base:

    D_t[s] = deconv(L[s]; V_t) + b_V,t                                        [c1, k, k, c2]
    W_t[x, y, i, o] = sum_d ( sum_s D_t[s, x, y, d] U_t,1[s, i] ) U_t,2[d, o]     [k, k, inputs, outputs]

Details that change the numbers:
  * The knowledge base is of fourth order, `[c1, h^, h^, c^]`, and the same V_t deconvolves each of its c1
    slices; the paper does not say so, but only so do the published sizes come out.
  * Its limit at the start counts the slices among the fans.
  * Biases, start and the missing nonlinearity are as in `everlearn.sharing.deconvolution`.
  * For MNIST and CIFAR-10 the authors' lists give fewer numbers than the paper's tables (1.18 million for
    1.5).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from everlearn.sharing.deconvolving import (
    BiasStart,
    Start,
    authors_sizes,
    bias_tf_shape,
    check_options,
    deconvolve,
    glorot,
    kb_sides,
    laid,
    of_layer,
    share_of,
)
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class DeconvolutionTC2(SharingRule):
    """W_t = (deconv(L; V_t) + b_V,t) contracted with U_t,1 and U_t,2; b_t = `bias`.

    L is `knowledge_base`, `[c1, c^, h^, w^]` (the authors: `[c1, h^, w^, c^]`); V_t is `deconvolution`,
    `[c^, c2, 3, 3]` (`[3, 3, c^, c2]`); b_V,t is `deconvolution_bias`, `[c2]`; U_t,1 is `contraction_inputs`,
    `[c1, inputs]`, and U_t,2 `contraction_outputs`, `[c2, outputs]`, as in the paper.

    Attributes:
        kb_slices: c1 of each layer, in the order of the layers; empty for three eighths of the inputs,
            rounded up.
        kb_channels: c^ of each layer; empty for three eighths of the outputs, rounded up.
        deconv_channels: c2 of each layer; empty for three quarters of the outputs, rounded up. The paper
            gives no rule; these three reproduce the authors' lists for CIFAR.
        bias_start: how b_t starts; as for `Deconvolution`.

    Raises:
        ConfigurationError: a number of channels below 1, or an unknown `bias_start`.

    Example:
        With (c1, c^, c2) = (2, 12, 24), 3x3 convolutions of 3 to 32 share 2 * 2 * 2 * 12 = 96 numbers; each
        task holds 3 * 3 * 12 * 24 of V, 24 of b_V, 2 * 3 of U_1, 24 * 32 of U_2 and 32 of b: 3,422 in all.
    """

    kb_slices: tuple[int, ...] = ()
    kb_channels: tuple[int, ...] = ()
    deconv_channels: tuple[int, ...] = ()
    bias_start: BiasStart = "df-cnn"
    name: ClassVar[str] = "deconvolution.tc2"

    def __post_init__(self) -> None:
        lists = {
            "kb_slices": self.kb_slices,
            "kb_channels": self.kb_channels,
            "deconv_channels": self.deconv_channels,
        }
        check_options(self.name, self.bias_start, lists)

    @classmethod
    def authors(cls, network: str, bias_start: BiasStart = "df-cnn") -> "DeconvolutionTC2":
        """With the authors' channels for a network of theirs; `AUTHORS_SIZES` names them."""
        sizes = authors_sizes(cls.name, network)
        return cls(sizes.kb_slices, sizes.kb_channels, sizes.deconv_channels, bias_start)

    def check(self, layer: LayerShape) -> None:
        kb_sides(self.name, layer)
        self._channels(layer)

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        height, width = kb_sides(self.name, layer)
        slices, kb, _ = self._channels(layer)
        shape, tf_shape = (slices, kb, height, width), (slices, height, width, kb)
        return glorot({"knowledge_base": (shape, tf_shape)}, ordinary["weight"].dtype, generator)

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        self.check(layer)
        slices, kb, c2 = self._channels(layer)
        inputs, outputs = (slices, layer.inputs), (c2, layer.outputs)
        starts: dict[str, Start] = {
            "deconvolution": ((kb, c2, 3, 3), (3, 3, c2, kb)),
            "deconvolution_bias": ((c2,), (1, 1, 1, c2)),
            "contraction_inputs": (inputs, inputs),
            "contraction_outputs": (outputs, outputs),
        }
        if layer.bias:
            starts["bias"] = ((layer.outputs,), bias_tf_shape(self.bias_start, layer.outputs))
        return glorot(starts, ordinary["weight"].dtype, generator)

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        assert layer.kernel is not None
        base, filters, bias = shared["knowledge_base"], own["deconvolution"], own["deconvolution_bias"]
        basis = deconvolve(base, filters, bias)  # [c1, c2, kh, kw]
        half = basis.flatten(1).t() @ own["contraction_inputs"]  # [c2 * kh * kw, i]
        weight = own["contraction_outputs"].t() @ half.view(basis.shape[1], -1)  # [o, kh * kw * i]
        # The channels are last in memory already, where a convolution on a CPU wants them: nothing is copied there.
        weight = laid(weight.view(layer.outputs, *layer.kernel, layer.inputs).permute(0, 3, 1, 2))
        return {"weight": weight} | ({"bias": own["bias"]} if layer.bias else {})

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """c1 * h^ * w^ * c^; and 9 * c^ * c2 + c2 + c1 * inputs + c2 * outputs, and the bias."""
        height, width = kb_sides(self.name, layer)
        slices, kb, c2 = self._channels(layer)
        own = 9 * kb * c2 + c2 + slices * layer.inputs + c2 * layer.outputs + layer.biases
        return slices * height * width * kb, own

    def _channels(self, layer: LayerShape) -> tuple[int, int, int]:
        """c1, c^ and c2."""
        slices = of_layer(self.name, "kb_slices", self.kb_slices, layer, share_of(layer.inputs, 3, 8))
        kb = of_layer(self.name, "kb_channels", self.kb_channels, layer, share_of(layer.outputs, 3, 8))
        c2 = of_layer(self.name, "deconv_channels", self.deconv_channels, layer, share_of(layer.outputs, 3, 4))
        return slices, kb, c2
