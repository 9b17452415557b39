"""A shared trunk whose layers grow, with time stamps, and a part of it cut out for the task in training (DEN).

J. Yoon, E. Yang, J. Lee and S. J. Hwang, "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018, Sec. 3.

    layer l of the trunk:   W_l [units, units below]     new units are appended, so that unit j has the stamp z_j = the
                                                         first task that sees more than j units
    task t sees             W_l[:n_l(t), :n_{l-1}(t)]    the units that were there when it was learned (time stamp)
    the task in training    a dense network of its own, cut out of the trunk: of each layer the selected units alone,
                            and new ones after them; the trunk keeps W^{t-1} until the task is closed

A unit is a unit of a linear layer or a filter of a convolution. Where a layer was flattened, a unit below is as many
inputs as its map has pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.parts import TaskStructure
from everlearn.networks.sites import is_one_layer, key_of, parameter_module, under
from everlearn.networks.units import expanded, layers_of, narrowed
from everlearn.sharing.hard import Hard
from everlearn.sharing.rule import Tensors

Units = tuple[tuple[int, ...], ...]
"""Of the inputs, then of each layer, the units that are meant, in ascending order."""


@dataclass(frozen=True)
class Layer:
    """Weight and bias of one layer.

    Attributes:
        weight: `[units, inputs]`, or `[units, units below, kh, kw]`.
        bias: `[units]`.
    """

    weight: Tensor
    bias: Tensor


class GrowingNetwork(LifelongNetwork):
    """A trunk whose layers grow.

    Args:
        backbone: each block one convolution or linear layer with a bias; a head is one linear layer.
        seed: of every start.
        stamped: whether a task sees only the units that were there when it was learned.

    Raises:
        ConfigurationError: blocks or a head that nothing says how to widen.
    """

    def __init__(self, backbone: Backbone, seed: int, stamped: bool = True) -> None:
        super().__init__(backbone, Hard(), seed)
        self.stamped = stamped
        for block, module in enumerate(backbone.blocks):
            if not is_one_layer(module, self.sites[block]):
                raise ConfigurationError(
                    "a network that grows needs blocks of one convolution or linear layer each, with a bias, no groups "
                    f"and no normalisation, but block {block + 1} of {backbone.name!r} is none; take another backbone."
                )
        shapes = [sites[0].layer for sites in self.sites]
        below = [shapes[0].inputs, *(shape.outputs for shape in shapes)]
        self.each = [shape.inputs // units for shape, units in zip(shapes, below, strict=False)]
        """Of each layer, how many of its inputs one unit below is."""
        with torch.random.fork_rng(devices=[]):
            head = backbone.head(2)
        self.each.append(_only_layer(head, backbone.name).in_features // below[-1])

    # ---------------------------------------------------------------- structure

    def add(self, classes: int) -> int:
        """Make room for a task that sees every unit there is; return its position."""
        widths = self.sizes()
        task = self.rebuild(TaskStructure(classes, (True,) * self.blocks, widths=widths))
        head = self.head_layer(task)
        columns = widths[-1] * self.each[-1]
        self.set_head(task, narrowed(head.weight.detach(), columns), head.bias.detach())
        return task

    def sizes(self) -> tuple[int, ...]:
        """How many units each layer has now."""
        return tuple(len(self.trunk(block).bias) for block in range(self.blocks))

    def units(self, task: int) -> tuple[int, ...]:
        """How many units of each layer a task uses: those it sees, or while it is trained those of its part."""
        structure = self.structures[task]
        if not structure.cut:
            return structure.widths
        extra = self.part(task).extra
        held = [f"{kind}{block}" for block in range(self.blocks) for kind in ("bias", "row_bias")]
        sizes = [len(extra[name]) if name in extra else 0 for name in held]
        return tuple(old + new for old, new in zip(sizes[::2], sizes[1::2], strict=True))

    def stamps(self, block: int) -> list[int]:
        """For each unit of a layer the position of the first task that sees it."""
        seen = [structure.widths[block] for structure in self.structures if not structure.cut]
        return [next(task for task, width in enumerate(seen) if unit < width) for unit in range(self.sizes()[block])]

    def trunk(self, block: int) -> Layer:
        """A layer of the trunk as the last closed task left it: W^{t-1}."""
        found = under(self.sites[block][0].path, dict(self.shared[block].named_parameters()))
        return Layer(found["weight"], found["bias"])

    def head_layer(self, task: int) -> nn.Linear:
        """The linear layer of a task's head."""
        layer = layers_of(self.head(task))[0]
        assert isinstance(layer, nn.Linear)
        return layer

    def set_head(self, task: int, weight: Tensor, bias: Tensor) -> None:
        """Replace the numbers of a head; it then takes as many features as `weight` has columns."""
        layer = self.head_layer(task)
        layer.weight, layer.bias = (nn.Parameter(t.detach().clone()) for t in (weight, bias))
        layer.in_features = weight.shape[1]

    # ---------------------------------------------------------------- the part that is cut out

    @property
    def open_task(self) -> int | None:
        """The task whose part is cut out; None if there is none."""
        return next((task for task, structure in enumerate(self.structures) if structure.cut), None)

    def old(self, task: int, block: int) -> Layer:
        """Of a layer of the trunk, what lies between the units that are cut out for a task: of W^{t-1}."""
        cut, layer = self.structures[task].cut, self.trunk(block)
        rows, columns = self._places(cut, block)
        return Layer(layer.weight.detach()[rows][:, columns], layer.bias.detach()[rows])

    def cut_out(self, task: int, units: Units) -> None:
        """Cut the part of a task out of the trunk.

        Args:
            task: the last one.
            units: of the inputs (channels of a convolution, numbers of a linear layer) and of each layer.
        """
        self.structures[task] = replace(self.structures[task], cut=units)
        self.set_cut(task, [self.old(task, block) for block in range(self.blocks)])

    def cut(self, task: int) -> list[Layer]:
        """The layers that were cut out, new units after the selected ones."""
        extra = self.part(task).extra
        return [Layer(extra[f"weight{block}"], extra[f"bias{block}"]) for block in range(self.blocks)]

    def set_cut(self, task: int, layers: Sequence[Layer], new: Tensors | None = None) -> None:
        """Replace the layers that were cut out.

        Args:
            task: whose.
            layers: their numbers; units beyond those selected are new ones.
            new: what is added to them and held apart, by name: `rows{block}`, `row_bias{block}`, `columns{block}`.
        """
        tensors: Tensors = {}
        for block, layer in enumerate(layers):
            tensors |= {f"weight{block}": layer.weight, f"bias{block}": layer.bias}
        tensors |= new or {}
        part = self.part(task)
        part.extra = nn.ParameterDict()
        for name, tensor in tensors.items():
            plain = tensor.detach().clone(memory_format=torch.contiguous_format)
            part.extra[name] = nn.Parameter(plain.to(self.device))
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.structures[task] = replace(self.structures[task], extra=shapes)

    def close(self, task: int) -> None:
        """Put the part of a task back into the trunk, which grows by its new units; they bear the task's stamp."""
        layers, cut = self.cut(task), self.structures[task].cut
        grown = self._grown(task)
        units = (cut[0], *((*old, *range(a, b)) for old, a, b in zip(cut[1:], self.sizes(), grown, strict=True)))
        for block, layer in enumerate(layers):
            known = self.trunk(block)
            rows, columns = self._places(units, block)
            inputs = known.weight.shape[1] if block == 0 else grown[block - 1] * self.each[block]
            weight = known.weight.new_zeros(grown[block], inputs, *known.weight.shape[2:])
            bias = known.bias.new_zeros(grown[block])
            weight[: known.weight.shape[0], : known.weight.shape[1]] = known.weight.detach()
            bias[: len(known.bias)] = known.bias.detach()
            weight[rows[:, None], columns], bias[rows] = layer.weight.detach(), layer.bias.detach()
            path = self.sites[block][0].path
            self.shared[block] = parameter_module({key_of(path, "weight"): weight, key_of(path, "bias"): bias})
        self._close_heads(task, units[-1], grown[-1])
        self.part(task).extra = nn.ParameterDict()
        closed = replace(self.structures[task], widths=grown, cut=(), extra={})
        self.structures[task] = closed
        if not self.stamped:
            self.structures = [replace(one, widths=grown) for one in self.structures]

    def _grown(self, task: int) -> tuple[int, ...]:
        """How many units each layer will have when the task is closed."""
        cut, layers = self.structures[task].cut[1:], self.cut(task)
        return tuple(
            size + len(layer.bias) - len(units) for size, layer, units in zip(self.sizes(), layers, cut, strict=True)
        )

    def _close_heads(self, task: int, top: Sequence[int], size: int) -> None:
        """The task's head takes every unit, most by zeros; without time stamps all other heads do as well."""
        head = self.head_layer(task)
        weight = head.weight.new_zeros(len(head.weight), size * self.each[-1])
        weight[:, expanded(top, self.each[-1]).to(weight.device)] = head.weight.detach()
        self.set_head(task, weight, head.bias)
        for other in range(task) if not self.stamped else ():
            known = self.head_layer(other)
            self.set_head(other, narrowed(known.weight.detach(), size * self.each[-1]), known.bias)

    def _places(self, units: Units, block: int) -> tuple[Tensor, Tensor]:
        """Of a layer's weight, the rows of the units, and the columns of those below."""
        rows, columns = torch.tensor(units[block + 1], dtype=torch.int64), expanded(units[block], self.each[block])
        return rows.to(self.device), columns.to(self.device)

    # ---------------------------------------------------------------- the function

    def features(self, images: Tensor, task: int) -> Tensor:
        cut = self.structures[task].cut
        if cut and len(cut[0]) < self.sites[0][0].layer.inputs:
            if self.sites[0][0].layer.kernel is None:
                images = images.flatten(1)[:, :, None, None]  # an input is a pixel of a channel
            images = images.index_select(1, _on(images.device, cut[0]))
        return super().features(images, task)

    def weights(self, block: int, task: int, transfer: bool | None = None) -> Tensors:
        structure = self.structures[task]
        layer = self._assembled(block, task) if structure.cut else self._stamped(block, task)
        return self.sites[block][0].prefixed({"weight": layer.weight, "bias": layer.bias})

    def _assembled(self, block: int, task: int) -> Layer:
        """A layer that is cut out, with what is added to it and held apart."""
        extra = self.part(task).extra
        weight, bias = extra[f"weight{block}"], extra[f"bias{block}"]
        if f"columns{block}" in extra:
            weight = torch.cat([weight, extra[f"columns{block}"]], 1)
        if f"rows{block}" in extra:
            weight = torch.cat([weight, extra[f"rows{block}"]])
            bias = torch.cat([bias, extra[f"row_bias{block}"]])
        return Layer(weight, bias)

    def _stamped(self, block: int, task: int) -> Layer:
        """What a task sees of a layer: the units that were there, as they are now."""
        layer = self._overlaid(block)
        widths = self.structures[task].widths
        rows = widths[block]
        columns = layer.weight.shape[1] if block == 0 else widths[block - 1] * self.each[block]
        if layer.weight.shape[:2] == (rows, columns):
            return layer
        # A copy lies as it lay before the layer grew, so that sums come out the same to the last bit.
        return Layer(layer.weight[:rows, :columns].contiguous(), layer.bias[:rows].contiguous())

    def _overlaid(self, block: int) -> Layer:
        """A layer of the trunk, with what the task in training has made of its units so far."""
        task, known = self.open_task, self.trunk(block)
        if task is None:
            return known
        rows, columns = self._places(self.structures[task].cut, block)
        mine = self.cut(task)[block]
        weight, bias = known.weight.detach().clone(), known.bias.detach().clone()
        weight[rows[:, None], columns] = mine.weight.detach()[: len(rows), : len(columns)]
        bias[rows] = mine.bias.detach()[: len(rows)]
        return Layer(weight, bias)

    def used(self, task: int) -> dict[str, nn.Parameter]:
        found, other = super().used(task), self.open_task
        if other is not None and other != task:
            extra = self.part(other).extra
            names = [f"{kind}{block}" for block in range(self.blocks) for kind in ("weight", "bias")]
            found |= {f"tasks.{other}.extra.{name}": extra[name] for name in names}
        return found


def _only_layer(head: nn.Module, name: str) -> nn.Linear:
    """The linear layer that is all that a head learns or keeps, or `ConfigurationError`."""
    layers = layers_of(head)
    numbers = sum(tensor.numel() for tensor in (*head.parameters(), *head.buffers()))
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        raise ConfigurationError(
            f"a network that grows needs heads of one linear layer, but that of {name!r} has {len(layers)}."
        )
    if numbers != sum(tensor.numel() for tensor in layers[0].parameters()):
        raise ConfigurationError(
            f"a network that grows needs heads that learn nothing but one linear layer, but that of {name!r} "
            "normalises or learns more; take another backbone."
        )
    return layers[0]


@lru_cache(maxsize=64)
def _on(device: torch.device, units: tuple[int, ...]) -> Tensor:
    """Positions on the device; brought there once, since a recorded step cannot wait for them."""
    return torch.tensor(units, device=device)
