from itertools import product

import pytest
import torch

from everlearn.errors import LayerError, UnknownNameError
from everlearn.networks.papers import CONV_NETS
from everlearn.sharing import AUTHORS_SIZES, RULES, LayerShape
from everlearn.sharing.deconvolving import authors_sizes, deconvolve, deconvolved_taps, kb_sides, share_of
from tests.sharing.loops import scattered

SIDES = [(2, 2), (3, 3), (4, 4), (6, 6), (2, 3)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_deconvolution_stamps_the_filter_at_every_pixel(height, width):
    base, filters, bias = draw(2, height, width), draw(2, 3, 3, 3, seed=1), draw(3, seed=2)
    result = deconvolve(base, filters, bias)
    assert result.shape == (3, 2 * height - 1, 2 * width - 1)
    torch.testing.assert_close(result, scattered(base, filters, bias))


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_deconvolution_is_the_adjoint_of_tensorflows_same_convolution(height, width):
    # <conv(x; V), L> = <x, deconv(L; V)> for every x; conv of stride 2 sees one zero beyond each border.
    base, filters, none = (
        draw(2, height, width),
        draw(2, 3, 3, 3, seed=1),
        torch.zeros(3, dtype=torch.float64),
    )
    sides = (2 * height - 1, 2 * width - 1)
    x = draw(3, *sides, seed=3)
    left = 0.0
    for a, r, s, c, p, q in product(range(2), range(height), range(width), range(3), range(3), range(3)):
        row, column = 2 * r + p - 1, 2 * s + q - 1
        if 0 <= row < sides[0] and 0 <= column < sides[1]:
            left += (x[c, row, column] * filters[a, c, p, q] * base[a, r, s]).item()
    assert left == pytest.approx((x * deconvolve(base, filters, none)).sum().item())


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_taps_times_filter_is_the_deconvolution(height, width):
    base, filters, none = (
        draw(2, height, width),
        draw(2, 3, 3, 3, seed=1),
        torch.zeros(3, dtype=torch.float64),
    )
    taps = deconvolved_taps(base)  # [2, 9, kh, kw]
    made = sum(
        taps[a, 3 * p + q] * filters[a, :, p, q, None, None] for a, p, q in product(range(2), range(3), range(3))
    )
    torch.testing.assert_close(made, scattered(base, filters, none))


@pytest.mark.parametrize(("kernel", "sides"), [(3, 2), (5, 3), (7, 4), (9, 5), (11, 6)])
def test_sides_of_the_knowledge_base(kernel, sides):
    assert kb_sides("deconvolution", LayerShape((kernel, kernel), 1, 1, bias=True)) == (sides, sides)
    assert kb_sides("deconvolution", LayerShape((3, kernel), 1, 1, bias=True)) == (2, sides)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (4, 4), (3, 1), (1, 3), (3, 4), (6, 5)])
def test_sides_that_no_deconvolution_has(kernel):
    words = f"sides 3, 5, 7, 9, 11 and so on, but layer 3, a {kernel[0]}x{kernel[1]} convolution"
    with pytest.raises(LayerError, match=words):
        kb_sides("deconvolution", LayerShape(kernel, 8, 16, bias=True, index=2))


def test_linear_layers_are_refused():
    with pytest.raises(
        LayerError, match=r"deconvolution\.tc2 makes .* but layer 1, a linear layer of 8 to 4, has none"
    ):
        kb_sides("deconvolution.tc2", LayerShape(None, 8, 4, bias=True))


def test_fractions_are_rounded_up():
    assert [share_of(35, 1, 3), share_of(35, 2, 3), share_of(36, 1, 3)] == [12, 24, 12]


@pytest.mark.parametrize(("rule", "network"), [(rule, net) for rule in AUTHORS_SIZES for net in AUTHORS_SIZES[rule]])
def test_published_sizes_fit_the_published_networks(rule, network):
    net = {"mnist-10": "mnist", "mnist-5": "mnist", "cifar10-reduced": "cifar-reduced"}.get(network, network)
    assert {len(sizes) for sizes in AUTHORS_SIZES[rule][network] if sizes} == {len(CONV_NETS[net].channels)}
    assert RULES[rule].authors(network).kb_channels == AUTHORS_SIZES[rule][network].kb_channels


def test_network_without_published_sizes():
    with pytest.raises(UnknownNameError, match="did you mean mnist-"):
        authors_sizes("deconvolution", "mnist")
    with pytest.raises(UnknownNameError, match=r"sizes for deconvolution\.tc2 named 'office-home'"):
        authors_sizes("deconvolution.tc2", "office-home")
