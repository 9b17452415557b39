"""The papers' network for CIFAR-100 without its dropout."""

from dataclasses import replace

from everlearn.networks.backbone import Backbone
from everlearn.networks.papers import CONV_NETS, conv_net


def network(image_shape: tuple[int, int, int]) -> Backbone:
    """The network `cifar` as Lee et al. 2019 describe it for CIFAR-10, but nothing is dropped."""
    return conv_net("cifar", replace(CONV_NETS["cifar"], dropout=0.0), image_shape)
