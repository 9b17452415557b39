import dataclasses

import pytest
import torch
from torch import nn

from everlearn import sharing
from everlearn.errors import LayerError
from everlearn.sharing import RULES, LayerShape, SharingRule, Tucker
from everlearn.testing import check_rule

MADE: dict[str, SharingRule] = {name: Tucker(tasks=3) if rule is Tucker else rule() for name, rule in RULES.items()}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_conforms(name):
    check_rule(MADE[name])


def test_rules_go_by_their_names():
    assert {name: rule.name for name, rule in RULES.items()} == {name: name for name in RULES}
    assert set(RULES) == {
        "additive", "own", "hard", "tucker", "factors", "deconvolution", "deconvolution.direct", "deconvolution.tc2",
    }  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_every_hyper_parameter_is_explained(name):
    for field in dataclasses.fields(RULES[name]):
        assert f"        {field.name}: " in (RULES[name].__doc__ or "")


def test_public_names():
    rules = {rule.__name__ for rule in RULES.values()}
    assert set(sharing.__all__) == rules | {"AUTHORS_SIZES", "RULES", "LayerShape", "SharingRule"}
    assert all(hasattr(sharing, name) for name in sharing.__all__)


@pytest.mark.parametrize("bias", [True, False])
def test_shape_of_a_module(bias):
    conv = nn.Conv2d(4, 6, (3, 5), groups=2, bias=bias)
    assert LayerShape.of(conv, 2) == LayerShape((3, 5), 2, 6, bias, 2)  # inputs per group
    assert LayerShape.of(conv).weight_shape == tuple(conv.weight.shape)
    linear = nn.Linear(4, 6, bias=bias)
    assert LayerShape.of(linear) == LayerShape(None, 4, 6, bias)
    assert LayerShape.of(linear).weight_shape == tuple(linear.weight.shape)


def test_shape_of_another_module():
    with pytest.raises(LayerError, match="not of BatchNorm2d"):
        LayerShape.of(nn.BatchNorm2d(3))


def test_made_weights_train_a_layer():
    # One step down the gradient, through the weights of each rule, lowers the loss of a convolution.
    layer = LayerShape((3, 3), 2, 4, bias=True)
    random = torch.Generator().manual_seed(0)
    images = torch.randn(5, 2, 8, 8, generator=random)
    for rule in MADE.values():
        ordinary = {"weight": torch.randn(layer.weight_shape, generator=random), "bias": torch.zeros(4)}
        shared = rule.shared(layer, ordinary, random)
        own = rule.own(layer, ordinary, random)
        parameters = [tensor.requires_grad_() for tensor in [*shared.values(), *own.values()]]

        def loss(rule=rule, shared=shared, own=own) -> torch.Tensor:
            made = rule.weights(layer, shared, own, 0)
            return (nn.functional.conv2d(images, made["weight"], made["bias"], padding=1) - 1).square().mean()

        before = loss()
        before.backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter -= 1e-3 * parameter.grad
        assert loss().item() < before.item()
