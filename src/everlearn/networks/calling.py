"""A module called with tensors that it does not hold.

What `torch.func.functional_call` does, but for finding each tensor's place in the module at each call: for a small
block that takes longer than all else that is done around its arithmetic. Places are found once here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def starts_in_place(module: nn.Module) -> bool:
    """Whether the first thing that a module does overwrites its input, as an activation may."""
    first = next((part for part in module.modules() if not any(True for _ in part.children())), module)
    return bool(getattr(first, "inplace", False))


class Caller:
    """Calls a module with given tensors in place of its parameters and buffers.

    Args:
        module: whose structure stays as it is. A tensor that it holds in two places has a name for each.
        spares: its input is wanted afterwards: a module that would overwrite it at once gets a copy.
    """

    def __init__(self, module: nn.Module, spares: bool = True) -> None:
        self._module = module
        self._places: dict[str, tuple[dict[str, Any], str]] = {
            f"{path}.{leaf}" if path else leaf: (holder, leaf)
            for path, part in module.named_modules()
            for holder in (part._parameters, part._buffers)
            for leaf in holder
        }
        self._copies = spares and starts_in_place(module)

    def __call__(self, tensors: Mapping[str, Tensor], *inputs: Any) -> Any:
        """The module's output; afterwards it holds what it held before.

        Raises:
            KeyError: a name that the module does not have.
        """
        places = [self._places[name] for name in tensors]
        before = [holder[leaf] for holder, leaf in places]
        try:
            for (holder, leaf), tensor in zip(places, tensors.values(), strict=True):
                holder[leaf] = tensor
            return self._module(*(map(torch.clone, inputs) if self._copies else inputs))
        finally:
            for (holder, leaf), held in zip(places, before, strict=True):
                holder[leaf] = held
