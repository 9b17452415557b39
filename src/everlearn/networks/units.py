"""Units of a network's layers: which inputs they are, and how all hidden layers come to be a trunk's."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from everlearn.networks.backbone import Backbone


def which(mask: Tensor) -> tuple[int, ...]:
    """The places at which a row of truth values, or of numbers, is not zero."""
    return tuple(mask.nonzero().flatten().tolist())


def whole(numbers: Tensor) -> tuple[int, ...]:
    """A row of whole numbers."""
    return tuple(int(number) for number in numbers.tolist())


def expanded(units: Sequence[int], each: int) -> Tensor:
    """The inputs that units below are, where each is `each` inputs side by side; int64."""
    places = torch.tensor(units, dtype=torch.int64)
    return (places[:, None] * each + torch.arange(each)).flatten()


def narrowed(weight: Tensor, columns: int) -> Tensor:
    """The first columns of a weight, or the weight with columns of zeros after its last."""
    if columns <= weight.shape[1]:
        return weight[:, :columns]
    return torch.cat([weight, weight.new_zeros(len(weight), columns - weight.shape[1])], 1)


def layers_of(module: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The linear layers and convolutions of a module, in order."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def with_shared_hidden_layers(backbone: Backbone) -> Backbone:
    """The backbone with the hidden layers of its heads as blocks of the trunk; a head is then what is left.

    A head that is no `nn.Sequential` of layers, or has none but the last, is left as it is.
    """
    with torch.random.fork_rng(devices=[]):
        probe = backbone.head(2)
    children = list(probe.named_children()) if isinstance(probe, nn.Sequential) else []
    places = [place for place, (_, child) in enumerate(children) if isinstance(child, nn.Linear)]
    if len(places) < 2 or len(places) != len(layers_of(probe)):
        return backbone
    blocks: list[nn.Module] = []
    begin = 0
    for place, following in itertools.pairwise(places):
        # What is done to a layer's outputs belongs to it; dropout and flattening to the layer that takes them.
        end = place + 1
        while end < following and not isinstance(children[end][1], nn.Dropout | nn.Flatten):
            end += 1
        blocks.append(nn.Sequential(OrderedDict(children[begin:end])))
        begin = end

    def head(classes: int) -> nn.Module:
        made = backbone.head(classes)
        return nn.Sequential(OrderedDict(list(made.named_children())[begin:]))

    return replace(backbone, blocks=(*backbone.blocks, *blocks), head=head)
