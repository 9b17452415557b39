"""On a GPU, gradients of convolutions' weights are computed beside what the rest of a backward pass waits for.

A small network's kernel leaves most of a GPU idle, and nothing waits for the gradient of a weight but the optimiser.
So it goes to a second stream, while the first goes on with the gradient of the layer's input.

Two details on which this rests. Memory that the second stream reads is held until both meet: what the first frees it
may fill again at once. And PyTorch takes a gradient over as it is, without a kernel, where it is the only one of a
parameter that is itself a convolution's weight and goes into nothing else; of all others (weights that are computed,
used twice, or held small by a term of the loss) the gradient is waited for at once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FORWARD, BACKWARD = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default
OF_IMAGES, OF_WEIGHT = (True, False, False), (False, True, False)

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Where a tensor lies in memory, and how."""


class Beside(TorchDispatchMode):
    """In here a step's backward passes on a GPU use two streams.

    Args:
        device: a GPU.
        parameters: what moves.
    """

    def __init__(self, device: torch.device, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self._device, self._second = device, torch.cuda.Stream(device)
        self._parameters = list(parameters)
        self._places: set[Place] = set()
        self._uses: Counter[Place] = Counter()
        self._biases: dict[Place, Place | None] = {}
        self._held: list[Tensor] = []

    def __enter__(self) -> "Beside":
        # Asked for in each step, since an optimiser may have laid them elsewhere.
        self._places = {_place(parameter) for parameter in self._parameters}
        self._uses.clear()
        self._biases.clear()
        super().__enter__()
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._uses.update(_place(one) for one in tree_leaves(args) if isinstance(one, Tensor))
        if func is FORWARD:
            weight, bias = args[1:3]
            self._biases[_place(weight)] = None if bias is None else _place(bias)
        if func is BACKWARD and all(args[-1][:2]):
            return self._apart(args[:-1], args[-1])
        return func(*args, **(kwargs or {}))

    def meet(self) -> None:
        """Wait for the second stream, where it has been used; to be called after each backward pass."""
        if not self._held:  # while a step is recorded, a stream that has no part in it cannot be waited for
            return
        torch.cuda.current_stream(self._device).wait_stream(self._second)
        self._held.clear()

    def _alone(self, weight: Tensor) -> bool:
        """Whether the gradients of a weight and its bias are taken over as they are.

        So far a weight alone has gone into its convolution and, as an argument, into the backward pass of that.
        """
        place = _place(weight)
        bias = self._biases.get(place)
        lonely = place in self._places and self._uses[place] == 2
        return lonely and (bias is None or (bias in self._places and self._uses[bias] == 1))

    def _apart(self, asked: tuple[Any, ...], wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor | None]:
        gradient, images, weight = asked[:3]
        self._second.wait_stream(torch.cuda.current_stream(self._device))
        self._held += [gradient, images]
        with torch.cuda.stream(self._second):
            of_weight, of_bias = self._of_parameters(asked, biased=wanted[2])
        of_images = BACKWARD(*asked, OF_IMAGES)[0]
        if not self._alone(weight) or of_weight.stride() != weight.stride():
            self.meet()
        return of_images, of_weight, of_bias

    def _of_parameters(self, asked: tuple[Any, ...], biased: bool) -> tuple[Tensor, Tensor | None]:
        of_weight = BACKWARD(*asked, OF_WEIGHT)[1]
        # In two steps: within each map, where numbers lie side by side, and then over images.
        return of_weight, asked[0].flatten(2).sum(2).sum(0) if biased else None


def _place(tensor: Tensor) -> Place:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
