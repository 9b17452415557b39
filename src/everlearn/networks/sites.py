"""Where a rule's weights go: the layers inside a block, and how a learner's parameters are named.

A parameter's key inside a block is "layer path|name", with the dots that torch forbids in names written as "/".
What no rule makes has the path "=" and its whole name in the block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everlearn.errors import LayerError
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors

REST = "=|"
MADE = ("weight", "bias")
"""What a rule makes of a layer."""
NOTHING = torch.empty(0)


@dataclass(frozen=True)
class Site:
    """A layer inside a block.

    Attributes:
        path: the layer's name in the block; empty where the block is the layer.
        layer: its shape, and its position in the trunk.
    """

    path: str
    layer: LayerShape

    def prefixed(self, tensors: Tensors) -> Tensors:
        """The layer's tensors, by the names that the block gives them."""
        return {f"{self.path}.{name}" if self.path else name: tensor for name, tensor in tensors.items()}

    def pick(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """The layer's `weight` and `bias`, out of its block's tensors; what else it may hold is the block's."""
        found = {name.rpartition("."): tensor for name, tensor in tensors.items()}
        return {leaf: tensor for (path, _, leaf), tensor in found.items() if path == self.path and leaf in MADE}


@dataclass(frozen=True)
class Plan:
    """How one block's weights come about for one task.

    Attributes:
        made: for each layer that the rule makes, its shared and own parameters.
        ready: what is taken as it lies, by the names of the block.
    """

    made: list[tuple[Site, Tensors, Tensors]]
    ready: Tensors


def find_sites(blocks: Sequence[nn.Module]) -> list[list[Site]]:
    """The Conv2d and Linear layers of each block, numbered through the trunk.

    But for those whose weight comes from other parameters (weight or spectral normalisation).
    """
    found: list[list[Site]] = []
    index = 0
    for block in blocks:
        found.append([])
        for path, module in block.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and _has_weight(module):
                found[-1].append(Site(path, LayerShape.of(module, index)))
                index += 1
    return found


def _has_weight(layer: nn.Module) -> bool:
    return isinstance(layer._parameters.get("weight"), Tensor)


def check_blocks(
    blocks: Sequence[nn.Module], sites: Sequence[Sequence[Site]], rule: SharingRule, transfer: Sequence[bool]
) -> list[bool]:
    """Which blocks a rule can make.

    Args:
        blocks: of the trunk.
        sites: of each block.
        rule: that makes their layers' weights.
        transfer: which of the blocks some task may transfer.

    Raises:
        LayerError: it cannot make a block that may transfer.
    """
    able: list[bool] = []
    for block, places, may in zip(blocks, sites, transfer, strict=True):
        able.append(True)
        try:
            for site in places:
                rule.check(site.layer)
            _check_weights(block, rule)
        except LayerError:
            if may:
                raise
            able[-1] = False
    return able


def _check_weights(block: nn.Module, rule: SharingRule) -> None:
    """Refuse layers whose weight comes from other parameters, but for rules that take a layer as it is."""
    for path, layer in block.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not (_has_weight(layer) or rule.starts_as_given):
            raise LayerError(
                f"{rule.name} makes weights, but {path or 'a block'}, a {type(layer).__name__}, makes its own of other "
                "parameters (as weight and spectral normalisation do); take that away, or use another rule for it."
            )


def is_one_layer(block: nn.Module, sites: Sequence[Site]) -> bool:
    """Whether a block is one layer with a bias and without groups, and what has no numbers: it can be widened."""
    numbers = sum(parameter.numel() for parameter in block.parameters())
    if len(sites) != 1 or numbers != sites[0].layer.numbers or any(True for _ in block.buffers()):
        return False
    return sites[0].layer.bias and getattr(block.get_submodule(sites[0].path), "groups", 1) == 1


def safe(name: str) -> str:
    """A dotted name as torch allows it for a parameter."""
    return name.replace(".", "/")


def key_of(path: str, name: str) -> str:
    """The key of a layer's parameter."""
    return f"{safe(path)}|{name}"


def name_of(key: str) -> str:
    """The name in its block of what no rule makes, from its key."""
    return key.removeprefix(REST).replace("/", ".")


def under(path: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The parameters of one layer, out of those of its block by key."""
    start = key_of(path, "")
    return {key[len(start) :]: tensor for key, tensor in tensors.items() if key.startswith(start)}


def parameter_module(tensors: Mapping[str, Tensor]) -> nn.Module:
    """A module that holds tensors as parameters."""
    module = nn.Module()
    for key, tensor in tensors.items():
        # Plainly laid out, as a stored tensor comes back: another layout would sum in another order. `contiguous` would
        # leave the strides of sides of one as they are, which count as a layout.
        module.register_parameter(key, nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format)))
    return module


def buffer_module(tensors: Mapping[str, Tensor]) -> nn.Module:
    """A module that holds tensors that no gradient reaches."""
    module = nn.Module()
    for key, tensor in tensors.items():
        module.register_buffer(key, tensor)
    return module
