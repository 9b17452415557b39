from itertools import product

import pytest
import torch

from everlearn.errors import ConfigurationError, LayerError
from everlearn.sharing import AUTHORS_SIZES, DeconvolutionTC2, LayerShape
from tests.sharing.loops import CIFAR, conv_layers, largest, scattered, start

RULE = DeconvolutionTC2(kb_slices=(2,), kb_channels=(3,), deconv_channels=(4,))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (11, 11), (5, 3)])
def test_filters_are_deconvolved_then_contracted_twice(kernel):
    inputs, outputs = 3, 5
    layer = LayerShape(kernel, inputs, outputs, bias=True)
    shared, own = start(RULE, layer)
    weight = RULE.weights(layer, shared, own, 0)["weight"]
    L, V, b = shared["knowledge_base"], own["deconvolution"], own["deconvolution_bias"]
    D = [scattered(L[s], V, b).tolist() for s in range(2)]
    U1, U2 = own["contraction_inputs"].tolist(), own["contraction_outputs"].tolist()
    wanted = torch.zeros(outputs, inputs, *kernel, dtype=torch.float64)
    for x, y, i, o in product(range(kernel[0]), range(kernel[1]), range(inputs), range(outputs)):
        wanted[o, i, x, y] = sum(D[s][d][x][y] * U1[s][i] * U2[d][o] for s, d in product(range(2), range(4)))
    torch.testing.assert_close(weight.contiguous(), wanted)


def test_bias_is_learned_directly():
    layer = LayerShape((3, 3), 3, 5, bias=True)
    shared, own = start(RULE, layer)
    assert torch.equal(RULE.weights(layer, shared, own, 0)["bias"], own["bias"])
    assert set(shared) == {"knowledge_base"}


def test_weight_lies_channels_last():
    layer = LayerShape((3, 3), 3, 5, bias=True)
    weight = RULE.weights(layer, *start(RULE, layer), 0)["weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("bias_start", "bias"), [("df-cnn", (6 / 33) ** 0.5), ("lasem", (6 / 64) ** 0.5)])
def test_starts_within_tensorflows_limits(bias_start, bias):
    wanted = {
        "knowledge_base": (6 / (4 * 2 + 4 * 12)) ** 0.5,  # [2, 2, 2, 12]: the slices count
        "deconvolution": (6 / (9 * 24 + 9 * 12)) ** 0.5,  # [3, 3, 24, 12]
        "deconvolution_bias": (6 / 25) ** 0.5,  # [1, 1, 1, 24]
        "contraction_inputs": (6 / (2 + 3)) ** 0.5,
        "contraction_outputs": (6 / (24 + 32)) ** 0.5,
        "bias": bias,
    }
    rule = DeconvolutionTC2.authors("cifar", bias_start)
    assert largest(rule, conv_layers(CIFAR, (3,) * 4)[0]) == pytest.approx(wanted, rel=0.02)


def test_published_counts():
    counts = [DeconvolutionTC2.authors("cifar").counts(layer) for layer in conv_layers(CIFAR, (3,) * 4)]
    # Layer 1: V 9 * 12 * 24, b_V 24, U_1 2 * 3, U_2 24 * 32, b 32
    assert counts[0] == (2 * 2 * 2 * 12, 2592 + 24 + 6 + 768 + 32)
    assert tuple(map(sum, zip(*counts, strict=True))) == (4_128, 36_246)


def test_counts_of_a_kernel_that_is_not_square():
    # kb 2 * 2 * 3 * 3; V 9 * 3 * 4, b_V 4, U_1 2 * 3, U_2 4 * 5, b 5
    assert RULE.counts(LayerShape((3, 5), 3, 5, bias=True)) == (36, 108 + 4 + 6 + 20 + 5)


def test_without_lists_the_proportions_of_the_cifar_lists():
    wanted = [DeconvolutionTC2.authors("cifar").counts(layer) for layer in conv_layers(CIFAR, (3,) * 4)]
    assert [DeconvolutionTC2().counts(layer) for layer in conv_layers(CIFAR, (3,) * 4)] == wanted
    assert AUTHORS_SIZES["deconvolution.tc2"]["cifar"].kb_slices == (2, 12, 12, 24)


def test_layers_that_it_cannot_make():
    with pytest.raises(LayerError, match=r"deconvolution\.tc2 makes filters of the odd sides"):
        RULE.check(LayerShape((1, 1), 2, 3, bias=True))
    with pytest.raises(LayerError, match="kb_slices for 1 layers"):
        RULE.check(LayerShape((3, 3), 2, 3, bias=True, index=1))
    with pytest.raises(ConfigurationError, match="kb_slices of at least 1"):
        DeconvolutionTC2(kb_slices=(0,))
