"""A backbone: a sequence of blocks that tasks may share, and a head that each task has for itself.

A block is any `nn.Module`; the images go through the blocks in order, then through the task's head. Sharing is
decided block by block, so how finely a network is cut into blocks is how finely its layers can be transferred.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.sharing.initialisers import truncated_normal

Start = Literal["papers", "module", "given"]


@dataclass(frozen=True)
class TrainedTask:
    """A task that a trained network comes with.

    Attributes:
        name: of the task.
        classes: their names, in the order of the head's outputs.
        head: gives the logits, from what the trunk gives; with its numbers.
        multi_label: whether an image may be of several classes.
    """

    name: str
    classes: tuple[str, ...]
    head: nn.Module
    multi_label: bool = False


@dataclass(frozen=True)
class Backbone:
    """The structure of every task's network.

    Attributes:
        name: how it is recorded.
        blocks: the trunk, in order.
        head: makes the head of a task with that many classes.
        start: where the ordinary weights of a task's layers start. `papers`: truncated normal of deviation 0.05,
            biases 0.2 (Lee et al., authors' code). `module`: each module's own `reset_parameters`. `given`: the
            values that the blocks came with, as for a network that somebody trained.
        trained: the tasks that such a network knows already; they come before all others.

    Example:
        >>> trunk = [nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))]
        >>> backbone = Backbone("mine", tuple(trunk), head=lambda classes: nn.Sequential(
        ...     nn.Flatten(), nn.Linear(8 * 4 * 4, classes)), start="module")
    """

    name: str
    blocks: tuple[nn.Module, ...]
    head: Callable[[int], nn.Module]
    start: Start = "papers"
    trained: tuple[TrainedTask, ...] = ()

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ConfigurationError(f"backbone {self.name!r} has no blocks; it needs at least one.")
        if twice := _held_twice(self.blocks):
            raise ConfigurationError(
                f"backbone {self.name!r} holds one parameter twice, in {twice[0]} and {twice[1]}; weights are made "
                "layer by layer, so give each layer its own."
            )
        if self.trained and self.start != "given":
            raise ConfigurationError(
                f"backbone {self.name!r} comes with trained tasks, so the numbers of its blocks count: "
                "it needs start='given'."
            )

    @classmethod
    def of(
        cls, blocks: Sequence[nn.Module], features: int, name: str = "custom", start: Start = "module"
    ) -> "Backbone":
        """A backbone of the user's own blocks, with a linear head on the flattened output of the last.

        Args:
            blocks: the trunk in order; an `nn.Sequential` is such a sequence.
            features: numbers that the last block gives for an image.
            name: how it is recorded.
            start: as for `Backbone`.
        """
        return cls(
            name,
            tuple(blocks),
            lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(features, classes)),
            start,
        )

    def ordinary(self, block: int, generator: Generator) -> dict[str, Tensor]:
        """New values for every parameter and buffer of a block, by the names it gives them."""
        return _started(self.blocks[block], self.start, generator)

    def new_head(self, classes: int, generator: Generator, hidden: int = 0) -> nn.Module:
        """A head for a task, started like the ordinary weights (a head that came with values keeps none).

        Args:
            classes: how many.
            generator: of its start.
            hidden: units of a layer of its own between the usual head's last inputs and the outputs; 0: none.
        """
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(_draw(generator))
            if hidden:
                layers = self.head(hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes)
                head: nn.Module = nn.Sequential(*layers)
            else:
                head = self.head(classes)
        values = _started(head, "papers" if self.start == "papers" else "module", generator)
        with torch.no_grad():
            for name, tensor in [*head.named_parameters(), *head.named_buffers()]:
                tensor.copy_(values[name])
        return head

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of all that it came with, numbers and known tasks; empty where none count."""
        if self.start != "given":
            return ""
        whole = hashlib.sha256(repr([(t.name, t.classes, t.multi_label) for t in self.trained]).encode())
        modules = [*self.blocks, *(task.head for task in self.trained)]
        for place, module in enumerate(modules):
            for name, tensor in sorted(module.state_dict().items()):
                whole.update(f"{place}/{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
                whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return whole.hexdigest()[:16]


def _held_twice(blocks: Sequence[nn.Module]) -> tuple[str, str] | None:
    """Two places of one parameter, if there are any."""
    names: dict[int, str] = {}
    for block, module in enumerate(blocks):
        for name, parameter in module.named_parameters(f"block {block + 1}: ", remove_duplicate=False):
            place = name.replace(": .", ": ")
            if id(parameter) in names:
                return names[id(parameter)], place
            names[id(parameter)] = place
    return None


def _started(module: nn.Module, start: Start, generator: Generator) -> dict[str, Tensor]:
    tensors = {name: t.detach().clone() for name, t in [*module.named_parameters(), *module.named_buffers()]}
    if start == "given":
        return tensors
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        if start == "papers" and isinstance(layer, nn.Conv2d | nn.Linear):
            tensors[prefix + "weight"] = truncated_normal(tuple(layer.weight.shape), generator)
            if layer.bias is not None:
                tensors[prefix + "bias"] = torch.full_like(tensors[prefix + "bias"], 0.2)
        elif callable(getattr(layer, "reset_parameters", None)):
            tensors |= _reset(layer, prefix, generator)
    return tensors


def _reset(layer: nn.Module, prefix: str, generator: Generator) -> dict[str, Tensor]:
    """What the layer's own `reset_parameters` draws, without disturbing the layer or the global generator."""
    kept = {name: t.detach().clone() for name, t in [*layer.named_parameters(), *layer.named_buffers()]}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.random.default_generator.manual_seed(_draw(generator))
        layer.reset_parameters()  # type: ignore[operator]
        named = [*layer.named_parameters(), *layer.named_buffers()]
        drawn = {prefix + name: t.detach().clone() for name, t in named}
        for name, tensor in named:
            tensor.copy_(kept[name])
    return drawn


def _draw(generator: Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
