"""Networks whose weights are a sum: what all tasks share, what a group of tasks shares, and what is a task's own.

    theta_t = sigma * sigmoid(v_t) + sigma_g(t) + tau_t          for each layer

J. Yoon, S. Kim, E. Yang and S. J. Hwang, "Scalable and Order-robust Continual Learning with Additive Parameter
Decomposition", ICLR 2020, Sec. 3. sigma is shared, v_t has a number for each output, tau_t is the task's own and
sparse; sigma_g is of the group g(t) of tasks that a task belongs to in a layer, if it belongs to one.

A group's numbers lie with its first task, under a name that says who belongs to it ("local3_0+2+4": tasks 0, 2 and 4,
layer 3). So a checkpoint, which knows of each task which tensors were added, knows the groups as well.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.sites import key_of
from everlearn.sharing.initialisers import truncated_normal
from everlearn.sharing.rule import LayerShape, SharingRule, Tensors

CUT = 0.8796
"""The deviation of a standard normal that is cut at two; TensorFlow's variance scaling makes up for it."""


@dataclass(frozen=True)
class Decomposed(SharingRule):
    """W_t = sigma * sigmoid(v_t) + sigma_g + tau_t, with sigma shared; the bias, and what else a block holds, is own.

    sigma is `weight`, v_t `mask` `[outputs]`, tau_t `addition` and sigma_g `local`, both of the weight's shape; the
    last may be missing. v_t starts from the cut normal of variance 1 / outputs, the authors' variance scaling; tau_t
    at zero.
    """

    name: ClassVar[str] = "decomposed"

    def shared(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        return {"weight": ordinary["weight"]}

    def own(self, layer: LayerShape, ordinary: Tensors, generator: Generator) -> Tensors:
        weight = ordinary["weight"]
        mask = truncated_normal((layer.outputs,), generator, 1 / (CUT * math.sqrt(layer.outputs)), weight.dtype)
        rest = {name: tensor for name, tensor in ordinary.items() if name != "weight"}
        return {"mask": mask, "addition": torch.zeros_like(weight), **rest}

    def weights(self, layer: LayerShape, shared: Tensors, own: Tensors, task: int) -> Tensors:
        weight = adapted(shared["weight"], own["mask"], own["addition"])
        made = {"weight": weight + own["local"] if "local" in own else weight}
        return {**made, "bias": own["bias"]} if "bias" in own else made

    def counts(self, layer: LayerShape) -> tuple[int, int]:
        """The weight; and the mask, the weight again, and the bias."""
        weight = math.prod(layer.weight_shape)
        return weight, layer.outputs + weight + layer.biases


def adapted(sigma: Tensor, mask: Tensor, tau: Tensor) -> Tensor:
    """sigma * sigmoid(v) + tau, of one task or of several.

    Args:
        sigma: `[outputs, ...]`.
        mask: v, `[outputs]` or `[tasks, outputs]`.
        tau: of sigma's shape, or `[tasks, outputs, ...]`.
    """
    return sigma * mask.sigmoid().view(*mask.shape, *[1] * (sigma.ndim - 1)) + tau


class AdditiveNetwork(LifelongNetwork):
    """A network of decomposed layers, some of whose numbers groups of tasks share.

    Layers are the convolutions and linear layers of the trunk, counted from the image.

    Args:
        backbone: blocks and head.
        seed: of every start.
    """

    def __init__(self, backbone: Backbone, seed: int) -> None:
        super().__init__(backbone, Decomposed(), seed)
        self.places = [(block, site) for block, sites in enumerate(self.sites) for site in sites]

    def add(self, classes: int) -> int:
        """Make room for a new task, all of whose blocks are decomposed; return its position."""
        return self.add_task(classes, (True,) * self.blocks)

    # ---------------------------------------------------------------- a layer's tensors

    @property
    def layers(self) -> int:
        """How many layers the trunk has."""
        return len(self.places)

    def name(self, task: int, layer: int, what: str) -> str:
        """The name of a task's `addition` or `mask` among the network's parameters."""
        block, site = self.places[layer]
        return f"tasks.{task}.own.{block}.{key_of(site.path, what)}"

    def sigma(self, layer: int) -> nn.Parameter:
        """What all tasks share of a layer, of its weight's shape."""
        block, site = self.places[layer]
        return self.shared[block].get_parameter(key_of(site.path, "weight"))

    def tau(self, task: int, layer: int) -> nn.Parameter:
        """What a task has for itself, of the weight's shape."""
        return self.get_parameter(self.name(task, layer, "addition"))

    def mask(self, task: int, layer: int) -> nn.Parameter:
        """v, whose sigmoid is the task's mask, `[outputs]`."""
        return self.get_parameter(self.name(task, layer, "mask"))

    def local(self, task: int, layer: int) -> nn.Parameter | None:
        """sigma_g of the group that a task belongs to, of the weight's shape; None if it belongs to none."""
        found = [name for members, name in self.groups(layer).items() if task in members]
        return self.get_parameter(found[0]) if found else None

    # ---------------------------------------------------------------- groups

    def groups(self, layer: int) -> dict[tuple[int, ...], str]:
        """The groups of a layer: their tasks in order, and the name of what they share."""
        start, found = f"local{layer}_", dict[tuple[int, ...], str]()
        for task, structure in enumerate(self.structures):
            for name in structure.extra:
                if name.startswith(start):
                    members = tuple(int(number) for number in name.removeprefix(start).split("+"))
                    found[members] = f"tasks.{task}.extra.{name}"
        return found

    def regroup(self, layer: int, groups: Mapping[tuple[int, ...], Tensor]) -> None:
        """Replace the groups of a layer.

        Args:
            layer: which.
            groups: what each group shares, of the weight's shape, by its tasks in order.
        """
        start = f"local{layer}_"
        for task, known in enumerate(self.structures):
            for name in [name for name in known.extra if name.startswith(start)]:
                del self.part(task).extra[name]
            kept = {name: shape for name, shape in known.extra.items() if not name.startswith(start)}
            self.structures[task] = replace(known, extra=kept)
        for members, tensor in groups.items():
            name, first = start + "+".join(str(task) for task in members), members[0]
            held = tensor.detach().clone(memory_format=torch.contiguous_format).to(self.device)
            self.part(first).extra[name] = nn.Parameter(held, requires_grad=False)
            known = self.structures[first]
            self.structures[first] = replace(known, extra={**known.extra, name: tuple(tensor.shape)})
        self._plans.clear()

    def used(self, task: int) -> dict[str, nn.Parameter]:
        found = super().used(task)
        for layer in range(self.layers):
            for members, name in self.groups(layer).items():
                if task in members:
                    found[name] = self.get_parameter(name)
        return found

    def _tensors(self, block: int, task: int, transfer: bool) -> tuple[Tensors, Tensors, Tensors]:
        shared, own, statistics = super()._tensors(block, task, transfer)
        for layer, (where, site) in enumerate(self.places):
            local = self.local(task, layer) if where == block else None
            if local is not None:
                own[key_of(site.path, "local")] = local
        return shared, own, statistics

    # ---------------------------------------------------------------- how much is in use

    def nonzero(self) -> dict[str, tuple[int, ...]]:
        """Of each block, how many numbers are not zero: of sigma (`shared`), of all groups' (`local`), of all tau
        (`own`)."""
        found = {kind: [0] * self.blocks for kind in ("shared", "local", "own")}
        for layer, (block, _) in enumerate(self.places):
            found["shared"][block] += int(self.sigma(layer).count_nonzero())
            for name in self.groups(layer).values():
                found["local"][block] += int(self.get_parameter(name).count_nonzero())
            for task in range(len(self.tasks)):
                found["own"][block] += int(self.tau(task, layer).count_nonzero())
        return {kind: tuple(numbers) for kind, numbers in found.items()}

    def capacity(self) -> float:
        """All numbers that are not zero, those of heads too, as a share of what one trunk with all heads holds.

        `counts` says how many numbers are held, and a tensor of zeros holds as many as any other; this is the
        capacity that Yoon et al. report.
        """
        heads = self.counts()["head"]
        trunk = sum(p.numel() for block in self.backbone.blocks for p in block.parameters())
        return sum(int(p.count_nonzero()) for p in self.parameters()) / (trunk + heads)
