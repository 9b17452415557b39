from itertools import product

import pytest
import torch

from everlearn.errors import ConfigurationError, LayerError, UnknownNameError
from everlearn.sharing import Deconvolution, LayerShape
from everlearn.sharing.deconvolving import check_options
from tests.sharing.loops import CIFAR, conv_layers, largest, scattered, start

RULE = Deconvolution(kb_channels=(2,), deconv_channels=(4,))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (11, 11), (3, 5)])
def test_filters_are_deconvolved_then_contracted(kernel):
    layer = LayerShape(kernel, 2, 3, bias=True)
    shared, own = start(RULE, layer)
    weight = RULE.weights(layer, shared, own, 0)["weight"]
    D = scattered(shared["knowledge_base"], own["deconvolution"], own["deconvolution_bias"])
    U = own["contraction"].permute(0, 2, 1)  # the paper's [c, inputs, outputs]
    wanted = torch.zeros(3, 2, *kernel, dtype=torch.float64)
    for x, y, i, o in product(range(kernel[0]), range(kernel[1]), range(2), range(3)):
        wanted[o, i, x, y] = sum(D[c, x, y].item() * U[c, i, o].item() for c in range(4))
    torch.testing.assert_close(weight.contiguous(), wanted)


def test_bias_is_learned_directly():
    layer = LayerShape((3, 3), 2, 3, bias=True)
    shared, own = start(RULE, layer)
    assert torch.equal(RULE.weights(layer, shared, own, 0)["bias"], own["bias"])
    assert set(shared) == {"knowledge_base"}


def test_weight_lies_channels_last():
    layer = LayerShape((3, 3), 2, 3, bias=True)
    weight = RULE.weights(layer, *start(RULE, layer), 0)["weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


LIMITS = {
    "knowledge_base": (0.408, 0.340, 0.297, 0.281),
    "deconvolution": (0.129, 0.096, 0.083, 0.079),
    "deconvolution_bias": (0.490, 0.350, 0.304, 0.287),
    "contraction": (0.0845, 0.0442, 0.0312, 0.0255),
    "bias": (0.426, 0.426, 0.304, 0.304),
}
"""The authors' limits at the start, layer by layer of the CIFAR network."""


@pytest.mark.parametrize("index", range(4))
def test_starts_within_the_authors_limits(index):
    found = largest(Deconvolution.authors("cifar"), conv_layers(CIFAR, (3,) * 4)[index])
    wanted = {name: limits[index] for name, limits in LIMITS.items()}
    assert found == pytest.approx(wanted, rel=0.02)


def test_the_other_start_of_the_bias():
    rule = Deconvolution.authors("cifar", bias_start="lasem")
    found = [largest(rule, layer)["bias"] for layer in conv_layers(CIFAR, (3,) * 4)]
    assert found == pytest.approx([0.306, 0.306, 0.217, 0.217], rel=0.02)


def test_filters_start_with_the_authors_deviation():
    rule, deviations = Deconvolution.authors("cifar"), []
    for layer in conv_layers(CIFAR, (3,) * 4):
        weights = [rule.weights(layer, *start(rule, layer, seed, torch.float32), 0)["weight"] for seed in range(20)]
        deviations.append(torch.stack(weights).std().item())
    assert deviations == pytest.approx([0.067, 0.037, 0.027, 0.022], rel=0.06)


def test_published_counts_of_each_layer():
    layers = conv_layers(CIFAR, (3,) * 4)
    counts = [Deconvolution.authors("cifar").counts(layer) for layer in layers]
    assert [own for _, own in counts] == [5_816, 59_600, 149_632, 318_376]
    assert sum(shared for shared, _ in counts) == 432
    office = conv_layers(((3, 64), (64, 256), (256, 256), (256, 256)), (11, 5, 3, 3))
    counts = [Deconvolution.authors("office-home").counts(layer) for layer in office]
    assert [own for _, own in counts] == [19_696, 2_171_264, 8_462_720, 8_462_720]
    assert sum(shared for shared, _ in counts) == 1_952


def test_counts_of_a_kernel_that_is_not_square():
    # kb 2 * 3 * 2; V 9 * 2 * 4, b_V 4, U 4 * 2 * 3, b 3
    assert RULE.counts(LayerShape((3, 5), 2, 3, bias=True)) == (12, 72 + 4 + 24 + 3)
    assert RULE.counts(LayerShape((3, 5), 2, 3, bias=False)) == (12, 72 + 4 + 24)


def test_without_lists_one_third_and_two_thirds():
    shared, own = start(Deconvolution(), LayerShape((3, 3), 3, 32, bias=True))
    assert shared["knowledge_base"].shape == (12, 2, 2)  # 35 / 3 = 11.7
    assert own["deconvolution"].shape == (12, 24, 3, 3)  # 70 / 3 = 23.3
    assert own["contraction"].shape == (24, 32, 3)


def test_each_layer_has_its_entry():
    rule = Deconvolution(kb_channels=(2, 5), deconv_channels=(3, 7))
    shared, own = start(rule, LayerShape((3, 3), 2, 3, bias=True, index=1))
    assert shared["knowledge_base"].shape == (5, 2, 2)
    assert own["deconvolution"].shape == (5, 7, 3, 3)


@pytest.mark.parametrize(
    ("list_", "rule"),
    [
        ("kb_channels", Deconvolution(kb_channels=(2, 5))),
        ("deconv_channels", Deconvolution(deconv_channels=(2, 5))),
    ],
)
def test_a_list_that_is_too_short(list_, rule):
    layer = LayerShape((3, 3), 2, 3, bias=True, index=2)
    words = rf"{list_} for 2 layers, \[2, 5\], but the network has layer 3, a 3x3 convolution of 2 to 3"
    with pytest.raises(LayerError, match=words):
        rule.check(layer)


@pytest.mark.parametrize("layer", [LayerShape((4, 4), 2, 3, bias=True), LayerShape(None, 2, 3, bias=True)])
def test_layers_that_it_cannot_make_get_no_parameters(layer):
    for attempt in (lambda: RULE.check(layer), lambda: start(RULE, layer), lambda: RULE.counts(layer)):
        with pytest.raises(LayerError, match="layer 1"):
            attempt()


def test_hyper_parameters_out_of_range():
    with pytest.raises(ConfigurationError, match=r"deconv_channels of at least 1 each, but they came as \[4, 0\]"):
        Deconvolution(deconv_channels=(4, 0))
    with pytest.raises(UnknownNameError, match="did you mean lasem"):
        check_options("deconvolution", "lasen", {})  # the rule itself: the type checker of the tests is first
