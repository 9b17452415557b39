from itertools import product

import pytest
import torch

from everlearn.errors import ConfigurationError, LayerError
from everlearn.sharing import DeconvolutionDirect, LayerShape
from tests.sharing.loops import CIFAR, conv_layers, largest, scattered, start

RULE = DeconvolutionDirect(kb_channels=(2,))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (11, 11), (5, 3)])
def test_filters_are_the_deconvolution_reshaped(kernel):
    inputs, outputs = 2, 3
    layer = LayerShape(kernel, inputs, outputs, bias=True)
    shared, own = start(RULE, layer)
    weight = RULE.weights(layer, shared, own, 0)["weight"]
    # The paper's channel of (i, o) is i * outputs + o, ours o * inputs + i; number them as the paper does.
    ours = [o * inputs + i for i in range(inputs) for o in range(outputs)]
    V = own["deconvolution"].permute(0, 3, 1, 2)[:, ours]  # [c^, inputs * outputs, 3, 3]
    D = scattered(shared["knowledge_base"], V, own["deconvolution_bias"][ours])
    wanted = torch.zeros(outputs, inputs, *kernel, dtype=torch.float64)
    for x, y, i, o in product(range(kernel[0]), range(kernel[1]), range(inputs), range(outputs)):
        wanted[o, i, x, y] = D[i * outputs + o, x, y]
    torch.testing.assert_close(weight.contiguous(), wanted)


def test_bias_is_learned_directly():
    layer = LayerShape((3, 3), 2, 3, bias=True)
    shared, own = start(RULE, layer)
    assert torch.equal(RULE.weights(layer, shared, own, 0)["bias"], own["bias"])
    assert set(shared) == {"knowledge_base"}


@pytest.mark.parametrize(("bias_start", "bias"), [("df-cnn", (6 / 33) ** 0.5), ("lasem", (6 / 64) ** 0.5)])
def test_starts_within_tensorflows_limits(bias_start, bias):
    wanted = {
        "knowledge_base": (6 / (2 * 2 + 2 * 24)) ** 0.5,  # [1, 2, 2, 24]
        "deconvolution": (6 / (9 * 96 + 9 * 24)) ** 0.5,  # [3, 3, 96, 24]
        "deconvolution_bias": (6 / 97) ** 0.5,  # [1, 1, 1, 96]
        "bias": bias,
    }
    rule = DeconvolutionDirect.authors("cifar", bias_start)
    assert largest(rule, conv_layers(CIFAR, (3,) * 4)[0]) == pytest.approx(wanted, rel=0.02)


def test_counts_by_hand():
    # kb 2 * 3 * 2; V 9 * 2 * 6, b_V 6, b 3
    assert RULE.counts(LayerShape((3, 5), 2, 3, bias=True)) == (12, 108 + 6 + 3)


def test_without_a_list_two_thirds():
    shared, own = start(DeconvolutionDirect(), LayerShape((3, 3), 3, 32, bias=True))
    assert shared["knowledge_base"].shape == (24, 2, 2)  # 70 / 3 = 23.3, the authors' 24
    assert own["deconvolution"].shape == (24, 3, 3, 96)


def test_layers_that_it_cannot_make():
    with pytest.raises(LayerError, match=r"deconvolution\.direct makes filters of the odd sides"):
        RULE.check(LayerShape((2, 2), 2, 3, bias=True))
    with pytest.raises(LayerError, match="kb_channels for 1 layers"):
        RULE.check(LayerShape((3, 3), 2, 3, bias=True, index=1))
    with pytest.raises(ConfigurationError, match="kb_channels of at least 1"):
        DeconvolutionDirect(kb_channels=(0,))
