"""One task's network as a plain module, which holds its own numbers."""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from everlearn.sharing.rule import Tensors


def assembled(
    blocks: Sequence[nn.Module], weights: Sequence[Tensors], head: nn.Module, device: torch.device
) -> nn.Sequential:
    """A plain module of blocks with these weights and a head, in evaluation mode; it shares no memory with them."""
    parts = {f"block{b + 1}": _filled(block, weights[b], device) for b, block in enumerate(blocks)}
    parts["head"] = _filled(head, {**dict(head.named_parameters()), **dict(head.named_buffers())}, device)
    plain = nn.Sequential(OrderedDict(parts))
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    return plain.eval()


def _filled(template: nn.Module, tensors: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """A copy of a module with copies of these parameters and buffers; layers say the sizes that they then have."""
    module = copy.deepcopy(template).to_empty(device=device)
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        owner, copied = module.get_submodule(path), tensor.detach().clone()
        setattr(owner, leaf, copied if leaf in owner._buffers else nn.Parameter(copied))
        if leaf == "weight" and isinstance(owner, nn.Linear):
            owner.out_features, owner.in_features = tensor.shape
        elif leaf == "weight" and isinstance(owner, nn.Conv2d):
            owner.out_channels, owner.in_channels = tensor.shape[0], tensor.shape[1] * owner.groups
    return module
