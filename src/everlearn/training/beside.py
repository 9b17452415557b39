"""On a GPU, gradients of convolutions' weights are computed beside what the rest of a backward pass waits for.

A small network's kernel leaves most of a GPU idle, and as a rule nothing waits for the gradient of a weight but the
optimiser. So it goes to a second stream, while the first goes on with the gradient of the layer's input. The two meet
at the end of the pass, or at once when anything reads such a gradient: where a weight is computed from others, or used
twice, or held small by a term of the loss, or where somebody looks at gradients himself.

Memory that the second stream reads is held until both meet, since what the first frees it may fill again at once.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BACKWARD = torch.ops.aten.convolution_backward.default
DETACH = torch.ops.aten.detach.default
"""What PyTorch does when it takes a gradient over as it is; it reads no number."""
OF_IMAGES, OF_WEIGHT = (True, False, False), (False, True, False)


class Beside(TorchDispatchMode):
    """In here a step's backward passes on a GPU use two streams.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device, self._second = device, torch.cuda.Stream(device)
        self._held: list[Tensor] = []
        self._pending: set[int] = set()

    def __enter__(self) -> "Beside":
        self._held.clear()  # of a step that failed
        self._pending.clear()
        super().__enter__()
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._pending and func is not DETACH and self._reads((args, kwargs)):
            self.meet()
        if func is BACKWARD and all(args[-1][:2]):
            return self._apart(args[:-1], args[-1])
        return func(*args, **(kwargs or {}))

    def meet(self) -> None:
        """Wait for the second stream, where it has been used; to be called after each backward pass."""
        if not self._held:  # while a step is recorded, a stream that has no part in it cannot be waited for
            return
        torch.cuda.current_stream(self._device).wait_stream(self._second)
        self._held.clear()
        self._pending.clear()

    def _reads(self, asked: Any) -> bool:
        """Whether what is asked for reads a gradient that the second stream is yet to give."""
        return any(_memory(one) in self._pending for one in tree_leaves(asked) if isinstance(one, Tensor))

    def _apart(self, asked: tuple[Any, ...], wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor | None]:
        self._second.wait_stream(torch.cuda.current_stream(self._device))
        self._held += asked[:3]
        with torch.cuda.stream(self._second):
            of_weight, of_bias = self._of_parameters(asked, biased=wanted[2])
        self._pending |= {_memory(one) for one in (of_weight, of_bias) if one is not None}
        return BACKWARD(*asked, OF_IMAGES)[0], of_weight, of_bias

    def _of_parameters(self, asked: tuple[Any, ...], biased: bool) -> tuple[Tensor, Tensor | None]:
        of_weight, gradient = BACKWARD(*asked, OF_WEIGHT)[1], asked[0]
        if not biased:
            return of_weight, None
        # In two steps: within each map, where numbers lie side by side, and then over images.
        maps = gradient.flatten(2).sum(2, dtype=torch.promote_types(gradient.dtype, torch.float32))
        return of_weight, maps.sum(0).to(gradient.dtype)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
