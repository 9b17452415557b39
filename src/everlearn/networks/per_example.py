"""Sums over examples of squared gradients: of each example's gradient, not of a batch's.

One pass forward and one backward of a whole batch give what went into each layer and the gradient of what came out,
and from these the gradient of its weight follows for every example (`layer_gradients`).

This holds for a parameter that is itself the weight in one call of such a layer, and used nowhere else. Every other
(one that a rule makes weights from, a layer that is called twice, a module unknown here) is found as exactly, but
slowly, by a pass for each example.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from everlearn.networks.layer_gradients import LAYERS, fits, keep, squares
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.sharing.rule import Tensors

Pull = Callable[[Tensor], Sequence[Tensor]]
"""From a batch's logits, `[b, classes]`, gradients at them, each of the same shape, one or more."""


@dataclass(frozen=True)
class _Call:
    """One call of a layer.

    Attributes:
        layer: which.
        tensors: those of its parameters that are sought, by the layer's names.
        kept: what the gradient of the weight is made with; see `keep`.
        version: of `kept`; another by now if something wrote over it.
        output: where the gradient of what came out is to be had, even if something wrote over that since.
    """

    layer: nn.Module
    tensors: Tensors
    kept: Tensor
    version: int
    output: GradientEdge


class SquaredGradients:
    """Sums of squared gradients over the examples of one task.

    Args:
        network: whose; in evaluation mode, and of its parameters those sought, and no other, require a gradient.
        task: position of the task.
        parameters: those sought, by name.

    Attributes:
        sums: what was added so far, by name; in float64, because thousands of batches may be added.
    """

    def __init__(self, network: LifelongNetwork, task: int, parameters: Mapping[str, nn.Parameter]) -> None:
        self._network, self._task, self._parameters = network, task, dict(parameters)
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._layered: set[str] | None = None
        self.sums: Tensors = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}

    def add(self, images: Tensor, pull: Pull) -> None:
        """Add, for each image, the squares of the gradients that `pull` asks for.

        Args:
            images: `[b, C, H, W]`.
            pull: what is pulled back from the logits; a row may depend on the logits of the same row alone.
        """
        if self._layered is None and len(images) > 1:
            self._layered = self._probe(images[:2])
        logits, calls, uses = self._run(images)
        pulled = pull(logits.detach())
        if calls:
            self._add_layers(logits, pulled, calls)
        done = {id(tensor) for call in calls for tensor in call.tensors.values()}
        left = [name for key, name in self._names.items() if uses[key] and key not in done]
        if left:
            self._add_one_by_one(images, pulled, left)

    def _logits(self, images: Tensor) -> Tensor:
        """Of a copy of the images, because a block may begin with writing over its input; laid out as in training."""
        return self._network(images.clone(memory_format=torch.channels_last), self._task)

    def _run(self, images: Tensor) -> tuple[Tensor, list[_Call], Counter[int]]:
        """Logits; the calls from which gradients follow; and how often each parameter was used, by its id."""
        calls: list[_Call] = []
        with self._noting(calls, len(images)):
            logits = self._logits(images)
        uses = _uses(logits)
        allowed = self._names if self._layered is None else {id(self._parameters[name]) for name in self._layered}
        return logits, _alone(calls, uses, allowed), uses

    def _probe(self, images: Tensor) -> set[str]:
        """The parameters whose layers have a row for each example, so that each example's gradient follows.

        The first side may count something else that happens to be as many as the examples (positions), and the network
        may let one example act on another (normalisation over the batch). Then what is pulled back from half of the
        examples reaches the rows of the others.
        """
        logits, calls, _ = self._run(images)
        if not calls:
            return set()
        gradient = torch.linspace(1, 2, logits.shape[1]).to(logits).repeat(len(logits), 1)
        half = len(logits) // 2
        gradient[half:] = 0
        found = torch.autograd.grad(logits, [call.output for call in calls], gradient)
        if any(bool(g[half:].any()) for g in found):
            return set()
        return {self._names[id(tensor)] for call in calls for tensor in call.tensors.values()}

    @contextmanager
    def _noting(self, calls: list[_Call], count: int) -> Iterator[None]:
        """Meanwhile calls of layers on so many examples are noted, if something that is sought is their weight."""

        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            tensors: Tensors = {name: t for name, t in layer.named_parameters() if id(t) in self._names}
            if tensors and len(inputs) == 1 and output.requires_grad and fits(layer, inputs[0], count):
                kept = keep(layer, inputs[0].detach())
                calls.append(_Call(layer, tensors, kept, kept._version, get_gradient_edge(output)))

        modules = [*self._network.templates, self._network.head(self._task)]
        layers = {layer for module in modules for layer in module.modules() if type(layer) in LAYERS}
        # Before other hooks, which may put something else in the place of what came out.
        hooks = [layer.register_forward_hook(note, prepend=True) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _add_layers(self, logits: Tensor, pulled: Sequence[Tensor], calls: Sequence[_Call]) -> None:
        outputs = [call.output for call in calls]
        for i, gradient in enumerate(pulled, start=1):
            found = torch.autograd.grad(logits, outputs, gradient, retain_graph=i < len(pulled))
            for call, g in zip(calls, found, strict=True):
                for name, tensor in call.tensors.items():
                    self.sums[self._names[id(tensor)]] += squares(call.layer, name, call.kept, g)

    def _add_one_by_one(self, images: Tensor, pulled: Sequence[Tensor], names: Sequence[str]) -> None:
        parameters = [self._parameters[name] for name in names]
        for n in range(len(images)):
            logits = self._logits(images[n : n + 1])
            for i, gradient in enumerate(pulled, start=1):
                row = gradient[n : n + 1]
                found = torch.autograd.grad(logits, parameters, row, retain_graph=i < len(pulled))
                for name, g in zip(names, found, strict=True):
                    self.sums[name] += g.square()


# ---------------------------------------------------------------- what the graph says


def _uses(logits: Tensor) -> Counter[int]:
    """How often the graph of the logits takes each parameter, by the parameter's id."""
    found: Counter[int] = Counter()
    seen, waiting = set[Any](), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            parameter = getattr(following, "variable", None)
            if parameter is not None:
                found[id(parameter)] += 1
            waiting.append(following)
    return found


def _alone(calls: Sequence[_Call], uses: Counter[int], allowed: Container[int]) -> list[_Call]:
    """The calls, each with those of its parameters that nothing else uses; without calls that have none.

    Args:
        calls: as they were noted.
        uses: how often the graph takes each parameter, by its id.
        allowed: ids of the parameters that may be found in this way.
    """
    times = Counter(id(tensor) for call in calls for tensor in call.tensors.values())
    found: list[_Call] = []
    for call in calls:
        tensors = {name: t for name, t in call.tensors.items() if id(t) in allowed and uses[id(t)] == times[id(t)] == 1}
        if tensors and call.kept._version == call.version:
            found.append(_Call(call.layer, tensors, call.kept, call.version, call.output))
    return found
