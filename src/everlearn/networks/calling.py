"""A module called with tensors that it does not hold.

What `torch.func.functional_call` does, but for finding each tensor's place in the module at each call: for a small
block that takes longer than all else that is done around its arithmetic. Places are found once here.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Caller:
    """Calls a module with given tensors in place of its parameters and buffers.

    Args:
        module: whose structure stays as it is. A tensor that it holds in two places has a name for each.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._places: dict[str, tuple[dict[str, Any], str]] = {
            f"{path}.{leaf}" if path else leaf: (holder, leaf)
            for path, part in module.named_modules()
            for holder in (part._parameters, part._buffers)
            for leaf in holder
        }

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
            return self._module(*inputs)
        finally:
            for (holder, leaf), held in zip(places, before, strict=True):
                holder[leaf] = held
