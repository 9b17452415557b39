"""Layers of kinds of their own in a trunk: what else they hold, where their weight comes from, what they overwrite."""

import pytest
import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, LayerError
from everlearn.methods.apd import ApdNet
from everlearn.methods.base import Method
from everlearn.methods.catalogue import make_method
from everlearn.methods.darts import Darts
from everlearn.methods.lwf import Lwf
from everlearn.methods.progressive import ProgressiveNet
from everlearn.methods.static import StaticTransfer
from everlearn.networks.backbone import Backbone
from everlearn.sharing.additive import Additive
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.sharing.own import Own
from tests.methods.family import begun, learned


class Masked(nn.Conv2d):
    """A convolution whose filters see a row less, and whose outputs have a gain."""

    mask: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__(1, 4, 3, padding=1)
        mask = torch.ones_like(self.weight)
        mask[:, :, 1:] = 0
        self.register_buffer("mask", mask)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.gain = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight * self.mask, self.bias) * self.gain


def after(first: nn.Module) -> Backbone:
    """A trunk of one block that begins with this layer."""
    return Backbone.of([nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2))], 64)


@pytest.mark.parametrize(
    "method", [StaticTransfer(Hard()), StaticTransfer(Own()), StaticTransfer(Additive()), ApdNet()]
)
def test_what_else_a_layer_holds_is_the_blocks(method: Method) -> None:
    plan, state = begun(method, backbone=after(Masked()))
    learned(plan, state)
    network = state.network
    weights = network.weights(0, 0)
    assert torch.equal(weights["0.mask"], Masked().mask), "a buffer is not trained"
    assert not any(name.endswith(("mask", "seen")) and "shared" in name for name, _ in network.named_parameters())
    gains = [parameter for name, parameter in network.named_parameters() if name.endswith("gain")]
    assert len(gains) == (1 if network.rule.shares_the_rest else len(network.tasks)), "each is held once"
    assert not torch.equal(weights["0.gain"], torch.ones(4, 1, 1)), "and is what is trained"


@pytest.mark.parametrize("normalise", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_weight_that_comes_from_others_is_taken_as_it_is_or_refused(normalise) -> None:  # type: ignore[no-untyped-def]
    backbone = after(normalise(nn.Conv2d(1, 4, 3, padding=1)))
    for rule in (Hard(), Own()):
        plan, state = begun(StaticTransfer(rule), backbone=backbone)
        before = {name: p.clone() for name, p in state.network.named_parameters()}
        learned(plan, state)
        moved = [
            name for name, p in state.network.named_parameters() if name not in before or (p != before[name]).any()
        ]
        assert any("original" in name for name in moved)
    with pytest.raises(LayerError, match="makes its own of other parameters"):
        StaticTransfer(Factors()).network(backbone, 3, 0)


def test_a_block_that_does_not_transfer_need_not_suit_the_rule() -> None:
    blocks = [nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    backbone = Backbone.of(blocks, 256)
    for name in ("df-cnn", "df-cnn@bottom-1", "df-cnn@top-1/top-1/all", "lasem-df-cnn"):
        with pytest.raises(LayerError, match="1x1 convolution"):
            make_method(name, "mine", 3, {}).network(backbone, 3, 0)
    plan, state = begun(make_method("df-cnn@top-1", "mine", 3, {}), backbone=backbone)
    learned(plan, state)
    assert state.network.configurations == [(False, True)] * 3


def test_a_parameter_in_two_places_is_refused() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    for blocks in ([nn.Sequential(nn.Flatten(), first, second)], [first, second]):
        with pytest.raises(
            ConfigurationError, match=r"one parameter twice, in block 1: .*weight and block . *.*weight"
        ):
            Backbone.of(blocks, 4)


@pytest.mark.parametrize(
    "method", [Darts(Hard()), Lwf(configuration="bottom-1"), ProgressiveNet(scale=1.0), StaticTransfer(Hard())]
)
def test_blocks_may_begin_in_place(method: Method) -> None:
    def backbone(inplace: bool) -> Backbone:
        def act() -> nn.Module:
            return nn.LeakyReLU(0.1, inplace=inplace)

        blocks = [
            nn.Sequential(act(), nn.Conv2d(1, 4, 3, padding=1)),
            nn.Sequential(act(), nn.Conv2d(4, 4, 3, padding=1)),
            nn.Sequential(act(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        ]
        return Backbone.of(blocks, 64)

    found = []
    for inplace in (False, True):
        plan, state = begun(method, backbone=backbone(inplace))
        pixels = [split.take(slice(None)) for task in plan.data.tasks for split in task.values()]
        found.append([event.loss for event in learned(plan, state)])
        now = [split.take(slice(None)) for task in plan.data.tasks for split in task.values()]
        assert all(map(torch.equal, pixels, now)), "images stay as they are"
    assert found[0] == found[1]
