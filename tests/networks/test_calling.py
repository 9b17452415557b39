"""A module called with given tensors is what `functional_call` makes of it, and stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from everlearn.networks.calling import Caller


class Bare(nn.Module):
    """A layer and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.scale


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: torch.rand(t.shape, generator=random) if t.is_floating_point() else t.clone() for name, t in found.items()
    }


MODULES = [
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1, bias=False))),
    nn.Linear(3, 2),
    Bare(),
]
INPUTS = [torch.rand(2, 1, 5, 5), torch.rand(2, 3), torch.rand(2, 3)]


@pytest.mark.parametrize("which", range(3))
def test_it_is_a_functional_call(which: int) -> None:
    module, image = MODULES[which], INPUTS[which]
    bare = copy.deepcopy(module).to("meta")
    ours, theirs = tensors_of(module), tensors_of(module)
    found, wanted = Caller(bare)(ours, image), functional_call(copy.deepcopy(module), theirs, (image,))
    assert torch.equal(found, wanted)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "running statistics moved alike"
    assert all(t.is_meta for t in (*bare.parameters(), *bare.buffers())), "the module holds what it held"


def test_gradients_reach_the_tensors() -> None:
    layer = nn.Linear(3, 2).to("meta")
    weights = {name: nn.Parameter(torch.rand(p.shape)) for name, p in layer.named_parameters()}
    Caller(layer)(weights, torch.ones(1, 3)).sum().backward()
    assert torch.equal(weights["weight"].grad, torch.ones(2, 3))  # type: ignore[arg-type]


def test_an_error_leaves_the_module_as_it_was() -> None:
    layer = nn.Linear(3, 2).to("meta")
    before = list(layer.parameters())
    call = Caller(layer)
    with pytest.raises(RuntimeError):
        call(tensors_of(layer), torch.ones(1, 4))
    with pytest.raises(KeyError):
        call({"other": torch.ones(2)}, torch.ones(1, 3))
    assert all(now is then for now, then in zip(layer.parameters(), before, strict=True))


def test_a_copy_calls_its_own_module() -> None:
    call = Caller(nn.Sequential(nn.Linear(3, 2)))
    other = copy.deepcopy(call)
    weights = {"0.weight": torch.zeros(2, 3), "0.bias": torch.ones(2)}
    assert torch.equal(other(weights, torch.ones(1, 3)), torch.ones(1, 2))
    assert all(a is not b for a, b in zip(call._module.parameters(), other._module.parameters(), strict=True))
