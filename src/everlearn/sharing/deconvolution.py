"""Deconvolutional factorisation: filters deconvolved from a shared knowledge base, then contracted (DF-CNN).

S. Lee, J. Stokes and E. Eaton, "Learning Shared Knowledge for Deep Lifelong Learning Using Deconvolutional
Networks", IJCAI 2019, Sec. 2.2, Eq. 1 and 2. For each layer and task t:

    D_t = deconv(L; V_t) + b_V,t                                  [k, k, c]
    W_t[x, y, i, o] = sum_c D_t[x, y, c] U_t[c, i, o]             [k, k, inputs, outputs]

L is shared, `[h^, h^, c^]` with k = 2 h^ - 1; V_t, b_V,t, U_t and the layer's bias b_t are the task's own.

Details that change the numbers:
  * No nonlinearity stands between the two steps, and a bias b_V,t does; the paper mentions neither.
  * The layer's bias b_t is learned directly: neither generated nor shared.
  * Everything starts Glorot uniform by TensorFlow's rule, the biases too. They are random and large: up to
    0.43 for b_t of 32 channels, where ordinary layers start from 0.2. The code of Lee et al. 2021 starts b_t
    otherwise.
  * The authors' lists of channels c^ and c follow no rule; see `everlearn.sharing.deconvolving`.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from everlearn.sharing.deconvolving import (
    BiasStart,
    Start,
    as_weight,
    authors_sizes,
    bias_tf_shape,
    check_options,
    deconvolve,
    glorot,
    kb_sides,
    of_layer,
    share_of,
)
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors


@dataclass(frozen=True)
class Deconvolution(SharingRule):
    """W_t = (deconv(L; V_t) + b_V,t) contracted with U_t; b_t = `bias`.

    L is `knowledge_base`, `[c^, h^, w^]` (the paper: `[h^, w^, c^]`); V_t is `deconvolution`, `[c^, c, 3, 3]`
    (`[3, 3, c^, c]`); b_V,t is `deconvolution_bias`, `[c]`; U_t is `contraction`, `[c, outputs, inputs]`
    (`[c, inputs, outputs]`).

    Attributes:
        kb_channels: c^ of each layer, in the order of the layers; empty for one third of inputs + outputs,
            rounded up (Lee et al. 2021, App. A).
        deconv_channels: c of each layer; empty for two thirds, rounded up.
        bias_start: how b_t starts: "df-cnn", with outputs n, within sqrt(6 / (1 + n)) of zero; "lasem",
            within sqrt(6 / 2n).

    Raises:
        ConfigurationError: a number of channels below 1, or an unknown `bias_start`.

    Example:
        With c^ = 16 and c = 24, 3x3 convolutions of 3 to 32 share 2 * 2 * 16 = 64 numbers; each task holds
        3 * 3 * 16 * 24 of V, 24 of b_V, 24 * 3 * 32 of U and 32 of b: 5,816 in all.
    """

    kb_channels: tuple[int, ...] = ()
    deconv_channels: tuple[int, ...] = ()
    bias_start: BiasStart = "df-cnn"
    name: ClassVar[str] = "deconvolution"

    def __post_init__(self) -> None:
        lists = {"kb_channels": self.kb_channels, "deconv_channels": self.deconv_channels}
        check_options(self.name, self.bias_start, lists)

    @classmethod
    def authors(cls, network: str, bias_start: BiasStart = "df-cnn") -> "Deconvolution":
        """With the authors' channels for a network of theirs; `AUTHORS_SIZES` names them."""
        sizes = authors_sizes(cls.name, network)
        return cls(sizes.kb_channels, sizes.deconv_channels, bias_start)

    def check(self, layer: LayerShape) -> None:
        kb_sides(self.name, layer)
        self._channels(layer)

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        height, width = kb_sides(self.name, layer)
        kb, _ = self._channels(layer)
        shape, tf_shape = (kb, height, width), (1, height, width, kb)
        return glorot({"knowledge_base": (shape, tf_shape)}, ordinary["weight"].dtype, generator)

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        self.check(layer)
        kb, c = self._channels(layer)
        i, o = layer.inputs, layer.outputs
        starts: dict[str, Start] = {
            "deconvolution": ((kb, c, 3, 3), (3, 3, c, kb)),
            "deconvolution_bias": ((c,), (1, 1, 1, c)),
            "contraction": ((c, o, i), (c, i, o)),
        }
        if layer.bias:
            starts["bias"] = ((o,), bias_tf_shape(self.bias_start, o))
        return glorot(starts, ordinary["weight"].dtype, generator)

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        base, filters, bias = shared["knowledge_base"], own["deconvolution"], own["deconvolution_bias"]
        basis = deconvolve(base, filters, bias)  # [c, kh, kw]
        # The few pixels times the many channel pairs is the fast side of this product on a CPU.
        pixels = basis.flatten(1).t() @ own["contraction"].flatten(1)  # [kh * kw, o * i]
        return {"weight": as_weight(pixels, layer)} | ({"bias": own["bias"]} if layer.bias else {})

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """h^ * w^ * c^; and 9 * c^ * c + c + c * inputs * outputs, and the bias."""
        height, width = kb_sides(self.name, layer)
        kb, c = self._channels(layer)
        return height * width * kb, 9 * kb * c + c + c * layer.inputs * layer.outputs + layer.biases

    def _channels(self, layer: LayerShape) -> tuple[int, int]:
        """c^ and c."""
        both = layer.inputs + layer.outputs
        kb = of_layer(self.name, "kb_channels", self.kb_channels, layer, share_of(both, 1, 3))
        return kb, of_layer(self.name, "deconv_channels", self.deconv_channels, layer, share_of(both, 2, 3))
