"""A trunk whose top layers get more nodes with every new task (network expansion).

Li and Hoiem 2016, Sec. 4.2 and Fig. 6(b); the start of new nodes: Chen et al., "Net2Net", ICLR 2016, Sec. 2.3.

    a widened layer after task e:   [ W    Z_e ]      W    what there was: rows are nodes, columns their inputs
                                    [    N_e   ]      N_e  the new nodes, from all nodes of the layer below
                                                      Z_e  from the new nodes of the layer below to what there was

N_e starts as Net2Net widens: each new node copies a node of its layer that is drawn at random, and what it takes from
a node below that was copied c - 1 times is divided among the c. Z_e starts at zero. Without Z_e (`whole=False`) earlier
tasks never see the new nodes, and are left as they were to the last bit.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.sites import is_one_layer
from everlearn.seeds import generator
from everlearn.sharing.hard import Hard
from everlearn.sharing.rule import Tensors


class ExpandedNetwork(LifelongNetwork):
    """One shared trunk whose top blocks grow.

    Args:
        backbone: blocks and head.
        seed: of every start.
        layers: how many blocks grow, counted from the head.
        whole: whether earlier tasks come to use the new nodes as well.

    Raises:
        ConfigurationError: a block that should grow is no single layer, or there are not so many.
    """

    def __init__(self, backbone: Backbone, seed: int, layers: int, whole: bool) -> None:
        super().__init__(backbone, Hard(), seed)
        if not 1 <= layers <= self.blocks:
            raise ConfigurationError(
                f"layers needs a whole number from 1 to {self.blocks}, the blocks of {backbone.name!r}; it is {layers}."
            )
        self.first, self.whole = self.blocks - layers, whole
        for block in range(self.first, self.blocks):
            if not is_one_layer(backbone.blocks[block], self.sites[block]):
                what = "more" if self.sites[block] else "none"
                raise ConfigurationError(
                    f"network expansion widens blocks of one layer with a bias and no groups, but block {block + 1} of "
                    f"{backbone.name!r} is {what}; give fewer layers, or another backbone."
                )

    def expand(self, task: int, nodes: int) -> None:
        """Add nodes for a task that has just been added."""
        random = generator(self.seed, "expansion", task)
        below: _Copied | None = None
        extra: dict[str, Tensor] = {}
        for block in range(self.first, self.blocks):
            layer = self.sites[block][0].pick(self.weights(block, task))
            weight, bias = layer["weight"].detach(), layer["bias"].detach()
            chosen = torch.randint(len(weight), (nodes,), generator=random).to(weight.device)
            extra[f"rows{block}"], extra[f"bias{block}"] = weight[chosen], bias[chosen]
            if below is not None:
                extra[f"rows{block}"] = below.shared_out(weight[chosen])
                if self.whole:
                    each = weight.shape[1] // below.total
                    extra[f"columns{block}"] = weight.new_zeros(len(weight), nodes * each, *weight.shape[2:])
            below = _Copied(chosen, len(weight))
        assert below is not None
        for name, tensor in extra.items():
            self.part(task).extra[name] = nn.Parameter(tensor.clone(memory_format=torch.contiguous_format))
        shapes = {name: tuple(tensor.shape) for name, tensor in extra.items()}
        self.structures[task] = replace(self.structures[task], extra=shapes)
        self._plans.clear()
        self._widen_heads(task, nodes, below.total)

    def _widen_heads(self, task: int, nodes: int, total: int) -> None:
        """The new head takes all nodes, its weights from new ones being random; old heads zeros, if they see them."""
        for one in range(task + 1) if self.whole else (task,):
            first = first_layer(self.head(one))
            each = self._features() // self._original()
            columns = (total + nodes) * each - first.weight.shape[1]
            if one == task:
                drawn: list[Tensor] = []
                while sum(part.shape[1] for part in drawn) < columns:
                    random = generator(self.seed, "expansion", task, "head", len(drawn))
                    head = self.backbone.new_head(self.structures[task].classes, random)
                    drawn.append(first_layer(head).weight.detach().to(first.weight.device))
                added = torch.cat(drawn, 1)[:, :columns]
            else:
                added = first.weight.new_zeros(len(first.weight), columns)
            first.weight = nn.Parameter(torch.cat([first.weight.detach(), added], 1))

    def _original(self) -> int:
        return self.sites[-1][0].layer.outputs

    def _features(self) -> int:
        """Inputs of a head before anything was widened."""
        with torch.random.fork_rng(devices=[]):
            return first_layer(self.backbone.head(2)).weight.shape[1]

    def weights(self, block: int, task: int, transfer: bool | None = None) -> Tensors:
        weights = super().weights(block, task, transfer)
        if block < self.first:
            return weights
        site = self.sites[block][0]
        layer = site.pick(weights)
        weight, bias = layer["weight"], layer["bias"]
        for one in range(len(self.tasks) if self.whole else task + 1):
            extra = self.part(one).extra
            if f"rows{block}" not in extra:
                continue
            rows = extra[f"rows{block}"]
            if rows.shape[1] > weight.shape[1]:
                zeros = weight.new_zeros(len(weight), rows.shape[1] - weight.shape[1], *weight.shape[2:])
                weight = torch.cat([weight, extra.get(f"columns{block}", zeros)], 1)
            weight, bias = torch.cat([weight, rows]), torch.cat([bias, extra[f"bias{block}"]])
        return {**weights, **site.prefixed({"weight": weight, "bias": bias})}

    def used(self, task: int) -> dict[str, nn.Parameter]:
        found = super().used(task)
        for one in range(len(self.tasks) if self.whole else task):
            found |= dict(self.part(one).extra.named_parameters(f"tasks.{one}.extra"))
        return found


@dataclass(frozen=True)
class _Copied:
    """Which nodes of a layer its new nodes copy, and how many nodes it had before."""

    chosen: Tensor
    total: int

    def shared_out(self, rows: Tensor) -> Tensor:
        """Weights from the old nodes below, shared out among them and the copies of them, `[k, inputs, ...]`."""
        each = rows.shape[1] // self.total  # a node below is so many inputs (the pixels of a map that was flattened)
        counts = 1 + torch.bincount(self.chosen, minlength=self.total)
        nodes = rows.unflatten(1, (self.total, each))
        nodes = nodes / counts.view(1, -1, *(1,) * (nodes.ndim - 2)).to(rows.dtype)
        return torch.cat([nodes, nodes[:, self.chosen]], 1).flatten(1, 2)


def first_layer(head: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer of a head that takes the trunk's features."""
    return next(layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
