"""Sharing rules: where a layer's weights come from, one file each."""

from everlearn.sharing.additive import Additive
from everlearn.sharing.deconvolution import Deconvolution
from everlearn.sharing.deconvolution_direct import DeconvolutionDirect
from everlearn.sharing.deconvolution_tc2 import DeconvolutionTC2
from everlearn.sharing.deconvolving import AUTHORS_SIZES
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.sharing.own import Own
from everlearn.sharing.rule import LayerShape, SharingRule
from everlearn.sharing.tucker import Tucker

__all__ = [
    "AUTHORS_SIZES",
    "RULES",
    "Additive",
    "Deconvolution",
    "DeconvolutionDirect",
    "DeconvolutionTC2",
    "Factors",
    "Hard",
    "LayerShape",
    "Own",
    "SharingRule",
    "Tucker",
]

RULES: dict[str, type[SharingRule]] = {
    "own": Own,
    "hard": Hard,
    "tucker": Tucker,
    "factors": Factors,
    "deconvolution": Deconvolution,
    "deconvolution.direct": DeconvolutionDirect,
    "deconvolution.tc2": DeconvolutionTC2,
    "additive": Additive,
}
"""Every sharing rule by name."""
